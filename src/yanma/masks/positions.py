"""Kinds that depend on the positions of query and key in their document alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .grid import Grid, Pairs, Rows
from .intervals import Intervals
from .mask import Mask, Numbers
from .numbers import whole, wholes


@dataclass(frozen=True, repr=False)
class Prefix(Mask):
    """See `prefix()`."""

    lengths: int | tuple[int, ...]

    def __post_init__(self) -> None:
        if any(length < 0 for length in self._all(1)):
            raise ValueError(f"prefix: a length is negative: {self.describe()}")

    def _all(self, count: int) -> tuple[int, ...]:
        return (self.lengths,) * count if isinstance(self.lengths, int) else self.lengths

    def _check(self, grid: Grid) -> None:
        check_count("prefix", "lengths", self.lengths, grid)

    def _seen(self, pairs: Pairs) -> Tensor:
        lengths = pairs.of_documents(self._all(len(pairs.grid.lengths)), pairs.q_doc)
        return pairs.together & ((pairs.kv < lengths) | (pairs.kv <= pairs.q))

    def _runs(self, rows: Rows) -> Intervals:
        bounded = [min(length, rows.grid.longest) for length in self._all(len(rows.grid.lengths))]
        lengths = torch.tensor(bounded, dtype=torch.int32)[rows.document]
        return rows.runs(torch.zeros_like(rows.q), torch.maximum(lengths, rows.q + 1))

    def _say(self, numbers: Numbers) -> str:
        return f"prefix({self.lengths if isinstance(self.lengths, int) else numbers(self.lengths)})"

    def _is_alike(self) -> bool:
        return isinstance(self.lengths, int)

    def _within(self, grid: Grid, document: int) -> Mask:
        return self if isinstance(self.lengths, int) else Prefix(self.lengths[document])


@dataclass(frozen=True, repr=False)
class GlobalTokens(Mask):
    """See `global_tokens()`: the first `first` positions, and `positions`."""

    positions: tuple[int, ...]
    first: int

    def __post_init__(self) -> None:
        if self.first < 0 or any(position < 0 for position in self.positions):
            raise ValueError(f"global_tokens: a position counts from 0: {self.describe()}")

    @cached_property
    def _spans(self) -> tuple[tuple[int, int], ...]:
        """The positions as runs that ascend and do not touch."""
        runs = runs_of(position for position in self.positions if position >= self.first)
        if not self.first:
            return runs
        touching = runs[:1] if runs and runs[0][0] == self.first else ()
        return ((0, touching[0][1] if touching else self.first), *runs[len(touching) :])

    def _is_global(self, position: Tensor) -> Tensor:
        positions = torch.tensor(self.positions, dtype=torch.int64, device=position.device)
        return (position < self.first) | torch.isin(position, positions)

    def _seen(self, pairs: Pairs) -> Tensor:
        return pairs.together & (self._is_global(pairs.q) | self._is_global(pairs.kv))

    def _runs(self, rows: Rows) -> Intervals:
        spans = torch.tensor(self._spans, dtype=torch.int64).view(-1, 2).clamp(max=rows.grid.longest).int()
        starts = spans[:, 0].expand(len(rows.q), -1)
        ends = spans[:, 1].expand(len(rows.q), -1)
        is_global = torch.zeros_like(rows.q, dtype=torch.bool)
        for start, end in self._spans:
            is_global |= (rows.q >= start) & (rows.q < end)
        if bool(is_global.any()):
            starts, ends = starts.clone(), ends.clone()
            starts[is_global], ends[is_global] = 0, 0
            ends[:, -1] = torch.where(is_global, rows.num_kv, ends[:, -1])
        return rows.runs(starts, ends)

    def _columns(self, grid: Grid) -> int:
        return 2 + 2 * len(self._spans)

    def _say(self, numbers: Numbers) -> str:
        given = [numbers(self.positions)] if self.positions or not self.first else []
        return f"global_tokens({', '.join([*given, *([f'first={self.first}'] if self.first else [])])})"


@dataclass(frozen=True, repr=False)
class Chunked(Mask):
    """See `chunked()`."""

    size: int

    def __post_init__(self) -> None:
        check_positive("chunked", "size", self.size)

    def _seen(self, pairs: Pairs) -> Tensor:
        return pairs.together & (pairs.q // self.size == pairs.kv // self.size)

    def _runs(self, rows: Rows) -> Intervals:
        size = min(self.size, sum(rows.grid.shape))
        starts = rows.q // size * size
        return rows.runs(starts, starts + size)

    def _say(self, numbers: Numbers) -> str:
        return f"chunked({self.size})"


@dataclass(frozen=True, repr=False)
class Dilated(Mask):
    """See `dilated()`; None = no limit on that side."""

    step: int
    left: int | None
    right: int | None

    def __post_init__(self) -> None:
        check_positive("dilated", "step", self.step)
        for name, reach in (("left", self.left), ("right", self.right)):
            if reach is not None and reach < 0:
                raise ValueError(f"dilated: {name} is {reach}; it counts keys beside the query, so 0 or more")

    def _seen(self, pairs: Pairs) -> Tensor:
        distance = pairs.kv - pairs.q
        seen = pairs.together & (distance % self.step == 0)
        if self.left is not None:
            seen = seen & (distance >= -self.left * self.step)
        if self.right is not None:
            seen = seen & (distance <= self.right * self.step)
        return seen

    def _reaches(self, grid: Grid) -> tuple[int, int]:
        """Keys to the left and to the right that any query can have."""
        before = max(grid.lengths, default=0) // self.step
        after = grid.longest // self.step
        return (
            before if self.left is None else min(before, self.left),
            after if self.right is None else min(after, self.right),
        )

    def _runs(self, rows: Rows) -> Intervals:
        left, right = self._reaches(rows.grid)
        if self.step == 1:
            return rows.runs(rows.q - left, rows.q + right + 1)
        places = rows.q[:, None] + torch.arange(-left, right + 1, dtype=torch.int32) * self.step
        return rows.runs(places, (places + 1).clamp(min=0))

    def _columns(self, grid: Grid) -> int:
        return 1 + (sum(self._reaches(grid)) if self.step > 1 else 0)

    def _say(self, numbers: Numbers) -> str:
        return f"dilated({self.step}, {self.left}, {self.right})"


@dataclass(frozen=True, repr=False)
class Strided(Mask):
    """See `strided()`."""

    step: int

    def __post_init__(self) -> None:
        check_positive("strided", "step", self.step)

    def _seen(self, pairs: Pairs) -> Tensor:
        distance = pairs.q - pairs.kv
        reached = (distance < self.step) | (distance % self.step == 0)
        return pairs.together & (distance >= 0) & reached

    def _runs(self, rows: Rows) -> Intervals:
        if self.step == 1:
            return rows.runs(torch.zeros_like(rows.q), rows.q + 1)
        # The key `step` before touches the last `step` keys; those farther off stand alone.
        strides = torch.arange(self._columns(rows.grid), 1, -1, dtype=torch.int32) * self.step
        alone = rows.q[:, None] - strides
        near = rows.q[:, None] - min(self.step, sum(rows.grid.shape))
        starts, ends = torch.cat([alone, near], 1), torch.cat([alone + 1, rows.q[:, None] + 1], 1)
        return rows.runs(starts, ends.clamp(min=0))

    def _columns(self, grid: Grid) -> int:
        return 1 if self.step == 1 else max(1, max(grid.lengths, default=0) // self.step)

    def _say(self, numbers: Numbers) -> str:
        return f"strided({self.step})"


def prefix(lengths: int | Iterable[int]) -> Mask:
    """Prefix-LM: the first `lengths` tokens of a document are read by all its queries, the rest causally.

    One number for all documents, or one a document. Dong et al. 2019 (UniLM), Raffel et al. 2020 (T5).

    >>> print(prefix(2).show(4))
    ##..
    ##..
    ###.
    ####
    """
    give = wholes if isinstance(lengths, Iterable) else whole
    return Prefix(give("prefix", "lengths", lengths))


def global_tokens(positions: Iterable[int] | None = None, *, first: int | None = None) -> Mask:
    """Tokens that read their whole document and are read by all of it: those at `positions`, and the `first` ones.

    Beltagy et al. 2020 (Longformer), usually beside a window.

    >>> from yanma.masks import window
    >>> print((window(1, 1) | global_tokens(first=1)).show(5))
    #####
    ###..
    ####.
    #.###
    #..##
    >>> print(global_tokens([2]).show(4))
    ..#.
    ..#.
    ####
    ..#.
    """
    if positions is None and first is None:
        raise ValueError(
            "global_tokens: say which tokens are global: positions, or first=1 for the first token"
        )
    places = () if positions is None else wholes("global_tokens", "positions", positions)
    return GlobalTokens(
        tuple(sorted(set(places))), 0 if first is None else whole("global_tokens", "first", first)
    )


def chunked(size: int) -> Mask:
    """A query reads the keys of its own chunk of `size` positions. Llama 4 (Meta 2025) uses it with `causal()`.

    >>> from yanma.masks import causal
    >>> print((chunked(2) & causal()).show(5))
    #....
    ##...
    ..#..
    ..##.
    ....#
    """
    return Chunked(whole("chunked", "size", size))


def dilated(step: int, left: int | None, right: int | None) -> Mask:
    """A query reads itself, and keys at distances step, 2 * step, ...: `left` of them before, `right` after.

    None = no limit. `dilated(1, left, right)` is a window. Beltagy et al. 2020 (Longformer).

    >>> print(dilated(2, 2, 1).show(6))
    #.#...
    .#.#..
    #.#.#.
    .#.#.#
    #.#.#.
    .#.#.#
    """
    reaches = (("left", left), ("right", right))
    own = (None if reach is None else whole("dilated", name, reach) for name, reach in reaches)
    return Dilated(whole("dilated", "step", step), *own)


def strided(step: int) -> Mask:
    """A query reads the last `step` tokens, itself included, and before them each `step`-th. Child et al. 2019.

    >>> print(strided(3).show(8))
    #.......
    ##......
    ###.....
    ####....
    .####...
    ..####..
    #..####.
    .#..####
    """
    return Strided(whole("strided", "step", step))


def check_positive(kind: str, name: str, value: int) -> None:
    """Refuse a size that is not at least 1."""
    if value < 1:
        raise ValueError(f"{kind}: {name} is {value}; it must be 1 or more")


def check_count(kind: str, name: str, values: object, grid: Grid) -> None:
    """Refuse a tuple that has not one entry a document; a single value serves all documents."""
    if isinstance(values, tuple) and len(values) != len(grid.lengths):
        raise ValueError(
            f"{kind}: {len(values)} {name} for {len(grid.lengths)} documents; give one a document"
        )


def runs_of(places: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Numbers as runs (start, end) that ascend and do not touch.

    >>> runs_of([4, 1, 0, 4])
    ((0, 2), (4, 5))
    """
    runs: list[tuple[int, int]] = []
    for place in sorted(set(places)):
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return tuple(runs)
