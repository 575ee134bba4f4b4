"""Masks that depend on content: of the keys that a mask lets a query read, each head keeps those with high scores."""

# Tq queries, Tk keys, H and Hk heads, D head width, K keys that a block of queries may read

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..masks import Mask
from .blockwise import attend_blocks, visible
from .tiles import Tiles


class Selection:
    """Which keys are kept, by their scores."""

    def keeps(self, scores: Tensor) -> Tensor:
        """Bool (..., K) from scores (..., K), which are -inf where a key may not be read; what is there is ignored."""
        raise NotImplementedError


@dataclass(frozen=True)
class TopkKeys(Selection):
    """See `topk_keys()`."""

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"topk_keys: k is {self.k}; it must be 1 or more")

    def keeps(self, scores: Tensor) -> Tensor:
        """The k highest; of those equal to the k-th, the first."""
        last = scores.topk(min(self.k, scores.shape[-1])).values[..., -1:]
        above, equal = scores > last, scores == last
        room = self.k - above.sum(-1, keepdim=True)
        return above | equal & (equal.cumsum(-1) <= room)


@dataclass(frozen=True)
class Threshold(Selection):
    """See `threshold()`."""

    p: float

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"threshold: p is {self.p}; an attention weight lies between 0 and 1")

    def keeps(self, scores: Tensor) -> Tensor:
        """Those of a weight of at least p; none where no key may be read."""
        return torch.softmax(scores, -1) >= self.p


def topk_keys(k: int) -> Selection:
    """Keep the k keys with the highest scores; of equal ones, those that come first. Gupta et al. 2021.

    >>> topk_keys(2).keeps(torch.tensor([1.0, 3.0, 1.0, 0.0])).tolist()
    [True, True, False, False]
    """
    return TopkKeys(k)


def threshold(p: float) -> Selection:
    """Keep the keys whose attention weight is p or more, before the kept ones are made to sum to 1 again.

    Where no weight reaches p, nothing is kept and the output is 0; with n keys and p <= 1/n there is always one.

    >>> threshold(0.3).keeps(torch.tensor([1.0, 1.0, -9.0])).tolist()
    [True, True, False]
    """
    return Threshold(p)


def adaptive_attention(
    q: Tensor,  # (Tq, H, D)
    k: Tensor,  # (Tk, Hk, D), H a multiple of Hk
    v: Tensor,  # (Tk, Hk, D)
    mask: Mask,
    select: Selection,
    *,
    scale: float | None = None,
) -> Tensor:  # (Tq, H, D)
    """softmax(q kᵀ · scale) v over those keys that `mask` lets a query read and `select` then keeps, for each head.

    Every visible score is computed, a block of queries at a time, and those that are not kept are left out of softmax.
    Gradients flow through kept weights alone; which are kept has none. A query for which nothing is kept gives 0.

    Raises ValueError for shapes that do not fit, and Unsupported where the tensors are not on a CPU.

    >>> from yanma.masks import causal
    >>> q = k = v = torch.eye(3).view(3, 1, 3)
    >>> adaptive_attention(q, k, v, causal(), topk_keys(1))[:, 0].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if not isinstance(select, Selection):
        raise TypeError(f"select is a {type(select).__name__}; give topk_keys(k) or threshold(p)")

    def weigh(scores: Tensor, tiles: Tiles) -> Tensor:
        seen = visible(tiles)
        with torch.no_grad():
            found = scores if seen is None else scores.masked_fill(~seen, -torch.inf)
            kept = select.keeps(found) if seen is None else select.keeps(found) & seen
            nothing = ~kept.any(-1, keepdim=True)
        return scores.masked_fill(~(kept | nothing), -torch.inf).softmax(-1).masked_fill(nothing, 0)

    return attend_blocks(q, k, v, mask, scale, weigh)
