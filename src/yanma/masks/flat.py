"""Kinds that speak of flat indices and know no documents: padding, a tensor, a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .grid import Grid, Pairs, Rows
from .intervals import Intervals
from .mask import Mask, Numbers, Shape
from .numbers import whole, wholes
from .structure import Runs, Visible, VisibleRows, runs_of_rows

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class _Flat(Mask):
    """What all flat kinds share: they may fix the number of tokens, and may allow anything across documents."""

    def _check(self, grid: Grid) -> None:
        if self.shape not in (None, grid.shape):
            raise ValueError(
                f"{self.describe()} is {self.shape} and the documents are {grid.shape}: "
                f"masks that are combined must cover the same tokens"
            )

    def _across(self) -> bool | None:
        return None

    def _is_alike(self) -> bool:
        return False

    def _within(self, grid: Grid, document: int) -> Mask:
        q, kv = grid.q_rows(document), grid.kv_rows(document)
        num_kv = kv.stop - kv.start
        rows: list[Runs] = []
        for _, chunk in self._chunks(grid, q.start, q.stop):
            starts, ends = (x.clamp(kv.start, kv.stop) - kv.start for x in (chunk.starts, chunk.ends))
            rows += runs_of_rows(starts, ends)
        return Visible((VisibleRows(q.stop - q.start, num_kv, tuple(rows) or ((),) * (q.stop - q.start)),))

    def _runs(self, rows: Rows) -> Intervals:
        """From the pairs themselves: a chunk of rows at a time, every key."""
        queries = torch.arange(rows.start, rows.end)[:, None]
        keys = torch.arange(rows.grid.shape[1])
        return Intervals.from_bool(self._seen(rows.grid.pairs(queries, keys)).expand(len(queries), len(keys)))

    def _columns(self, grid: Grid) -> int:
        return grid.shape[1]


@dataclass(frozen=True, repr=False)
class Padding(_Flat):
    """See `padding()`."""

    lengths: tuple[int, ...]
    max_length: int

    def __post_init__(self) -> None:
        for row, length in enumerate(self.lengths):
            if not 0 <= length <= self.max_length:
                raise ValueError(f"padding: row {row} has length {length}; max_length is {self.max_length}")

    @property
    def shape(self) -> Shape:
        slots = len(self.lengths) * self.max_length
        return slots, slots

    def _seen(self, pairs: Pairs) -> Tensor:
        lengths = torch.tensor(self.lengths, device=pairs.q_idx.device)
        row = pairs.kv_idx // self.max_length
        return (pairs.q_idx // self.max_length == row) & (pairs.kv_idx % self.max_length < lengths[row])

    def _runs(self, rows: Rows) -> Intervals:
        row = torch.arange(rows.start, rows.end) // self.max_length
        starts = row * self.max_length
        return rows.flat(starts, starts + torch.tensor(self.lengths)[row])

    def _columns(self, grid: Grid) -> int:
        return 2

    def _say(self, numbers: Numbers) -> str:
        return f"padding({numbers(self.lengths)}, {self.max_length})"


@dataclass(frozen=True, repr=False, eq=False)
class Dense(_Flat):
    """See `from_dense()`; equal only to itself."""

    tensor: Tensor

    def __post_init__(self) -> None:
        if self.tensor.dim() != 2 or self.tensor.dtype != torch.bool:
            raise ValueError(
                f"from_dense: needs a bool tensor (Tq, Tk), True = may read; "
                f"got {self.tensor.dtype} {tuple(self.tensor.shape)}"
            )

    @property
    def shape(self) -> Shape:
        return self.tensor.shape[0], self.tensor.shape[1]

    def _seen(self, pairs: Pairs) -> Tensor:
        return self.tensor.to(pairs.q_idx.device)[pairs.q_idx, pairs.kv_idx]

    def _say(self, numbers: Numbers) -> str:
        return f"from_dense({self.tensor.shape[0]} x {self.tensor.shape[1]})"


@dataclass(frozen=True, repr=False)
class Function(_Flat):
    """See `from_mask_mod()`; equal where the function is the same object."""

    function: MaskMod
    size: Shape | None

    @property
    def shape(self) -> Shape | None:
        return self.size

    def _seen(self, pairs: Pairs) -> Tensor:
        zero = torch.zeros((), dtype=torch.int64, device=pairs.q_idx.device)
        seen = self.function(zero, zero, pairs.q_idx, pairs.kv_idx)
        if not isinstance(seen, Tensor) or seen.dtype != torch.bool:
            got = seen.dtype if isinstance(seen, Tensor) else type(seen).__name__
            raise ValueError(f"from_mask_mod: the function must return a bool tensor; got {got}")
        return seen.expand(torch.broadcast_shapes(pairs.q_idx.shape, pairs.kv_idx.shape))

    def _say(self, numbers: Numbers) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"from_mask_mod({name}{'' if self.size is None else f', shape={self.size}'})"


def padding(lengths: Iterable[int], max_length: int) -> Mask:
    """The mask of a padded rectangle, its rows end to end: each slot reads the valid slots of its own row.

    Row i has `lengths[i]` valid slots and then padding, `max_length` slots in all. As in every padded model,
    only keys are hidden: a padding slot still reads its row's tokens, and its output means nothing.

    >>> print(padding([1, 2], 2).show())
    #...
    #...
    ..##
    ..##
    """
    return Padding(wholes("padding", "lengths", lengths), whole("padding", "max_length", max_length))


def from_dense(tensor: Tensor) -> Mask:
    """The mask that a bool tensor (Tq, Tk) spells out, True = may read. It is copied: a mask never changes.

    >>> print(from_dense(torch.eye(3, dtype=torch.bool)).show())
    #..
    .#.
    ..#
    """
    return Dense(tensor.clone())


def from_mask_mod(function: MaskMod, shape: Shape | None = None) -> Mask:
    """The mask that a function `(b, h, q_idx, kv_idx) -> bool` of int64 tensors says, as flex_attention takes it.

    The function sees flat indices, with b = h = 0, and must broadcast. Dong et al. 2024 (FlexAttention).

    >>> print(from_mask_mod(lambda b, h, q, kv: (q + kv) % 2 == 0).show(3))
    #.#
    .#.
    #.#
    """
    return Function(function, shape)
