"""A mask in blocks of queries x keys: which are visible in full, which in part. From intervals, never from pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from .intervals import Intervals, covered
from .mask import Mask, Shape

# B query blocks

_CHUNK_CELLS = 2**20


@dataclass(frozen=True, eq=False)
class BlockLists:
    """Key blocks of each query block, one after another: block i has `indices[offsets[i] : offsets[i + 1]]`."""

    offsets: Tensor
    """(B + 1,) int32."""
    indices: Tensor
    """int32, ascending for each query block."""

    @classmethod
    def of(cls, runs: Intervals) -> BlockLists:
        """From each query block's runs of key blocks."""
        return cls(pad(runs.counts().cumsum(0), (1, 0)).int(), runs.pairs()[1].int())

    def counts(self) -> Tensor:
        """(B,) int32."""
        return self.offsets.diff()

    def padded(self, width: int) -> Tensor:
        """(B, width) int32, each row filled up with zeros."""
        table = torch.zeros(len(self.offsets) - 1, width, dtype=torch.int32)
        table[torch.arange(width) < self.counts()[:, None]] = self.indices
        return table


@dataclass(frozen=True, eq=False)
class BlockStructure:
    """See `block_structure()`."""

    num_q: int
    num_kv: int
    q_size: int
    kv_size: int
    full: BlockLists
    """Blocks of which every pair is visible; never those that jut out of the mask."""
    partial: BlockLists
    """Blocks of which some pair is visible, but not all."""


def block_structure(
    mask: Mask, q_size: int = 128, kv_size: int = 128, n: int | Shape | None = None
) -> BlockStructure:
    """The blocks of `q_size` queries x `kv_size` keys that a kernel must visit; all others are hidden.

    >>> from yanma.masks import causal
    >>> found = block_structure(causal(), 2, 2, n=4)
    >>> found.full.indices.tolist(), found.partial.offsets.tolist(), found.partial.indices.tolist()
    ([0], [0, 1, 2], [0, 1])
    """
    return of_intervals(mask.intervals(n), q_size, kv_size)


def of_intervals(runs: Intervals, q_size: int, kv_size: int) -> BlockStructure:
    """`block_structure` of a mask whose intervals are known."""
    for name, size in (("q_size", q_size), ("kv_size", kv_size)):
        if size < 1:
            raise ValueError(f"block_structure: {name} is {size}; it must be 1 or more")
    num_q, width = runs.starts.shape
    step = max(1, _CHUNK_CELLS // max(1, q_size * width)) * q_size
    # At least one chunk, of no queries where there are none.
    chunks = [
        _blocks(runs, start, min(start + step, num_q), q_size, kv_size)
        for start in range(0, max(1, num_q), step)
    ]
    full, partial = (_joined([chunk[side] for chunk in chunks]) for side in (0, 1))
    return BlockStructure(num_q, runs.num_kv, q_size, kv_size, full, partial)


def _blocks(
    runs: Intervals, start: int, end: int, q_size: int, kv_size: int
) -> tuple[BlockLists, BlockLists]:
    """Full and partial blocks of the queries `start <= q_idx < end`."""
    num_kv_blocks = -(-runs.num_kv // kv_size)
    num_blocks, missing = -(-(end - start) // q_size), -(end - start) % q_size
    starts, ends = (
        pad(x[start:end], (0, 0, 0, missing), value=runs.num_kv).reshape(num_blocks, q_size * x.shape[1])
        for x in (runs.starts, runs.ends)
    )
    empty = starts >= ends
    touched = _in_blocks(starts // kv_size, -(-ends // kv_size), empty, num_kv_blocks, least=1)
    full = _in_blocks(-(-starts // kv_size), ends // kv_size, empty, num_kv_blocks, least=q_size)
    return BlockLists.of(full), BlockLists.of(touched & ~full)


def _in_blocks(first: Tensor, last: Tensor, empty: Tensor, num_blocks: int, least: int) -> Intervals:
    empty = empty | (first >= last)
    return covered(
        first.masked_fill(empty, num_blocks), last.masked_fill(empty, num_blocks), num_blocks, least
    )


def _joined(lists: list[BlockLists]) -> BlockLists:
    counts = torch.cat([part.counts() for part in lists])
    return BlockLists(pad(counts.cumsum(0), (1, 0)).int(), torch.cat([part.indices for part in lists]))
