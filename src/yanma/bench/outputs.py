"""What is compared: one output a text, from a padded rectangle or from a pack, float32 on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..models.known import recognise

# B texts of a batch, S slots of a padded row, T tokens of a pack, H hidden width, C classes

Kind = Literal["embedding", "logits", "token logits"]
"""The mean of the last hidden states (H,), the text's logits (C,), or its tokens' logits (tokens, C)."""


def kind_of(model: nn.Module) -> Kind:
    """What a model gives for a text; Unsupported for families that `unpad` does not know."""
    _, head = recognise(model)
    if "logits" in head.document_outputs:
        return "logits"
    return "embedding" if "last_hidden_state" in head.token_outputs else "token logits"


def of_rows(kind: Kind, output: Any, valid: Tensor) -> list[Tensor]:
    """Of what a stock model gives for a rectangle; valid (B, S)."""
    if kind == "embedding":
        return list(_on_host(mean_of_rows(output.last_hidden_state, valid)).unbind())
    logits = _on_host(output.logits)
    if kind == "logits":
        return list(logits.unbind())
    return [row[:length] for row, length in zip(logits, valid.sum(1).tolist(), strict=True)]


def of_pack(kind: Kind, logits: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """Of what an unpadded model gives for a pack: logits (B, C) or (T, C), or its last hidden states (T, H)."""
    if kind == "embedding":
        return list(_on_host(mean_of_pack(logits, lengths)).unbind())
    return list(_on_host(logits).unbind() if kind == "logits" else _on_host(logits).split(list(lengths)))


def mean_of_rows(hidden: Tensor, valid: Tensor) -> Tensor:
    """hidden (B, S, H), valid (B, S): the mean over each row's tokens (B, H), in float32 or float64.

    Products with 0 are harmless here: padding is finite, and the sum is divided by the count of tokens.
    """
    hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
    weights = valid[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def mean_of_pack(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
    """hidden (T, H) of documents end to end: the mean of each (B, H), in float32.

    >>> mean_of_pack(torch.tensor([[1.0], [3.0], [5.0]]), (2, 1)).tolist()
    [[2.0], [5.0]]
    """
    counts = torch.tensor(lengths, device=hidden.device)
    owners = torch.repeat_interleave(torch.arange(len(lengths), device=hidden.device), counts)
    sums = torch.zeros(len(lengths), hidden.shape[1], device=hidden.device).index_add_(
        0, owners, hidden.float()
    )
    return sums / counts[:, None]


def _on_host(output: Tensor) -> Tensor:
    return output.to("cpu", output.dtype if output.dtype == torch.float64 else torch.float32)
