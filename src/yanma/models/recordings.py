"""Modules of a speech model: convolutions over one recording at a time, and the loss of transcripts."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import pad_sequence

from .layout import running

# M samples of recordings that lie end to end, T their frames, C channels

_ONE_AT_A_TIME = Lock()
"""torch keeps normed weights in one place for all threads: one without gradients would hand its own to another."""


class EachRecording(nn.Module):
    """A feature encoder that reads one recording at a time, in any company the same.

    Its norm may be over time: one over a padded row would count the padding.
    """

    def forward(self, input_values: Tensor) -> Any:  # (1, M) -> (1, C, T)
        layout = running()
        if layout is None:
            return super().forward(input_values)
        return torch.cat(
            [super(EachRecording, self).forward(own) for own in input_values.split(layout.samples, 1)], 2
        )


class EachRecordingsFrames(nn.Module):
    """An embedding of positions by a convolution over frames, which sees zeros before and behind each recording."""

    def forward(self, hidden_states: Tensor) -> Any:  # (1, T, C)
        layout = running()
        if layout is None:
            return super().forward(hidden_states)
        with _ONE_AT_A_TIME, parametrize.cached():  # its weight is normed once, not for each recording
            parts = [
                super(EachRecordingsFrames, self).forward(own)
                for own in hidden_states.split(layout.lengths, 1)
            ]
        return torch.cat(parts, 1)


def transcribing(stock: Callable[..., Any]) -> Callable[..., Any]:
    """The forward of a model for transcripts, whose CTC loss (Graves et al. 2006) takes each recording by itself."""

    def forward(model: Any, labels: Tensor | None = None, **kwargs: Any) -> Any:
        layout, config = running(), model.config
        assert layout is not None
        output = stock(model, **kwargs)
        if labels is None:
            return output
        if int(labels.max()) >= config.vocab_size:
            raise ValueError(
                f"labels has {int(labels.max())}; this model's vocabulary has {config.vocab_size} entries"
            )
        loss = model.loss_function(
            logits=pad_sequence(output.logits[0].split(layout.lengths), batch_first=True),
            labels=labels,
            logit_lengths=torch.tensor(layout.lengths, device=layout.device),
            blank_token_id=config.pad_token_id,
            reduction=config.ctc_loss_reduction,
            zero_infinity=config.ctc_zero_infinity,
        )
        return type(output)(loss=loss, **output)

    return forward
