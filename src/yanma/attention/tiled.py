"""Attention on any mask, tile by tile: only the keys that a tile's queries may read are computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dropout import Dropout
from .kernel import (
    MOST_SCORE_BYTES,
    Softmax,
    attend,
    attend_backward,
    is_flash,
    num_columns,
    weights,
    working,
)
from .tiles import Tiles

MAX_BATCH_BYTES = 2**23
"""Queries, keys, values and outputs of the tiles that are computed together, or of one where it has more. 8 MiB is
faster than 64: a batch stays in the cache, and freed memory is used again."""


def attend_tiles(
    q: Tensor, k: Tensor, v: Tensor, tiles: tuple[Tiles, ...], scale: float, dropout: Dropout | None
) -> Tensor:
    """Each query reads what its tile shows of its keys; queries in no tile give 0. All (T, H, D), contiguous."""
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        return _Tiled.apply(q, k, v, tiles, scale, dropout)  # type: ignore[no-any-return, no-untyped-call]
    return _all_tiles(q, k, v, tiles, scale, dropout, saved=None)


def _all_tiles(
    q: Tensor, k: Tensor, v: Tensor, tiles: tuple[Tiles, ...],
    scale: float, dropout: Dropout | None, saved: list[Tensor] | None,
) -> Tensor:  # fmt: skip
    """(Tq, H, D); each batch's log-sum-exp is added to `saved`, unless that is None.

    Weights are not kept, where there are such: they are much larger, and backward computes them again.
    """
    out = torch.zeros_like(q)
    for part in _batches(tiles, q, dropout):
        softmax = _softmax(part, q.dtype, scale, dropout)
        queries = _without(part, part.rows.take(q))
        result, own = attend(queries, part.columns.take(k), part.columns.take(v), softmax)
        part.rows.put(out, _without(part, result))
        if saved is not None and is_flash(queries.shape, part.num_kv, dropout is not None):
            saved.append(own)
    return out


class _Tiled(torch.autograd.Function):
    """One node for all tiles: gradients of keys that several tiles read are added up in place."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor,
        tiles: tuple[Tiles, ...], scale: float, dropout: Dropout | None,
    ) -> Tensor:  # fmt: skip
        saved: list[Tensor] = []
        out = _all_tiles(q, k, v, tiles, scale, dropout, saved)
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
        grad_k, grad_v = (torch.zeros_like(x, dtype=working(x.dtype)) for x in (k, v))
        for part in _batches(ctx.tiles, q, ctx.dropout):
            softmax = _softmax(part, q.dtype, ctx.scale, ctx.dropout)
            queries, keys = _without(part, part.rows.take(q)), part.columns.take(k)
            tensors = queries, keys, part.columns.take(v), part.rows.take(out)
            with torch.autocast("cpu", enabled=False):
                flash = is_flash(queries.shape, part.num_kv, ctx.dropout is not None)
                own = next(rest) if flash else weights(queries, keys, softmax)
                parts = attend_backward(_without(part, part.rows.take(grad)), *tensors, own, softmax)
            part.rows.put(grad_q, parts[0])
            part.columns.add(grad_k, parts[1])
            part.columns.add(grad_v, parts[2])
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None, None, None


def _batches(tiles: tuple[Tiles, ...], q: Tensor, dropout: Dropout | None) -> Iterator[Tiles]:
    """Tiles of one shape, as many at a time as the bounds allow, but at least one."""
    heads, width = q.shape[1:]
    itemsize = working(q.dtype).itemsize
    for same in tiles:
        count = MAX_BATCH_BYTES // (2 * (same.num_q + same.num_kv) * heads * width * itemsize)
        if not is_flash(torch.Size((1, heads, same.num_q, width)), same.num_kv, dropout is not None):
            scores = heads * same.num_q * num_columns(same.num_kv) * itemsize
            count = min(count, MOST_SCORE_BYTES // scores)
        for first in range(0, len(same), max(1, count)):
            yield same[first : first + max(1, count)]


def _softmax(tiles: Tiles, dtype: torch.dtype, scale: float, dropout: Dropout | None) -> Softmax:
    bias = tiles.bias(working(dtype))
    if dropout is None:
        return Softmax(scale, False, bias)
    kept = dropout.keep_at(tiles.rows.index, tiles.columns.index)
    return Softmax(scale, False, bias, kept, dropout.scale)


def _without(tiles: Tiles, rows: Tensor) -> Tensor:
    """Rows (B, H, R, D) with those of blind queries 0: whatever the key is that stands open for them, it adds 0."""
    return rows if tiles.blind is None else rows.masked_fill(tiles.blind[:, None, :, None], 0)
