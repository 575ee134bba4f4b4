"""Adaptive attention span: each head learns how far it reads. Sukhbaatar et al. 2019, equations 3 and 4."""

# T tokens, H and Hk heads, D head width, B, R, K as in blockwise.py

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import Unsupported
from ..masks import Mask, Window
from .blockwise import attend_blocks, visible
from .tiles import Tiles


class AdaptiveSpan(nn.Module):
    """Attention with a soft window of z tokens, learned for each head.

    A key at distance x of its query has its share of softmax, exp(score), multiplied by clamp((ramp + z - x) / ramp,
    0, 1): 1 up to z, then falling to 0 at z + ramp. Distances are those within a document. Beyond the largest
    z + ramp of all heads nothing is computed. `causal`: what stands after the query is not read.

    >>> from yanma.masks import documents
    >>> attend = AdaptiveSpan(num_heads=2, max_span=100, ramp=8, init=2)
    >>> q = k = v = torch.ones(5, 2, 4)
    >>> attend(q, k, v, documents([3, 2])).shape, attend.window()
    (torch.Size([5, 2, 4]), window(9, 0))
    """

    def __init__(
        self, num_heads: int, max_span: int, *, ramp: int = 32, init: float = 0.0, causal: bool = True
    ) -> None:
        """`max_span` bounds z, and `init` is z at first, both in tokens."""
        super().__init__()
        if max_span < 1 or ramp < 1:
            raise ValueError(f"AdaptiveSpan: max_span is {max_span} and ramp {ramp}; both must be 1 or more")
        if not 0 <= init <= max_span:
            raise ValueError(f"AdaptiveSpan: init is {init}; it must lie between 0 and max_span, {max_span}")
        self.max_span, self.ramp, self.causal = max_span, ramp, causal
        # A share of max_span, as a learning rate that fits other parameters would hardly move a number of tokens.
        self.share = nn.Parameter(torch.full((num_heads,), init / max_span))

    @property
    def spans(self) -> Tensor:
        """(H,): z of each head, in tokens."""
        # With a gradient of 1 on the bounds, where spans begin and must be able to learn; that of torch's own clamp is
        # 1 there until torch 2.13 and 0 from 2.14 on.
        share = self.share.masked_fill(self.share < 0, 0).masked_fill(self.share > 1, 1)
        return share * self.max_span

    def loss(self) -> Tensor:
        """The mean span, a number with gradient: add it to the loss, times a small factor, to keep spans short."""
        return self.spans.mean()

    @torch.no_grad()
    def clamp_(self) -> None:
        """Bring spans back to 0 ... `max_span`, beyond which they have no gradient: for after each optimiser step."""
        self.share.clamp_(0, 1)

    def window(self) -> Mask:
        """The hard window outside of which no head reads anything now."""
        reach = max(0, math.ceil(float(self.spans.detach().max()) + self.ramp) - 1)
        return Window(reach, 0 if self.causal else reach)

    def forward(
        self,
        q: Tensor,  # (T, H, D)
        k: Tensor,  # (T, Hk, D), H a multiple of Hk
        v: Tensor,  # (T, Hk, D)
        mask: Mask,
        *,
        scale: float | None = None,
    ) -> Tensor:  # (T, H, D)
        """Attention over the keys that `mask` lets a query read, each head within its span."""
        if q.shape[1] != len(self.share):
            raise ValueError(f"q has {q.shape[1]} heads and this AdaptiveSpan {len(self.share)}")
        if mask.frame is not None and mask.frame.lengths != mask.frame.kv_lengths:
            raise Unsupported(
                "AdaptiveSpan measures distances within one text, but queries and keys have documents of other lengths"
            )
        return attend_blocks(q, k, v, mask & self.window(), scale, self._weigh, self.spans)

    def _weigh(self, scores: Tensor, tiles: Tiles, spans: Tensor) -> Tensor:
        distance = (tiles.rows.index[:, None, :, None] - tiles.columns.index[:, None, None, :]).abs()
        room = (self.ramp + spans.to(scores.dtype).view(-1, 1, 1) - distance) / self.ramp
        # Clamped, with a gradient of 0 on the bounds: what a key has in full, a longer span does not add to.
        soft = room.masked_fill(room <= 0, 0).masked_fill(room >= 1, 1)  # (B, H, R, K)
        seen = visible(tiles)
        shut = soft == 0 if seen is None else (soft == 0) | ~seen
        scores = scores.masked_fill(shut, -torch.inf)
        top = scores.detach().amax(-1, keepdim=True).nan_to_num(neginf=0.0)
        shares = (scores - top).exp() * soft
        total = shares.sum(-1, keepdim=True)
        return shares / total.where(total > 0, 1)
