"""Mask expressions are trees: a backend asks the tree what it is, so it can refuse what it cannot honour.

A mask says for each query which keys it may read: True = may read. Kinds that speak of positions count them within
documents, which the `documents` of the expression tell (without any, the whole sequence is one document).
Nothing of size Tq x Tk exists until somebody calls `dense()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .grid import Grid, Pairs, Rows
from .intervals import Intervals, trimmed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .algebra import Documents
    from .per_document import DocumentMask

Shape = tuple[int, int]
Numbers = Callable[[Sequence[object]], str]

_CHUNK_CELLS = 2**20
"""Intervals (or pairs, where a kind has no closed form) that are worked on at a time."""
_CHUNK_ROWS = 65_536


class TooWide(Exception):
    """Some query has `width` intervals, more than there is room for in a table of all queries."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.width = width


class Mask:
    """One node of a mask expression; combine with `&` (both), `|` (either), `~` (not), `-` (`a & ~b`).

    A kind defines `_seen`, `_runs` and `_say`; the others where it differs from the defaults.

    >>> from yanma.masks import causal, window
    >>> (causal() & window(1, 4)).describe()
    'window(1, 0)'
    """

    @property
    def shape(self) -> Shape | None:
        """(Tq, Tk) where the mask fixes it; None where it fits any size."""
        return None

    @property
    def frame(self) -> Documents | None:
        """The documents, of known lengths, within which positions are counted; None where there are none."""
        return None

    def visible(self, q_idx: Tensor, kv_idx: Tensor, n: int | Shape | None = None) -> Tensor:
        """The definition: may query `q_idx` read key `kv_idx`? Bool, broadcast over two flat int64 index tensors."""
        return self._seen(self._grid(n).pairs(q_idx, kv_idx))

    def dense(self, n: int | Shape | None = None, *, device: torch.device | str | None = None) -> Tensor:
        """Bool (Tq, Tk). `n` is the size for masks that fit any size: one number, or (Tq, Tk).

        >>> from yanma.masks import window
        >>> window(1, 0).dense(3).int().tolist()
        [[1, 0, 0], [1, 1, 0], [0, 1, 1]]

        Raises ValueError where the size is missing or contradicts the mask's own.
        """
        grid = self._grid(n)
        q_idx = torch.arange(grid.shape[0], device=device)[:, None]
        kv_idx = torch.arange(grid.shape[1], device=device)[None, :]
        return self._seen(grid.pairs(q_idx, kv_idx)).expand(grid.shape).contiguous()

    def intervals(self, n: int | Shape | None = None) -> Intervals:
        """For each query the runs of keys that it may read, on the host; `n` as in `dense`.

        >>> from yanma.masks import causal, documents
        >>> (documents([3, 2]) & causal()).intervals().starts.tolist()
        [[0], [0], [0], [3], [3]]
        """
        return self._intervals(self._grid(n), None)

    def per_document(self, n: int | Shape | None = None) -> tuple[DocumentMask, ...] | None:
        """Each document's own mask; None where some query reads another document.

        >>> from yanma.masks import causal, documents
        >>> (documents([3, 2]) & causal()).per_document()[1]
        DocumentMask(mask=causal(), num_q=2, num_kv=2)
        """
        from .per_document import split

        return split(self, self._grid(n))

    def bind(self, lengths: Iterable[int], kv_lengths: Iterable[int] | None = None) -> Mask:
        """The expression with these lengths for `documents` that has none.

        >>> from yanma.masks import causal, documents
        >>> (documents() & causal()).bind([3, 2]).describe()
        'documents([3, 2]) & causal()'

        Raises ValueError where the expression has no `documents`, or has other documents already.
        """
        from .algebra import bound

        return bound(self, lengths, kv_lengths)

    def show(
        self,
        n: int | Shape | None = None,
        *,
        queries: tuple[int, int] | None = None,
        keys: tuple[int, int] | None = None,
        tokens: Sequence[str] | None = None,
        color: bool = False,
    ) -> str:
        """A picture in text: one line a query, `#` = may read, `.` = may not; `+` where a cell is several pairs.

        `queries` and `keys` are ranges (start, stop) to look at; what has more than 64 on a side is drawn in larger
        cells. `tokens`, one text a query, stand beside the rows. `color` adds a terminal's colours.

        >>> from yanma.masks import window
        >>> print(window(1, 1).show(4, tokens=["the", "cat", "sat", "."]))
        ##..  the
        ###.  cat
        .###  sat
        ..##  .
        >>> print(window(1, 1).show(1000, queries=(500, 502), keys=(497, 503)))
        ..###.
        ...###
        queries 500:502 of 1000, keys 497:503 of 1000
        """
        from .pictures import picture, text

        return text(picture(self, n, queries, keys), tokens, color=color)

    def plot(self, n: int | Shape | None = None, tokens: Sequence[str] | None = None) -> Figure:
        """A matplotlib figure: documents in two colours and with lines between them, `tokens` along both sides.

        Needs matplotlib: pip install 'yanma[plot]'. What has more than 64 on a side is shaded by how much is visible.

        >>> from yanma.masks import causal
        >>> causal().plot(3, ["the", "cat", "sat"]).savefig("mask.png")  # doctest: +SKIP
        """
        from .pictures import picture
        from .plot import figure

        return figure(picture(self, n), self.describe(), tokens)

    def to_html(self, n: int | Shape | None = None, tokens: Sequence[str] | None = None) -> str:
        """A page of its own, for light and dark: the picture, and over each cell who reads whom.

        >>> from yanma.masks import causal
        >>> "query 1 'cat' reads key 0 'the'" in causal().to_html(2, ["the", "cat"])
        True
        """
        from .html import page
        from .pictures import picture

        return page(picture(self, n), self.describe(), tokens)

    def describe(self) -> str:
        """The expression as one would write it; long lists of numbers are shortened. `str(mask)` has them all."""
        return self._say(short)

    def terms(self) -> tuple[Mask, ...]:
        """The parts that all must allow a pair: the flattened `&`."""
        return (self,)

    def __and__(self, other: Mask) -> Mask:
        from .algebra import all_of

        return all_of((*self.terms(), *_checked(other).terms()))

    def __or__(self, other: Mask) -> Mask:
        from .algebra import any_of

        return any_of((self, _checked(other)))

    def __sub__(self, other: Mask) -> Mask:
        return self & ~_checked(other)

    def __invert__(self) -> Mask:
        from .algebra import Not

        return Not(self)

    def __repr__(self) -> str:
        return self.describe()

    def __str__(self) -> str:
        return self._say(lambda values: str(list(values)))

    def _seen(self, pairs: Pairs) -> Tensor:
        """The definition, pair by pair."""
        raise NotImplementedError

    def _runs(self, rows: Rows) -> Intervals:
        """The same, as intervals of a chunk of queries."""
        raise NotImplementedError

    def _say(self, numbers: Numbers) -> str:
        """The text, lists of numbers written by `numbers`."""
        raise NotImplementedError

    def _intervals(self, grid: Grid, most: int | None) -> Intervals:
        """As `intervals`; raises TooWide as soon as a table of more than `most` cells turns out to be needed."""
        num_q, num_kv = grid.shape
        starts = torch.full((num_q, 1), num_kv, dtype=torch.int32)
        ends = starts.clone()
        for start, chunk in self._chunks(grid, 0, num_q):
            end, width = start + len(chunk.starts), chunk.starts.shape[1]
            if most is not None and width * num_q > most:
                raise TooWide(width)
            if width > starts.shape[1]:
                starts, ends = (_widened(x, width, start, num_kv) for x in (starts, ends))
            starts[start:end, :width] = chunk.starts
            ends[start:end, :width] = chunk.ends
        return trimmed(starts, ends, num_kv)

    def _chunks(self, grid: Grid, start: int, end: int) -> Iterator[tuple[int, Intervals]]:
        """The intervals of the queries `start <= q_idx < end`, a chunk at a time, each with its first query."""
        step = max(1, min(_CHUNK_ROWS, _CHUNK_CELLS // max(1, self._columns(grid))))
        for first in range(start, end if grid.shape[1] else start, step):
            yield first, self._runs(grid.rows(first, min(first + step, end)))

    def _columns(self, grid: Grid) -> int:
        """About how many numbers `_runs` handles for a query."""
        return 2

    def _check(self, grid: Grid) -> None:
        """Raise ValueError where the mask cannot be one of these documents."""

    def _across(self) -> bool | None:
        """What holds for every pair of different documents; None where that differs from pair to pair."""
        return False

    def _is_alike(self) -> bool:
        """Whether `_within` is the same for all documents."""
        return True

    def _within(self, grid: Grid, document: int) -> Mask:
        """The mask inside one document, as a mask of that document alone."""
        return self

    def _leaves(self) -> Iterator[Mask]:
        yield self

    def _of_one_pack(self) -> Mask | None:
        """A leaf that says something of one pack alone, so that the mask fits no others; None = no leaf does."""
        return next((leaf for leaf in self._leaves() if leaf.shape is not None or not leaf._is_alike()), None)

    def _mapped(self, change: Callable[[Mask], Mask]) -> Mask:
        """The expression with each leaf changed."""
        return change(self)

    def _grid(self, n: int | Shape | None) -> Grid:
        """The documents; `n` is the size where the mask fits any."""
        wanted = (n, n) if isinstance(n, int) else n
        if self.shape is None and wanted is None:
            raise ValueError(
                f"{self.describe()} fits any size; say which: dense(n) or dense((num_q, num_kv)); "
                f"where it has documents, bind(lengths)"
            )
        if self.shape is not None and wanted not in (None, self.shape):
            raise ValueError(
                f"{self.describe()} is {self.shape[0]} x {self.shape[1]}, not {wanted[0]} x {wanted[1]}"
            )
        num_q, num_kv = self.shape or wanted  # type: ignore[misc]  # one of them is set
        if min(num_q, num_kv) < 0:
            raise ValueError(f"{self.describe()} cannot be {num_q} x {num_kv}; a size is 0 or more")
        grid = self.frame.grid if self.frame else Grid((num_q,), (num_kv,))
        for leaf in self._leaves():
            leaf._check(grid)
        return grid


def _checked(other: object) -> Mask:
    if not isinstance(other, Mask):
        raise TypeError(
            f"a mask combines with a mask, not with {type(other).__name__}; wrap a tensor in from_dense()"
        )
    return other


def _widened(x: Tensor, width: int, filled: int, value: int) -> Tensor:
    """`x` with more columns, of which the first `filled` rows hold something."""
    wide = x.new_full((len(x), width), value)
    wide[:filled, : x.shape[1]] = x[:filled]
    return wide


def short(values: Sequence[object]) -> str:
    """The values, or the first three where there are many."""
    if len(values) <= 6:
        return str(list(values))
    return f"[{', '.join(map(str, values[:3]))}, ... {len(values)} in all]"
