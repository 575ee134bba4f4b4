"""Where a mask's visible pairs lie: rows of queries cut into tiles, each with the keys that its rows may read.

A tile's shape follows from its own document alone, never from what shares the pack: tiles of one shape, wherever they
come from, can be computed in one batch and keep their bits in any company.
"""

# R queries of a tile, K keys of a tile, B tiles of one shape, I intervals of a query

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from ..keyed import mixed

ROWS = 64
"""Queries of a tile, where the document has as many. Measured with windows of 129 and 1,025 keys: 64 is as fast as
128 and computes fewer pairs that nobody may read."""

_KEYS_STEP = 16  # full tiles have a multiple of this many keys, so that few shapes exist
_HEAVY = 4  # a query that reads more than this many times its document's mean goes into tiles of such queries


@dataclass(frozen=True, eq=False)
class Places:
    """B runs of L rows of a (T, H, D) tensor: any rows, or evenly spaced runs that need no copying."""

    index: Tensor
    """(B, L) int64."""
    step: int | None
    """Distance between one run and the next, where each is consecutive and all are evenly spaced; else None."""

    @classmethod
    def of(cls, index: Tensor) -> Places:
        """Look for the even spacing."""
        first, count = index[:, 0], len(index)
        step = int(first[1] - first[0]) if count > 1 else index.shape[1]
        even = index[0, 0] + torch.arange(count)[:, None] * step + torch.arange(index.shape[1])
        return cls(index, step if step > 0 and torch.equal(even, index) else None)

    def __getitem__(self, part: slice) -> Places:
        """Some of the runs."""
        return Places(self.index[part], self.step)

    def moved(self, starts: Sequence[int]) -> Places:
        """The same runs once for each of the N places where they begin now."""
        if len(starts) == 1:
            return Places(self.index + starts[0], self.step)
        index = (self.index + torch.tensor(starts)[:, None, None]).flatten(0, 1)
        if self.step is None:
            return Places(index, None)
        if len(self.index) > 1:
            return Places.of(index)
        gaps = {b - a for a, b in pairwise(starts)}
        return Places(index, gaps.pop() if len(gaps) == 1 else None)

    def take(self, x: Tensor) -> Tensor:
        """(B, H, L, D) of a contiguous x (T, H, D); a view where that is possible."""
        if self.step is None:
            return x[self.index].transpose(1, 2)
        return self._view(x)

    def put(self, x: Tensor, rows: Tensor) -> None:
        """Write rows (B, H, L, D) into x (T, H, D); no place may occur twice."""
        if self.step is None:
            x[self.index] = rows.transpose(1, 2).to(x.dtype)
        else:
            self._view(x).copy_(rows)

    def add(self, x: Tensor, rows: Tensor) -> None:
        """Add rows (B, H, L, D) to x (T, H, D), one run after the other."""
        x.index_add_(0, self.index.flatten(), rows.transpose(1, 2).flatten(0, 1).to(x.dtype))

    def _view(self, x: Tensor) -> Tensor:
        (count, length), (_, heads, width), row = self.index.shape, x.shape, x.stride(0)
        strides = (self.step * row, width, row, 1)  # type: ignore[operator]  # only called where there is a step
        return x.as_strided(
            (count, heads, length, width), strides, x.storage_offset() + int(self.index[0, 0]) * row
        )


