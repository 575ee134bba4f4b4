"""Attention whose scores are bent by a hyperbolic tangent before softmax, as Gemma 2 does."""

from __future__ import annotations

import torch
from torch import Tensor

from ..masks import Mask
from .blockwise import attend_blocks, visible
from .tiles import Tiles


def soft_capped_attention(
    q: Tensor,  # (Tq, H, D)
    k: Tensor,  # (Tk, Hk, D), H a multiple of Hk
    v: Tensor,  # (Tk, Hk, D)
    mask: Mask,
    cap: float,
    *,
    scale: float | None = None,
) -> Tensor:  # (Tq, H, D)
    """softmax(cap · tanh(q kᵀ · scale / cap)) v over the keys that `mask` lets each query read; no score exceeds `cap`.

    Raises ValueError for shapes that do not fit, and Unsupported where the tensors are not on a CPU.

    >>> from yanma.masks import causal
    >>> q = k = v = torch.eye(2).view(2, 1, 2)
    >>> soft_capped_attention(1000 * q, k, v, causal(), cap=1.0)[1, 0]
    tensor([0.2689, 0.7311])
    """

    def weigh(scores: Tensor, tiles: Tiles) -> Tensor:
        bent, seen = cap * torch.tanh(scores / cap), visible(tiles)
        if seen is None:
            return bent.softmax(-1)
        nothing = ~seen.any(-1, keepdim=True)
        return bent.masked_fill(~(seen | nothing), -torch.inf).softmax(-1).masked_fill(nothing, 0)

    return attend_blocks(q, k, v, mask, scale, weigh)
