"""Pictures of masks: cells of queries x keys, each a pair while the mask is small, and never more than 64 a side.

`plot.py` and `html.py` draw the same cells.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .grid import Grid

if TYPE_CHECKING:
    from .mask import Mask, Shape

# R rows and C columns of cells

MOST_CELLS = 64
"""Cells a side."""
_CHUNK_CELLS = 2**20
_LONGEST_LABEL = 18


@dataclass(frozen=True)
class Cell:
    """A rectangle of pairs."""

    row: int
    column: int
    queries: tuple[int, int]
    """First and last, and one more."""
    keys: tuple[int, int]
    share: float
    """How much of it is visible; exactly 0 and 1 for none and all."""
    document: int | None
    """The first document that its queries and keys share; None where they share none."""

    @property
    def sign(self) -> str:
        """`#` all visible, `+` some, `.` none."""
        return "#" if self.share == 1 else "+" if self.share else "."


@dataclass(frozen=True, eq=False)
class Picture:
    """What is drawn of a mask: see `picture()`."""

    counts: Tensor
    """(R, C) int64: visible pairs of each cell."""
    queries: range
    """The first query of each row of cells; the step is a cell's height, and the last cell ends with the range."""
    keys: range
    grid: Grid

    @property
    def shape(self) -> tuple[int, int]:
        """(R, C)."""
        return len(self.queries), len(self.keys)

    @property
    def is_reduced(self) -> bool:
        """Whether a cell is more than one pair."""
        return self.queries.step * self.keys.step > 1

    @cached_property
    def rows(self) -> list[list[Cell]]:
        """The cells, row by row."""
        spans = [list(_spans(side)) for side in (self.queries, self.keys)]
        owners = [
            [(bisect_right(ends, start), bisect_right(ends, end - 1)) for start, end in side]
            for ends, side in zip((self.grid.q_ends, self.grid.kv_ends), spans, strict=True)
        ]
        return [
            [
                Cell(row, column, q, kv, count / ((q[1] - q[0]) * (kv[1] - kv[0])), _common(own, other))
                for column, (kv, other, count) in enumerate(zip(spans[1], owners[1], counts, strict=True))
            ]
            for row, (q, own, counts) in enumerate(
                zip(spans[0], owners[0], self.counts.tolist(), strict=True)
            )
        ]

    @property
    def borders(self) -> tuple[list[int], list[int]]:
        """Where documents end inside the picture, among queries and among keys; none where they are too many."""
        inside = [
            [end for end in dict.fromkeys(ends) if side.start < end < side.stop]
            for ends, side in ((self.grid.q_ends, self.queries), (self.grid.kv_ends, self.keys))
        ]
        return (inside[0], inside[1]) if max(map(len, inside)) <= MOST_CELLS // 2 else ([], [])

    @property
    def caption(self) -> str:
        """What part of the mask this is, and what a cell is; empty where it is all of it, pair by pair."""
        sides = list(zip(("queries", "keys"), (self.queries, self.keys), self.grid.shape, strict=True))
        parts = [f"{name} {side.start}:{side.stop} of {total}" for name, side, total in sides]
        if all((side.start, side.stop) == (0, total) for _, side, total in sides):
            parts = []
        if self.is_reduced:
            parts.append(f"a cell is {self.queries.step} queries x {self.keys.step} keys")
        return ", ".join(parts)


def picture(
    mask: Mask,
    n: int | Shape | None = None,
    queries: tuple[int, int] | None = None,
    keys: tuple[int, int] | None = None,
) -> Picture:
    """The cells of a mask, or of `start <= query < stop` and of such keys, counted from intervals.

    >>> from yanma.masks import causal
    >>> picture(causal(), 128).counts[:2, :3].tolist()
    [[3, 0, 0], [4, 3, 0]]
    """
    grid = mask._grid(n)
    rows, columns = (
        _cells(name, total, wanted)
        for name, total, wanted in zip(("queries", "keys"), grid.shape, (queries, keys), strict=True)
    )
    counts = torch.zeros(len(rows), len(columns), dtype=torch.int64)
    borders = torch.tensor([*columns, columns.stop], dtype=torch.int32)
    for first, runs in mask._chunks(grid, rows.start, rows.stop):
        step = max(1, _CHUNK_CELLS // max(1, runs.starts.shape[1] * len(borders)))
        for start in range(0, len(runs.starts), step):
            starts, ends = (x[start : start + step, :, None] for x in (runs.starts, runs.ends))
            before = torch.minimum((borders - starts).clamp(min=0), ends - starts).sum(1)
            row = (torch.arange(len(before)) + first + start - rows.start) // rows.step
            counts.index_add_(0, row, before.diff(dim=1))
    return Picture(counts, rows, columns, grid)


def text(shown: Picture, tokens: Sequence[str] | None = None, *, color: bool = False) -> str:
    """A line a row of cells, the token after it where a row is one query; a last line says what a cell is."""
    labels = check_tokens(shown, tokens)
    lines = [
        (_painted(row) if color else "".join(cell.sign for cell in row))
        + (f"  {labels[row[0].queries[0]]}" if labels and row else "")
        for row in shown.rows
    ]
    signs = ": # all visible, + some, . none" if shown.is_reduced else ""
    return "\n".join([*lines, shown.caption + signs] if shown.caption else lines)


def check_tokens(shown: Picture, tokens: Sequence[str] | None) -> Sequence[str] | None:
    """One text a query; None where there is no room for them. Raises ValueError where their number is wrong."""
    if tokens is not None and len(tokens) != shown.grid.shape[0]:
        raise ValueError(
            f"tokens: {len(tokens)} tokens for a mask of {shown.grid.shape[0]} queries; give one a query"
        )
    return None if shown.queries.step > 1 else tokens


def shortened(label: str) -> str:
    """What there is room for beside a picture."""
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def label_keys(shown: Picture, labels: Sequence[str] | None) -> Sequence[str] | None:
    """The same texts for the keys, where these are the same tokens and there is room for them."""
    is_own = shown.grid.lengths == shown.grid.kv_lengths and shown.keys.step == 1
    return labels if is_own else None


def _cells(name: str, total: int, wanted: tuple[int, int] | None) -> range:
    """The cells of one side; larger than one where they would be too many, by a power of two."""
    start, stop = wanted or (0, total)
    if not 0 <= start <= stop <= total:
        raise ValueError(f"{name}: {start}:{stop} does not lie in the mask's {total} {name}")
    return range(start, stop, 1 << max(0, -(-(stop - start) // MOST_CELLS) - 1).bit_length())


def _spans(side: range) -> Iterator[tuple[int, int]]:
    return ((start, min(start + side.step, side.stop)) for start in side)


def _common(own: tuple[int, int], other: tuple[int, int]) -> int | None:
    first = max(own[0], other[0])
    return first if first <= min(own[1], other[1]) else None


def _painted(row: Sequence[Cell]) -> str:
    """In a terminal's colours: documents in turns, what reads across them apart, and outside of them grey."""

    def style(cell: Cell) -> str:
        hue = 33 if cell.document is None else (36, 35)[cell.document % 2]
        return f"1;{hue}" if cell.share else "90" if cell.document is None else f"2;{hue}"

    runs = ((code, "".join(cell.sign for cell in cells)) for code, cells in groupby(row, style))
    return "".join(f"\x1b[{code}m{signs}\x1b[0m" for code, signs in runs)
