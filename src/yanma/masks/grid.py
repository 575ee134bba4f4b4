"""Where documents lie among flat indices: a token's document, and its position in that document."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from .intervals import Intervals, tidy

# R queries in a chunk of rows, K runs of keys a query


@dataclass(frozen=True)
class Grid:
    """Documents end to end, of so many queries and so many keys each."""

    lengths: tuple[int, ...]
    kv_lengths: tuple[int, ...]

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(Tq, Tk)."""
        return sum(self.lengths), sum(self.kv_lengths)

    @cached_property
    def q_ends(self) -> list[int]:
        """Where each document's queries end."""
        return list(accumulate(self.lengths))

    @cached_property
    def kv_ends(self) -> list[int]:
        """Where each document's keys end."""
        return list(accumulate(self.kv_lengths))

    @cached_property
    def longest(self) -> int:
        """The most keys of a document."""
        return max(self.kv_lengths, default=0)

    @cached_property
    def tables(self) -> Tensor:
        """(4, N) int32: each document's first query, number of queries, first key and number of keys."""
        rows = []
        for lengths in (self.lengths, self.kv_lengths):
            own = torch.tensor(lengths, dtype=torch.int64)
            rows += [own.cumsum(0) - own, own]
        return torch.stack(rows).int()

    def q_rows(self, document: int) -> slice:
        """The document's flat query indices."""
        return slice(self.q_ends[document] - self.lengths[document], self.q_ends[document])

    def kv_rows(self, document: int) -> slice:
        """The document's flat key indices."""
        return slice(self.kv_ends[document] - self.kv_lengths[document], self.kv_ends[document])

    def rows(self, start: int, end: int) -> Rows:
        """The queries `start <= q_idx < end`."""
        first = bisect_right(self.q_ends, start)
        last = bisect_right(self.q_ends, end - 1) + 1
        bounds = torch.tensor([0, *self.q_ends])[first : last + 1].clamp(start, end)
        return Rows(self, start, end, torch.arange(first, last).repeat_interleave(bounds.diff()))

    def pairs(self, q_idx: Tensor, kv_idx: Tensor) -> Pairs:
        """Flat queries and keys, told by document and position."""
        q_doc, q = _places(self.lengths, q_idx)
        kv_doc, kv = _places(self.kv_lengths, kv_idx)
        return Pairs(self, q_idx, kv_idx, q_doc, kv_doc, q, kv)


def _places(lengths: tuple[int, ...], index: Tensor) -> tuple[Tensor, Tensor]:
    """The document of each flat index, and its position there."""
    ends = torch.tensor(lengths, dtype=torch.int64, device=index.device).cumsum(0)
    document = torch.searchsorted(ends, index, right=True)
    starts = torch.cat([ends.new_zeros(1), ends])
    return document, index - starts[document]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a query and a key: all tensors int64, broadcast against each other."""

    grid: Grid
    q_idx: Tensor
    kv_idx: Tensor
    q_doc: Tensor
    kv_doc: Tensor
    q: Tensor
    """The query's position in its document."""
    kv: Tensor
    """The key's position in its document."""

    @cached_property
    def together(self) -> Tensor:
        """Bool: query and key belong to one document."""
        return self.q_doc == self.kv_doc

    def of_documents(self, values: tuple[int, ...], side: Tensor) -> Tensor:
        """One number a document, at `side` (`q_doc` or `kv_doc`)."""
        return torch.tensor(values, dtype=torch.int64, device=side.device)[side]


@dataclass(frozen=True, eq=False)
class Rows:
    """A chunk of R queries, for lowering to intervals: (R,) each."""

    grid: Grid
    start: int
    end: int
    document: Tensor
    """int64."""

    @cached_property
    def q(self) -> Tensor:
        """int32: position in the document."""
        return torch.arange(self.start, self.end, dtype=torch.int32) - self._told(0)

    @cached_property
    def num_q(self) -> Tensor:
        """int32: queries of the document."""
        return self._told(1)

    @cached_property
    def kv_start(self) -> Tensor:
        """int32: the document's first key."""
        return self._told(2)

    @cached_property
    def num_kv(self) -> Tensor:
        """int32: keys of the document."""
        return self._told(3)

    def _told(self, table: int) -> Tensor:
        return self.grid.tables[table][self.document]

    @cached_property
    def whole(self) -> Intervals:
        """Each query's whole document."""
        return self.runs(torch.zeros_like(self.q), self.num_kv)

    def runs(self, starts: Tensor, ends: Tensor) -> Intervals:
        """From positions in the document, (R,) or (R, K), ascending, not touching; cut at the document's ends."""
        starts, ends = (x.view(len(self.q), -1) for x in (starts, ends))
        starts = starts.clamp(min=0) + self.kv_start[:, None]
        ends = torch.minimum(ends, self.num_kv[:, None]) + self.kv_start[:, None]
        return tidy(starts, ends, self.grid.shape[1])

    def flat(self, starts: Tensor, ends: Tensor) -> Intervals:
        """From flat key indices, (R,) or (R, K), ascending, not touching."""
        return tidy(starts.view(len(self.q), -1), ends.view(len(self.q), -1), self.grid.shape[1])
