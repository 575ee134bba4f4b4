"""Embeddings of tokens to which others listen: they hear documents, and not the pack."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from .classes import mix
from .gradients import is_ours
from .layout import running

# T tokens in the pack, C channels


class HeardByDocument(nn.Module):
    """Embeddings to which a hook may do what depends on a text's length, as NEFTune's noise does (Jain et al. 2023).

    In training a hook is called with the documents of one length at a time, (documents, length, C), so that what it
    reads off the sizes is each document's own.
    """

    def __call__(self, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        layout = running()
        if layout is None or not self.training or not _is_heard(self):
            return super().__call__(input, *args, **kwargs)
        counts = [(length, len([*same])) for length, same in groupby(layout.lengths)]
        if input.shape != (1, sum(layout.lengths)):
            return super().__call__(input, *args, **kwargs)
        parts = input[0].split([length * count for length, count in counts])
        heard = [
            super(HeardByDocument, self).__call__(part.view(count, length), *args, **kwargs).flatten(0, 1)
            for part, (length, count) in zip(parts, counts, strict=True)
        ]
        return torch.cat(heard)[None]


def hear_by_document(model: Any) -> None:
    """Let those who listen to a model's embeddings of tokens hear documents; they may have come at any time."""
    base = model.base_model
    owners: list[Any] = [model, getattr(base, "encoder", None), getattr(base, "decoder", None)]
    for owner in owners:
        if hasattr(owner, "get_input_embeddings"):
            embeddings = owner.get_input_embeddings()
            if _is_heard(embeddings):
                mix(embeddings, HeardByDocument)


def _is_heard(module: nn.Module) -> bool:
    hooks = module._forward_hooks.values()
    return "forward" in vars(module) or any(not (is_ours(hook) or _asks_for_gradient(hook)) for hook in hooks)


def _asks_for_gradient(hook: Any) -> bool:
    """Whether a hook is the one of transformers' or peft's for checkpointed layers, which reads no size.

    Documents of one length at a time would give the embeddings' gradient in another order, and so other bits.
    """
    return getattr(hook, "__name__", "").startswith("make_inputs_require_grad")
