"""Attention by a rule of one's own, a block of queries at a time: the rule turns a block's scores into weights.

Only keys that a block's queries may read are computed, forward and again in backward; nothing is queries x keys.
"""

# B blocks of one shape, H heads, R queries of a block, K keys of a block, D head width

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import as_cast
from ..errors import Unsupported
from ..masks import Mask
from .kernel import MOST_SCORE_BYTES, rows_times, working
from .plans import plan
from .problem import Problem
from .tiles import Tiles

Weigh = Callable[..., Tensor]
"""(scores (B, H, R, K), tiles, *parameters) -> weights (B, H, R, K), 0 where `visible(tiles)` is not."""


def attend_blocks(
    q: Tensor,  # (Tq, H, D)
    k: Tensor,  # (Tk, Hk, D), H a multiple of Hk
    v: Tensor,  # (Tk, Hk, D)
    mask: Mask,
    scale: float | None,
    weigh: Weigh,
    *parameters: Tensor,
) -> Tensor:  # (Tq, H, D)
    """The values under the weights that `weigh` gives; gradients flow to q, k, v and `parameters`.

    Raises ValueError for shapes that do not fit, and Unsupported where there is no CPU or the mask is too large.
    """
    q, k, v = as_cast(q), as_cast(k), as_cast(v)
    problem = Problem.of(q, k, v, mask, 0.0)
    if problem.device.type != "cpu":
        raise Unsupported(f"adaptive attention runs on a CPU, and this is {problem.device.type}")
    found = plan(problem)
    if found.refusal is not None:
        raise Unsupported(f"adaptive attention {found.refusal}")
    if q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scale = q.shape[2] ** -0.5 if scale is None else scale
    inputs = q.contiguous(), k.contiguous(), v.contiguous(), *parameters
    out: Tensor = _Blockwise.apply(found.tiles, scale, weigh, *inputs)  # type: ignore[no-untyped-call]
    return out


def visible(tiles: Tiles) -> Tensor | None:
    """Bool (B or 1, 1, R, K): whether a query may read a key; None = each may read all."""
    seen = tiles.own
    if seen is not None and tiles.blind is not None:
        seen = seen & ~tiles.blind[..., None]
    return None if seen is None else seen[:, None]


class _Blockwise(torch.autograd.Function):
    """Nothing of a block is kept for backward, which computes it again."""

    @staticmethod
    def forward(
        ctx: Any, tiles: tuple[Tiles, ...], scale: float, weigh: Weigh,
        q: Tensor, k: Tensor, v: Tensor, *parameters: Tensor,
    ) -> Tensor:  # fmt: skip
        ctx.tiles, ctx.scale, ctx.weigh = tiles, scale, weigh
        ctx.save_for_backward(q, k, v, *parameters)
        out = torch.zeros_like(q)
        for part in _parts(tiles, q):
            taken = part.rows.take(q), part.columns.take(k), part.columns.take(v)
            part.rows.put(out, _attended(part, scale, weigh, *taken, *parameters))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *parameters = ctx.saved_tensors
        grad, grad_q = grad.contiguous(), torch.zeros_like(q)
        # Several blocks add to a key: in less than fp32 the sum would depend on how many there are at a time.
        grad_k, grad_v = (torch.zeros_like(x, dtype=working(x.dtype)) for x in (k, v))
        others = [torch.zeros_like(x) for x in parameters]
        for part in _parts(ctx.tiles, q):
            taken = part.rows.take(q), part.columns.take(k), part.columns.take(v), *parameters
            leaves = [x.detach().requires_grad_() for x in taken]
            with torch.enable_grad():
                out = _attended(part, ctx.scale, ctx.weigh, *leaves)
            own = torch.autograd.grad(out, leaves, part.rows.take(grad).to(out.dtype))
            part.rows.put(grad_q, own[0])
            part.columns.add(grad_k, own[1])
            part.columns.add(grad_v, own[2])
            for whole, more in zip(others, own[3:], strict=True):
                whole += more
        return None, None, None, grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), *others


def _parts(tiles: tuple[Tiles, ...], q: Tensor) -> Iterator[Tiles]:
    """Tiles of one shape, as many at a time as leaves their scores in the cache, but at least one."""
    for same in tiles:
        scores = q.shape[1] * same.num_q * same.num_kv * working(q.dtype).itemsize
        count = max(1, MOST_SCORE_BYTES // scores)
        for first in range(0, len(same), count):
            yield same[first : first + count]


def _attended(
    tiles: Tiles, scale: float, weigh: Weigh, q: Tensor, k: Tensor, v: Tensor, *parameters: Tensor
) -> Tensor:
    """(B, H, R, D) of q (B, H, R, D) and k, v (B, H, K, D)."""
    with torch.autocast("cpu", enabled=False):
        queries, keys, values = (x.to(working(x.dtype)).flatten(0, 1) for x in (q, k, v))
        scores = rows_times(queries, keys.transpose(1, 2)) * scale
        weights = weigh(scores.view(*q.shape[:3], -1), tiles, *parameters)
        return rows_times(weights.flatten(0, 1), values).view(q.shape)