@dataclass(frozen=True, eq=False)
class Tiles:
    """All tiles of one shape."""

    rows: Places
    columns: Places
    """Their keys; the last one is repeated where a tile has fewer, and hidden there."""
    seen: Tensor | None
    """Bool (U, R, K), the different pictures; a blind query sees the first key. None = every query reads every key:
    such tiles are apart from others, so that whether a tile's scores are masked is not for its neighbours to say."""
    picture: Tensor | None
    """(B,) int64: which of them is a tile's own; None = there is but one."""
    blind: Tensor | None
    """Bool (B, R): queries that may read nothing; None = there are none."""

    def __len__(self) -> int:
        return len(self.rows.index)

    @property
    def num_q(self) -> int:
        """R."""
        return self.rows.index.shape[1]

    @property
    def num_kv(self) -> int:
        """K."""
        return self.columns.index.shape[1]

    def __getitem__(self, part: slice) -> Tiles:
        """Some of the tiles."""
        picture = None if self.picture is None else self.picture[part]
        blind = None if self.blind is None else self.blind[part]
        return Tiles(self.rows[part], self.columns[part], self.seen, picture, blind)

    def moved(self, rows: Sequence[int], columns: Sequence[int]) -> Tiles:
        """The same tiles once for each of N places; `rows` and `columns` say where each begins, ascending."""
        picture = None if self.picture is None else self.picture.repeat(len(rows))
        blind = None if self.blind is None else self.blind.repeat(len(rows), 1)
        return Tiles(self.rows.moved(rows), self.columns.moved(columns), self.seen, picture, blind)

    @property
    def own(self) -> Tensor | None:
        """Bool (B or 1, R, K): the picture of each tile; None = every query reads every key."""
        return self.seen if self.seen is None or self.picture is None else self.seen[self.picture]

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        """(B or 1, 1, R, K): 0 where a query sees the key, -inf where not; None where it sees all."""
        seen = self.own
        return None if seen is None else torch.zeros((), dtype=dtype).masked_fill(~seen, -torch.inf)[:, None]

    @property
    def pairs(self) -> int:
        """How many (query, key) pairs are computed, for each head."""
        return len(self) * self.num_q * self.num_kv

    @property
    def num_bytes(self) -> int:
        """Memory of all the tensors here."""
        tensors = self.rows.index, self.columns.index, self.seen, self.picture, self.blind
        return sum(x.nbytes for x in tensors if x is not None)


def joined(parts: Sequence[Tiles]) -> tuple[Tiles, ...]:
    """The same tiles, those of one shape together; in the order that `tile` gives."""
    shapes: dict[tuple[int, int, bool], list[Tiles]] = {}
    for part in parts:
        shapes.setdefault((part.num_q, part.num_kv, part.seen is None), []).append(part)
    return tuple(_one(shapes[shape]) for shape in sorted(shapes))


def _one(parts: list[Tiles]) -> Tiles:
    if len(parts) == 1:
        return parts[0]
    rows, columns = (
        torch.cat([x.index for x in own]) for own in zip(*((p.rows, p.columns) for p in parts), strict=True)
    )
    places = Places.of(rows), Places.of(columns)
    seen = [part.seen for part in parts if part.seen is not None]
    if not seen:
        return Tiles(*places, None, None, None)
    firsts = accumulate((len(each) for each in seen), initial=0)
    picture = [
        (torch.zeros(len(part), dtype=torch.int64) if part.picture is None else part.picture) + first
        for part, first in zip(parts, firsts, strict=False)
    ]
    blind = [
        torch.zeros_like(part.rows.index, dtype=torch.bool) if part.blind is None else part.blind
        for part in parts
    ]
    is_blind = any(part.blind is not None for part in parts)
    return Tiles(*places, torch.cat(seen), torch.cat(picture), torch.cat(blind) if is_blind else None)


def tile(
    starts: Tensor,  # (Tq, I) int32, flat keys, disjoint and ascending
    ends: Tensor,  # (Tq, I) int32; start == end: no interval
    lengths: Sequence[tuple[int, int]],
) -> tuple[Tiles, ...]:
    """Cut queries into tiles, document by document; `lengths`: (queries, keys) of those that no query reads across.

    Queries that may read nothing are in no tile, or blind in theirs. The tiles' order is that of their shapes, so two
    tiles of one document come in the same order in any company.
    """
    visible = (ends - starts).sum(1, dtype=torch.int64)
    order, cuts = _blocks(visible, [num_q for num_q, _ in lengths])
    block = torch.repeat_interleave(torch.arange(len(cuts)), cuts)
    starts, ends, visible = starts[order].long(), ends[order].long(), visible[order]
    columns, counts = _union(starts, ends, block, len(cuts), sum(num_kv for _, num_kv in lengths))
    is_whole = torch.zeros_like(counts).index_add_(0, block, visible) == cuts * counts
    rounded = (counts + _KEYS_STEP - 1) // _KEYS_STEP * _KEYS_STEP
    width = torch.where((cuts == ROWS) & ~is_whole, rounded, counts)
    first_row, first_column = cuts.cumsum(0) - cuts, counts.cumsum(0) - counts
    shapes, group = torch.unique(torch.stack((cuts, width, is_whole)), dim=1, return_inverse=True)
    found = []
    for place, (num_rows, num_columns, whole) in enumerate(shapes.T.tolist()):
        if not num_columns:
            continue
        own = (group == place).nonzero()[:, 0]
        rows = first_row[own][:, None] + torch.arange(num_rows)
        last = counts[own][:, None] - 1
        keys = columns[first_column[own][:, None] + torch.arange(num_columns).minimum(last)]
        places = Places.of(order[rows]), Places.of(keys)
        if whole:
            found.append(Tiles(*places, None, None, None))
        else:
            found.append(_partial(*places, torch.arange(num_columns) > last, starts[rows], ends[rows]))
    return tuple(found)


