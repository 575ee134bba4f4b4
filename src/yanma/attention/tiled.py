"""Attention on any mask, tile by tile: only the keys that a tile's queries may read are computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dropout import Dropout
from .kernel import Softmax, attend, attend_backward, is_flash, weights
from .tiles import Tiles

MAX_BATCH_BYTES = 2**23
"""Tiles are computed in batches of at most this much, or one by one where one is larger. Measured: 8 MiB is faster
than 64, as what a batch reads and writes stays in the cache, and freed memory is used again."""


def attend_tiles(
    q: Tensor, k: Tensor, v: Tensor, tiles: tuple[Tiles, ...], scale: float, dropout: Dropout | None
) -> Tensor:
    """Each query reads what its tile shows of its keys; queries in no tile give 0. All (T, H, D)."""
    return _Tiled.apply(q, k, v, tiles, scale, dropout)  # type: ignore[no-any-return, no-untyped-call]


class _Tiled(torch.autograd.Function):
    """One node for all tiles: gradients of keys that several tiles read are added up in place."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor,
        tiles: tuple[Tiles, ...], scale: float, dropout: Dropout | None,
    ) -> Tensor:  # fmt: skip
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out = torch.zeros_like(q)
        saved: list[Tensor] = []
        for part in _batches(tiles, q):
            softmax = _softmax(part, q.dtype, scale, dropout)
            queries = _without(part, part.rows.take(q))
            result, own = attend(queries, part.columns.take(k), part.columns.take(v), softmax)
            part.rows.put(out, _without(part, result))
            if is_flash(queries, part.num_kv, softmax):
                saved.append(own)  # weights are computed again instead: they are much larger than log-sum-exp
        ctx.save_for_backward(q, k, v, out, *saved)
        ctx.tiles, ctx.scale, ctx.dropout = tiles, scale, dropout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *saved = ctx.saved_tensors
        grad, rest = grad.contiguous(), iter(saved)
        grad_q = torch.zeros_like(q)
        # Several tiles add to a key: in less than fp32 the sum would depend on how they are cut into batches.
        dtype = torch.promote_types(k.dtype, torch.float32)
        grad_k, grad_v = torch.zeros_like(k, dtype=dtype), torch.zeros_like(v, dtype=dtype)
        for part in _batches(ctx.tiles, q):
            softmax = _softmax(part, q.dtype, ctx.scale, ctx.dropout)
            queries, keys = _without(part, part.rows.take(q)), part.columns.take(k)
            is_saved = is_flash(queries, part.num_kv, softmax)
            own = next(rest) if is_saved else weights(queries, keys, softmax)
            tensors = queries, keys, part.columns.take(v), part.rows.take(out)
            parts = attend_backward(_without(part, part.rows.take(grad)), *tensors, own, softmax)
            part.rows.put(grad_q, parts[0])
            part.columns.add(grad_k, parts[1])
            part.columns.add(grad_v, parts[2])
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None, None, None


def _batches(tiles: tuple[Tiles, ...], q: Tensor) -> Iterator[Tiles]:
    """Tiles of one shape, as many at a time as fit MAX_BATCH_BYTES."""
    heads, width = q.shape[1:]
    for same in tiles:
        scores = same.num_q * same.num_kv * heads
        bytes_each = (scores + 2 * (same.num_q + same.num_kv) * heads * width) * q.element_size()
        count = max(1, MAX_BATCH_BYTES // bytes_each)
        for first in range(0, len(same), count):
            yield same[first : first + count]


def _softmax(tiles: Tiles, dtype: torch.dtype, scale: float, dropout: Dropout | None) -> Softmax:
    if dropout is None:
        return Softmax(scale, False, tiles.bias(dtype))
    kept = dropout.keep_at(tiles.rows.index, tiles.columns.index)
    return Softmax(scale, False, tiles.bias(dtype), kept, dropout.scale)


def _without(tiles: Tiles, rows: Tensor) -> Tensor:
    """Rows (B, H, R, D) with those of blind queries 0: whatever the key is that stands open for them, it adds 0."""
    return rows if tiles.blind is None else rows.masked_fill(tiles.blind[:, None, :, None], 0)
