"""Losses of heads whose stock loss would mix documents once they lie end to end."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# N documents, S tokens of the longest, C choices

_OUTSIDE = -100


def span(
    start_logits: Tensor,
    end_logits: Tensor,
    start_positions: Tensor,
    end_positions: Tensor,
    num_items: Tensor | int | None = None,
) -> Tensor:
    """Question answering: softmax over each document's own tokens, the mean of start and end.

    `start_logits`, `end_logits` (N, S) with hidden slots at the smallest float; positions (N,), those outside the
    document are ignored. A stock padded model also spreads probability over padding slots, so its loss depends on
    them. Where `num_items` is given, sums are divided by it, and not by the number of documents.
    """
    reduction, share = ("mean", 1) if num_items is None else ("sum", num_items)
    losses = [
        F.cross_entropy(
            logits, _inside(positions.view(-1), logits), ignore_index=_OUTSIDE, reduction=reduction
        )
        / share
        for logits, positions in ((start_logits, start_positions), (end_logits, end_positions))
    ]
    return (losses[0] + losses[1]) / 2


def _inside(positions: Tensor, logits: Tensor) -> Tensor:
    """Positions (N,), `_OUTSIDE` where they point at no token; below 0 counts as 0, as in stock models."""
    slots = positions.clamp(0, logits.shape[1] - 1)
    is_token = logits.gather(1, slots[:, None])[:, 0] > hidden_score(logits.dtype)
    return slots.where(is_token & (positions < logits.shape[1]), _OUTSIDE)


def choice(logits: Tensor, labels: Tensor) -> Tensor:
    """Multiple choice: cross entropy over (N, C)."""
    return F.cross_entropy(logits, labels.view(-1))


def next_token_labels(labels: Tensor, first_tokens: Tensor) -> Tensor:
    """Labels (1, T) with each document's first token unscored: no document predicts the start of the next."""
    return labels.index_fill(1, first_tokens, -100)


def hidden_score(dtype: torch.dtype) -> float:
    """What a padding slot scores where rows are compared by softmax or argmax."""
    return torch.finfo(dtype).min
