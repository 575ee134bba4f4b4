"""What looks like masking and is none, for docs/masking-explained.md. Nothing in yanma computes with it."""

from __future__ import annotations

import torch
from torch import Tensor

# Tq queries, Tk keys, H heads, D head width


def multiplicative(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float | None = None) -> Tensor:
    """WRONG: softmax(scores * mask), as many texts write it. (Tq, H, D) from q (Tq, H, D), k and v (Tk, H, D).

    A score times 0 is 0, and exp(0) = 1: a hidden key keeps weight, more than any key whose score is negative.
    `seen` is bool (Tq, Tk), True = may read. With queries of zeros every score is 0, hidden or not:

    >>> q, k = torch.zeros(1, 1, 1), torch.zeros(2, 1, 1)
    >>> v = torch.tensor([1.0, 5.0]).view(2, 1, 1)
    >>> multiplicative(q, k, v, torch.tensor([[True, False]])).item()  # should be 1, that of the visible key
    3.0
    """
    scores = torch.einsum("qhd,khd->hqk", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return torch.einsum("hqk,khd->qhd", torch.softmax(scores * seen, -1), v)
