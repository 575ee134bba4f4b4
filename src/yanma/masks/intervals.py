"""A mask as intervals: for each query the runs of keys that it may read. Nothing is queries x keys."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Tq queries, K runs of the query that has the most


@dataclass(frozen=True, eq=False)
class Intervals:
    """Row i may read keys `starts[i, c] <= key < ends[i, c]` of each column c; combine with `&`, `|` and `~`.

    Runs of a row are ascending, disjoint and do not touch. Unused columns come last and are `num_kv, num_kv`.

    >>> both = Intervals.of([[(0, 2)], [(1, 3)]], 4) | Intervals.of([[(3, 4)], [(0, 1)]], 4)
    >>> both.starts.tolist(), both.ends.tolist()
    ([[0, 3], [0, 4]], [[2, 4], [3, 4]])
    """

    starts: Tensor
    """(Tq, K) int32."""
    ends: Tensor
    """(Tq, K) int32, exclusive."""
    num_kv: int

    @classmethod
    def of(cls, rows: list[list[tuple[int, int]]], num_kv: int) -> Intervals:
        """From lists of (start, end), one list a query, in any order, overlapping or not."""
        width = max((len(row) for row in rows), default=0)
        padded = [[*row, *[(num_kv, num_kv)] * (width - len(row))] for row in rows]
        table = torch.tensor(padded, dtype=torch.int32).view(len(rows), width, 2)
        return covered(table[..., 0], table[..., 1], num_kv)

    @classmethod
    def from_bool(cls, seen: Tensor) -> Intervals:
        """From a bool (Tq, Tk), True = may read.

        >>> Intervals.from_bool(torch.tensor([[True, False, True]])).ends.tolist()
        [[1, 3]]
        """
        num_q, num_kv = seen.shape
        edges = torch.zeros(num_q, num_kv + 2, dtype=torch.int8, device=seen.device)
        edges[:, 1:-1] = seen
        steps = edges[:, 1:] - edges[:, :-1]
        return _collected(steps == 1, steps == -1, torch.arange(num_kv + 1, dtype=torch.int32), num_kv)

    def __and__(self, other: Intervals) -> Intervals:
        if 1 in (self.starts.shape[1], other.starts.shape[1]):
            return self._clipped(other)
        return covered(*self._beside(other), self.num_kv, least=2)

    def __or__(self, other: Intervals) -> Intervals:
        if (self.starts.shape[1], other.starts.shape[1]) == (1, 1):
            return self._joined(other)
        return covered(*self._beside(other), self.num_kv)

    def __invert__(self) -> Intervals:
        edge = self.starts.new_zeros(len(self.starts), 1)
        starts = torch.cat([edge, self.ends], 1)
        ends = torch.cat([self.starts, edge + self.num_kv], 1)
        return tidy(starts, ends, self.num_kv)

    def dense(self) -> Tensor:
        """Bool (Tq, Tk)."""
        depth = torch.zeros(len(self.starts), self.num_kv + 1, dtype=torch.int32)
        one = torch.ones_like(self.starts)
        depth.scatter_add_(1, self.starts.long(), one).scatter_add_(1, self.ends.long(), -one)
        return depth.cumsum(1)[:, :-1] > 0

    def counts(self) -> Tensor:
        """(Tq,) int64: the number of keys that each query may read."""
        return (self.ends - self.starts).sum(1, dtype=torch.int64)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """All pairs that may read, in order: (P,) int64 queries and (P,) int64 keys."""
        lengths = (self.ends - self.starts).flatten().long()
        run = torch.arange(len(lengths)).repeat_interleave(lengths)
        place = torch.arange(len(run)) - (lengths.cumsum(0) - lengths)[run]
        return run // max(1, self.starts.shape[1]), self.starts.flatten()[run] + place

    def transposed(self) -> Intervals:
        """For each key the runs of queries that may read it; time and memory follow the runs, not the pairs.

        >>> Intervals.of([[(0, 2)], [(1, 2)]], 2).transposed().starts.tolist()
        [[0], [0]]
        """
        # A key's run of queries begins where the query before may not read it, and ends where the next may not.
        nothing = self.starts.new_full((1, self.starts.shape[1]), self.num_kv)
        here, before = (
            Intervals(torch.cat(starts), torch.cat(ends), self.num_kv)
            for starts, ends in (
                ((self.starts, nothing), (self.ends, nothing)),
                ((nothing, self.starts), (nothing, self.ends)),
            )
        )
        sides = []
        for edges in (here & ~before, before & ~here):
            queries, keys = edges.pairs()
            order = keys.argsort(stable=True)
            sides.append((keys[order], queries[order].int()))
        (keys, starts), (_, ends) = sides
        counts = torch.bincount(keys, minlength=self.num_kv)
        place = torch.arange(len(keys)) - (counts.cumsum(0) - counts)[keys]
        table = torch.full(
            (2, self.num_kv, int(counts.max()) if len(counts) else 0), len(self.starts), dtype=torch.int32
        )
        table[0, keys, place], table[1, keys, place] = starts, ends
        return Intervals(table[0], table[1], len(self.starts))

    def _beside(self, other: Intervals) -> tuple[Tensor, Tensor]:
        return torch.cat([self.starts, other.starts], 1), torch.cat([self.ends, other.ends], 1)

    def _clipped(self, other: Intervals) -> Intervals:
        """`&` where one of the two has a single run a row."""
        starts, ends = torch.maximum(self.starts, other.starts), torch.minimum(self.ends, other.ends)
        return tidy(starts, ends, self.num_kv)

    def _joined(self, other: Intervals) -> Intervals:
        """`|` where both have a single run a row: no sorting."""
        is_first = self.starts <= other.starts
        start, later = torch.minimum(self.starts, other.starts), torch.maximum(self.starts, other.starts)
        end, last = self.ends.where(is_first, other.ends), other.ends.where(is_first, self.ends)
        meet = later <= end
        end, last = torch.maximum(end, last).where(meet, end), last.masked_fill(meet, self.num_kv)
        later = later.masked_fill(meet, self.num_kv)
        return trimmed(torch.cat([start, later], 1), torch.cat([end, last], 1), self.num_kv)


def tidy(starts: Tensor, ends: Tensor, num_kv: int) -> Intervals:
    """Intervals of (Tq, K) starts and ends that are ascending and do not touch, but some of which may be empty."""
    empty = starts >= ends
    starts, ends = starts.masked_fill(empty, num_kv), ends.masked_fill(empty, num_kv)
    if starts.shape[1] > 1 and bool((empty[:, :-1] & ~empty[:, 1:]).any()):
        # Each by itself: both ascend in the same order, and the empty ones go last in both.
        starts, ends = starts.sort(1).values, ends.sort(1).values
    return trimmed(starts, ends, num_kv)


def trimmed(starts: Tensor, ends: Tensor, num_kv: int) -> Intervals:
    """Intervals without the columns that no row uses."""
    width = starts.shape[1]
    while width and not bool((starts[:, width - 1] < ends[:, width - 1]).any()):
        width -= 1
    return Intervals(starts[:, :width].int(), ends[:, :width].int(), num_kv)


def covered(starts: Tensor, ends: Tensor, num_kv: int, least: int = 1) -> Intervals:
    """The keys that lie in at least `least` of a row's intervals: 1 is the union; 2, of two masks, the intersection.

    `starts` and `ends` are (Tq, K) in any order; empty ones must be `num_kv, num_kv`.
    """
    # Depth is counted along the sorted edges. Where edges meet, a union goes up first, so that what touches is one run;
    # above that it goes down first, so that what only touches is not common.
    up, down = (0, 1) if least == 1 else (1, 0)
    edges = torch.cat([starts.int() * 2 + up, ends.int() * 2 + down], 1).sort(1).values
    is_up = (edges & 1) == up
    depth = (is_up.to(torch.int32) * 2 - 1).cumsum(1, dtype=torch.int32)
    opens, closes = is_up & (depth == least), ~is_up & (depth == least - 1)
    found = _collected(opens, closes, edges >> 1, num_kv)
    return trimmed(found.starts, found.ends, num_kv)


def _collected(opens: Tensor, closes: Tensor, places: Tensor, num_kv: int) -> Intervals:
    """Intervals from where runs open and close, both bool (Tq, M), at `places`, (Tq, M) or (M,)."""
    width = int(opens.sum(1).max()) if opens.numel() else 0
    starts = torch.full((len(opens), width), num_kv, dtype=torch.int32)
    ends = starts.clone()
    for edges, column in ((opens, starts), (closes, ends)):
        rows, at = edges.nonzero(as_tuple=True)
        rank = torch.arange(len(rows)) - (edges.sum(1).cumsum(0) - edges.sum(1))[rows]
        column[rows, rank] = (places[at] if places.dim() == 1 else places[rows, at]).int()
    return Intervals(starts, ends, num_kv)