def _blocks(counts: Tensor, num_queries: list[int]) -> tuple[Tensor, Tensor]:
    """Queries in the order of their tiles (Tq,), and how many each tile takes.

    A query that reads far more than its document's others (a global token) would make all keys of its tile wide:
    such queries come last in their document, in tiles of their own.
    """
    sizes = torch.tensor(num_queries, dtype=torch.int64)
    document = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    totals = torch.zeros_like(sizes).index_add_(0, document, counts.long())
    is_heavy = (counts * sizes[document] > _HEAVY * totals[document]) & (sizes[document] > ROWS)
    side = 2 * document + is_heavy
    order = torch.argsort(side, stable=True) if bool(is_heavy.any()) else torch.arange(len(counts))
    sizes = torch.bincount(side, minlength=2 * len(sizes))
    num_blocks = (sizes + ROWS - 1) // ROWS
    side_of_block = torch.repeat_interleave(torch.arange(len(sizes)), num_blocks)
    nth = torch.arange(len(side_of_block)) - (num_blocks.cumsum(0) - num_blocks)[side_of_block]
    return order, (sizes[side_of_block] - nth * ROWS).clamp(max=ROWS)


def _union(
    starts: Tensor, ends: Tensor, block: Tensor, num_blocks: int, num_kv: int
) -> tuple[Tensor, Tensor]:
    """The keys that each block's rows may read, ascending, all blocks' end to end; and how many each block has."""
    stride = num_kv + 1  # blocks lie on one line, far enough apart that their intervals cannot touch
    shift = block[:, None] * stride
    is_some = starts < ends
    begins, by_begin = torch.sort((starts + shift)[is_some])
    reach = (ends + shift)[is_some][by_begin].cummax(0).values
    opens = torch.ones_like(begins, dtype=torch.bool)
    opens[1:] = begins[1:] > reach[:-1]
    begins, closes = begins[opens], reach[opens.roll(-1)]
    lengths = closes - begins
    own = begins // stride
    counts = torch.zeros(num_blocks, dtype=torch.int64).index_add_(0, own, lengths)
    within = torch.arange(int(lengths.sum())) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    return torch.repeat_interleave(begins - own * stride, lengths) + within, counts


def _partial(rows: Places, columns: Places, is_padding: Tensor, starts: Tensor, ends: Tensor) -> Tiles:
    """Tiles of queries with intervals (B, R, I), not all keys of which are seen; different pictures are drawn once."""
    ordered = columns.index.masked_fill(is_padding, torch.iinfo(torch.int64).max)
    first = torch.searchsorted(ordered, starts.flatten(1)).view(starts.shape)
    end = torch.searchsorted(ordered, ends.flatten(1)).view(ends.shape)
    is_blind = ~(starts < ends).any(2)
    blind = is_blind if bool(is_blind.any()) else None
    if blind is not None:
        first.masked_fill_(blind[..., None], 0)
        end.masked_fill_(blind[..., None], 0)
        end[..., 0].masked_fill_(blind, 1)
    which, picture = _different(torch.cat((first, end), 2).flatten(1))
    seen = _drawn(first[which], end[which], is_padding.shape[1])
    return Tiles(rows, columns, seen, None if len(which) == 1 else picture, blind)


def _different(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows (B, N) one of each kind, as indices (U,), and each row's kind (B,)."""
    if len(rows) == 1:
        return torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    marks, kind = torch.unique((rows * mixed(torch.arange(rows.shape[1]))).sum(1), return_inverse=True)
    which = torch.empty_like(marks).scatter_(0, kind, torch.arange(len(rows)))
    if torch.equal(rows[which[kind]], rows):
        return which, kind
    return torch.arange(len(rows)), torch.arange(
        len(rows)
    )  # different rows with one mark: every row is its own kind


def _drawn(starts: Tensor, ends: Tensor, width: int) -> Tensor:
    """Bool (U, R, width) of intervals (U, R, I)."""
    steps = torch.zeros(*starts.shape[:2], width + 1, dtype=torch.int8)
    ones = torch.ones(1, dtype=torch.int8).expand_as(starts)
    steps.scatter_add_(2, starts, ones).scatter_add_(2, ends, -ones)
    return steps.cumsum(2, dtype=torch.int8)[..., :width].bool()
