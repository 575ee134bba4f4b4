"""Mask expressions are trees: a backend asks the tree what it is, so it can refuse what it cannot honour.

A mask says for each query which keys it may read: True = may read. Indices are flat: query `q_idx` of Tq,
key `kv_idx` of Tk. Nothing of size Tq x Tk exists until somebody calls `dense()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Shape = tuple[int, int]


class Mask:
    """One node of a mask expression; combine nodes with `&` (both), `|` (either) and `~` (not).

    >>> (causal() & window(1, 4)).describe()
    'window(1, 0)'
    """

    @property
    def shape(self) -> Shape | None:
        """(Tq, Tk) where the mask fixes it; None where it fits any size."""
        return None

    def visible(self, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        """Bool, broadcast over two int64 index tensors: may query `q_idx` read key `kv_idx`?"""
        raise NotImplementedError

    def describe(self) -> str:
        """The expression as one would write it; long lists of numbers are shortened."""
        raise NotImplementedError

    def terms(self) -> tuple[Mask, ...]:
        """The parts that all must allow a pair: the flattened `&`."""
        return (self,)

    def __and__(self, other: Mask) -> Mask:
        return _all_of((*self.terms(), *_checked(other).terms()))

    def __or__(self, other: Mask) -> Mask:
        return _any_of(self, _checked(other))

    def __invert__(self) -> Mask:
        return Not(self)

    def __repr__(self) -> str:
        return self.describe()

    def dense(self, n: int | Shape | None = None, *, device: torch.device | str | None = None) -> Tensor:
        """Bool (Tq, Tk). `n` is the size for masks that fit any size: one number, or (Tq, Tk).

        >>> window(1, 0).dense(3).int().tolist()
        [[1, 0, 0], [1, 1, 0], [0, 1, 1]]

        Raises ValueError where the size is missing or contradicts the mask's own.
        """
        num_q, num_kv = self._size(n)
        q_idx = torch.arange(num_q, device=device)[:, None]
        kv_idx = torch.arange(num_kv, device=device)[None, :]
        return self.visible(q_idx, kv_idx).expand(num_q, num_kv).contiguous()

    def show(self, n: int | Shape | None = None) -> str:
        """A picture in text: one line a query, `#` = may read, `.` = may not.

        >>> print(window(1, 1).show(4))
        ##..
        ###.
        .###
        ..##
        """
        rows = self.dense(n).tolist()
        return "\n".join("".join(".#"[seen] for seen in row) for row in rows)

    def _size(self, n: int | Shape | None) -> Shape:
        wanted = (n, n) if isinstance(n, int) else n
        if self.shape is None and wanted is None:
            raise ValueError(
                f"{self.describe()} fits any size; say which: dense(n) or dense((num_q, num_kv))"
            )
        if self.shape is not None and wanted not in (None, self.shape):
            raise ValueError(
                f"{self.describe()} is {self.shape[0]} x {self.shape[1]}, not {wanted[0]} x {wanted[1]}"
            )
        return self.shape or wanted  # type: ignore[return-value]  # one of them is set


@dataclass(frozen=True, repr=False)
class Full(Mask):
    """See `full()`."""

    def visible(self, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return torch.ones(
            torch.broadcast_shapes(q_idx.shape, kv_idx.shape), dtype=torch.bool, device=q_idx.device
        )

    def describe(self) -> str:
        return "full()"


@dataclass(frozen=True, repr=False)
class Window(Mask):
    """See `window()`; None = no limit on that side."""

    left: int | None
    right: int | None

    def __post_init__(self) -> None:
        for name, reach in (("left", self.left), ("right", self.right)):
            if reach is not None and reach < 0:
                raise ValueError(
                    f"window: {name} is {reach}; a window counts tokens beside the query, so 0 or more"
                )

    def visible(self, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        distance = kv_idx - q_idx
        seen = torch.ones_like(distance, dtype=torch.bool)
        if self.left is not None:
            seen = seen & (distance >= -self.left)
        if self.right is not None:
            seen = seen & (distance <= self.right)
        return seen

    def describe(self) -> str:
        return "causal()" if (self.left, self.right) == (None, 0) else f"window({self.left}, {self.right})"


@dataclass(frozen=True, repr=False)
class Documents(Mask):
    """See `documents()`."""

    lengths: tuple[int, ...]
    kv_lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, lengths in (("lengths", self.lengths), ("kv_lengths", self.kv_lengths)):
            if any(length < 0 for length in lengths):
                raise ValueError(f"documents: {name} has a negative length: {_short(lengths)}")
        if len(self.lengths) != len(self.kv_lengths):
            raise ValueError(
                f"documents: {len(self.lengths)} lengths but {len(self.kv_lengths)} kv_lengths; "
                f"give one of each a document"
            )

    @cached_property
    def shape(self) -> Shape:
        return sum(self.lengths), sum(self.kv_lengths)

    def visible(self, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return _doc_ids(self.lengths, q_idx.device)[q_idx] == _doc_ids(self.kv_lengths, kv_idx.device)[kv_idx]

    def describe(self) -> str:
        cross = "" if self.lengths == self.kv_lengths else f", kv_lengths={_short(self.kv_lengths)}"
        return f"documents({_short(self.lengths)}{cross})"


@dataclass(frozen=True, repr=False)
class Padding(Mask):
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

    def visible(self, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        lengths = torch.tensor(self.lengths, device=q_idx.device)
        row = kv_idx // self.max_length
        return (q_idx // self.max_length == row) & (kv_idx % self.max_length < lengths[row])

    def describe(self) -> str:
        return f"padding({_short(self.lengths)}, {self.max_length})"


@dataclass(frozen=True, repr=False, eq=False)
class Dense(Mask):
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

    def visible(self, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return self.tensor.to(q_idx.device)[q_idx, kv_idx]

    def describe(self) -> str:
        return f"from_dense({self.tensor.shape[0]} x {self.tensor.shape[1]})"


@dataclass(frozen=True, repr=False)
class And(Mask):
    """All parts allow the pair. Made by `&`, which flattens and simplifies."""

    masks: tuple[Mask, ...]

    @cached_property
    def shape(self) -> Shape | None:
        return _common_shape(self.masks)

    def visible(self, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        seen = self.masks[0].visible(q_idx, kv_idx)
        for mask in self.masks[1:]:
            seen = seen & mask.visible(q_idx, kv_idx)
        return seen

    def terms(self) -> tuple[Mask, ...]:
        return self.masks

    def describe(self) -> str:
        return " & ".join(f"({m.describe()})" if isinstance(m, Or) else m.describe() for m in self.masks)


@dataclass(frozen=True, repr=False)
class Or(Mask):
    """Any part allows the pair. Made by `|`, which flattens."""

    masks: tuple[Mask, ...]

    @cached_property
    def shape(self) -> Shape | None:
        return _common_shape(self.masks)

    def visible(self, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        seen = self.masks[0].visible(q_idx, kv_idx)
        for mask in self.masks[1:]:
            seen = seen | mask.visible(q_idx, kv_idx)
        return seen

    def describe(self) -> str:
        return " | ".join(f"({m.describe()})" if isinstance(m, And) else m.describe() for m in self.masks)


@dataclass(frozen=True, repr=False)
class Not(Mask):
    """The pair is allowed exactly where `mask` forbids it. Made by `~`."""

    mask: Mask

    @property
    def shape(self) -> Shape | None:
        return self.mask.shape

    def visible(self, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return ~self.mask.visible(q_idx, kv_idx)

    def __invert__(self) -> Mask:
        return self.mask

    def describe(self) -> str:
        inner = self.mask.describe()
        return f"~({inner})" if isinstance(self.mask, And | Or) else f"~{inner}"


def full() -> Mask:
    """Every query reads every key.

    >>> print(full().show(2))
    ##
    ##
    """
    return Full()


def causal() -> Mask:
    """A query reads itself and whatever stands before it: `window(None, 0)`.

    >>> print(causal().show(3))
    #..
    ##.
    ###
    """
    return Window(None, 0)


def window(left: int | None, right: int | None) -> Mask:
    """A query reads up to `left` tokens before it, `right` after it, and itself (not counted). None = no limit.

    Others count the token itself, or give one number for both sides; here `window(1, 0)` is two keys wide:

    >>> print(window(1, 0).show(4))
    #...
    ##..
    .##.
    ..##

    Distances are between flat indices. Within one document of a pack they are the distances in that document.
    """
    return Full() if left is None and right is None else Window(left, right)


def documents(lengths: Iterable[int], kv_lengths: Iterable[int] | None = None) -> Mask:
    """Each query reads the keys of its own document; documents lie end to end, of the given lengths in tokens.

    `kv_lengths` are the documents' lengths on the key side where they differ (cross-attention).

    >>> print(documents([1, 2]).show())
    #..
    .##
    .##
    >>> print(documents([1, 2], kv_lengths=[3, 1]).show())
    ###.
    ...#
    ...#
    """
    own = tuple(int(n) for n in lengths)
    return Documents(own, own if kv_lengths is None else tuple(int(n) for n in kv_lengths))


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
    return Padding(tuple(int(n) for n in lengths), int(max_length))


def from_dense(tensor: Tensor) -> Mask:
    """The mask that a bool tensor (Tq, Tk) spells out, True = may read. Only dense backends can honour it."""
    return Dense(tensor)


def _all_of(masks: Sequence[Mask]) -> Mask:
    """The intersection, simplified where that is exact: windows to the tighter one, no repeats, no `full()`."""
    windows = [m for m in masks if isinstance(m, Window)]
    others = [m for m in dict.fromkeys(masks) if not isinstance(m, Window | Full)]
    if windows:
        lefts = [w.left for w in windows if w.left is not None]
        rights = [w.right for w in windows if w.right is not None]
        others.append(Window(min(lefts, default=None), min(rights, default=None)))
    _common_shape(others)
    match others:
        case []:
            return Full()
        case [only]:
            return only
        case _:
            return And(tuple(others))


def _any_of(a: Mask, b: Mask) -> Mask:
    parts = [*(a.masks if isinstance(a, Or) else (a,)), *(b.masks if isinstance(b, Or) else (b,))]
    kept = tuple(dict.fromkeys(parts))
    shape = _common_shape(kept)
    if shape is None and any(isinstance(m, Full) for m in kept):
        return Full()
    return kept[0] if len(kept) == 1 else Or(kept)


def _common_shape(masks: Iterable[Mask]) -> Shape | None:
    shaped = [m for m in masks if m.shape is not None]
    for mask in shaped[1:]:
        if mask.shape != shaped[0].shape:
            raise ValueError(
                f"{shaped[0].describe()} is {shaped[0].shape} and {mask.describe()} is {mask.shape}: "
                f"masks that are combined must cover the same tokens"
            )
    return shaped[0].shape if shaped else None


def _checked(other: object) -> Mask:
    if not isinstance(other, Mask):
        raise TypeError(
            f"a mask combines with a mask, not with {type(other).__name__}; wrap a tensor in from_dense()"
        )
    return other


def _doc_ids(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.repeat_interleave(torch.tensor(lengths, dtype=torch.int64, device=device))


def _short(numbers: Sequence[int]) -> str:
    if len(numbers) <= 6:
        return str(list(numbers))
    return f"[{', '.join(map(str, numbers[:3]))}, ... {len(numbers)} in all]"
