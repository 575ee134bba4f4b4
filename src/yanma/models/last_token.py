"""A decoder's `*ForSequenceClassification`: documents are judged by their last token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .layout import Layout, running

# T tokens in the pack, N documents


def classify(model: Any, labels: Tensor | None = None, **kwargs: Any) -> Any:
    """What the stock forward gives for documents one at a time, of their flat arguments (1, T, ...).

    The stock forward looks for the last token of a row, which here would be that of the last document.
    """
    from transformers.modeling_outputs import SequenceClassifierOutputWithPast

    layout, config = running(), model.config
    assert layout is not None
    output = getattr(model, model.base_model_prefix)(**kwargs)
    last = last_tokens(layout, kwargs.get("input_ids"), config.pad_token_id)
    logits = model.score(output.last_hidden_state[:, last])[0]
    loss = None
    if labels is not None:
        loss = model.loss_function(logits=logits, labels=labels, pooled_logits=logits, config=config)
    return SequenceClassifierOutputWithPast(loss=loss, logits=logits, hidden_states=output.hidden_states)


def last_tokens(layout: Layout, input_ids: Tensor | None, pad_token_id: int | None) -> Tensor:
    """(N,) int64: the index of each document's last token that is not the padding id; its first where all are.

    Documents may end with the padding id: where it also ends texts, the stock model looks at the token before it.
    """
    index = torch.arange(len(layout.documents), device=layout.device)
    if input_ids is not None and pad_token_id is not None:
        index = index.where(input_ids[0] != pad_token_id, 0)
    return layout.first_tokens.scatter_reduce(0, layout.documents, index, "amax")
