"""A mask that keeps documents apart, document by document."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .grid import Grid
from .mask import Mask


@dataclass(frozen=True)
class DocumentMask:
    """One document's mask: `mask.dense((num_q, num_kv))` is the document's block. Equal for equal documents."""

    mask: Mask
    num_q: int
    num_kv: int


def split(mask: Mask, grid: Grid) -> tuple[DocumentMask, ...] | None:
    """Each document's own mask; None where some query reads another document."""
    if reads_across(mask, grid):
        return None
    sizes = list(zip(grid.lengths, grid.kv_lengths, strict=True))
    if mask._is_alike() and sizes:
        alike = mask._within(grid, 0)
        return tuple(DocumentMask(alike, num_q, num_kv) for num_q, num_kv in sizes)
    return tuple(DocumentMask(mask._within(grid, i), *size) for i, size in enumerate(sizes))


def reads_across(mask: Mask, grid: Grid) -> bool:
    """Whether some query reads another document."""
    if len(grid.lengths) < 2:
        return False
    across = mask._across()
    if across is not None:
        # A pair of different documents exists where one has a query and another a key.
        return across and any(
            num_q and grid.shape[1] > num_kv
            for num_q, num_kv in zip(grid.lengths, grid.kv_lengths, strict=True)
        )
    runs, rows = mask.intervals(grid.shape), grid.rows(0, grid.shape[0])
    first, last = rows.kv_start[:, None], (rows.kv_start + rows.num_kv)[:, None]
    some = runs.starts < runs.ends
    return bool((some & ((runs.starts < first) | (runs.ends > last))).any()) if torch.numel(some) else False
