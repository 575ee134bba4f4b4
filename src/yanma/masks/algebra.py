"""The tree: `&`, `|` and `~` of masks, and the kinds that their simplification knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .grid import Grid, Pairs, Rows
from .intervals import Intervals
from .mask import Mask, Numbers, Shape, short
from .numbers import whole, wholes


@dataclass(frozen=True, repr=False)
class Full(Mask):
    """See `full()`."""

    def _seen(self, pairs: Pairs) -> Tensor:
        return torch.ones_like(pairs.together)

    def _runs(self, rows: Rows) -> Intervals:
        starts = torch.zeros_like(rows.q)
        return rows.flat(starts, starts + rows.grid.shape[1])

    def _say(self, numbers: Numbers) -> str:
        return "full()"

    def _across(self) -> bool | None:
        return True


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

    def _seen(self, pairs: Pairs) -> Tensor:
        distance = pairs.kv - pairs.q
        seen = pairs.together
        if self.left is not None:
            seen = seen & (distance >= -self.left)
        if self.right is not None:
            seen = seen & (distance <= self.right)
        return seen

    def _runs(self, rows: Rows) -> Intervals:
        # A reach beyond the longest document sees no more, and would overflow.
        reach = sum(rows.grid.shape)
        starts = torch.zeros_like(rows.q) if self.left is None else rows.q - min(self.left, reach)
        ends = rows.num_kv if self.right is None else rows.q + min(self.right, reach) + 1
        return rows.runs(starts, ends)

    def _say(self, numbers: Numbers) -> str:
        return "causal()" if (self.left, self.right) == (None, 0) else f"window({self.left}, {self.right})"


@dataclass(frozen=True, repr=False)
class Documents(Mask):
    """See `documents()`; lengths of None are not known yet."""

    lengths: tuple[int, ...] | None
    kv_lengths: tuple[int, ...] | None

    def __post_init__(self) -> None:
        if self.lengths is None or self.kv_lengths is None:
            if self.lengths is not self.kv_lengths:
                raise ValueError("documents: kv_lengths without lengths; give both")
            return
        for name, lengths in (("lengths", self.lengths), ("kv_lengths", self.kv_lengths)):
            if any(length < 0 for length in lengths):
                raise ValueError(f"documents: {name} has a negative length: {short(lengths)}")
        if len(self.lengths) != len(self.kv_lengths):
            raise ValueError(
                f"documents: {len(self.lengths)} lengths but {len(self.kv_lengths)} kv_lengths; "
                f"give one of each a document"
            )

    @cached_property
    def grid(self) -> Grid:
        """Where the documents lie."""
        if self.lengths is None or self.kv_lengths is None:
            raise ValueError("documents has no lengths; use bind(lengths)")
        return Grid(self.lengths, self.kv_lengths)

    @property
    def shape(self) -> Shape | None:
        return None if self.lengths is None else self.grid.shape

    @property
    def frame(self) -> Documents | None:
        return None if self.lengths is None else self

    def _seen(self, pairs: Pairs) -> Tensor:
        return pairs.together

    def _runs(self, rows: Rows) -> Intervals:
        return rows.whole

    def _say(self, numbers: Numbers) -> str:
        if self.lengths is None or self.kv_lengths is None:
            return "documents"
        cross = "" if self.lengths == self.kv_lengths else f", kv_lengths={numbers(self.kv_lengths)}"
        return f"documents({numbers(self.lengths)}{cross})"

    def _within(self, grid: Grid, document: int) -> Mask:
        return Full()


@dataclass(frozen=True, repr=False)
class _Combined(Mask):
    """Parts that share one frame."""

    masks: tuple[Mask, ...]

    def __post_init__(self) -> None:
        if self.frame:
            for mask in self.masks:
                for leaf in mask._leaves():
                    leaf._check(self.frame.grid)

    @cached_property
    def frame(self) -> Documents | None:
        return _common_frame(self.masks)

    @cached_property
    def shape(self) -> Shape | None:
        return self.frame.shape if self.frame else _common_shape(self.masks)

    def _columns(self, grid: Grid) -> int:
        return sum(mask._columns(grid) for mask in self.masks)

    def _is_alike(self) -> bool:
        return all(mask._is_alike() for mask in self.masks)

    def _leaves(self) -> Iterator[Mask]:
        for mask in self.masks:
            yield from mask._leaves()

    def _joined(self, sign: str, bracketed: type[Mask], numbers: Numbers) -> str:
        texts = ((mask._say(numbers), isinstance(mask, bracketed)) for mask in self.masks)
        return sign.join(f"({text})" if brackets else text for text, brackets in texts)


@dataclass(frozen=True, repr=False)
class And(_Combined):
    """All parts allow the pair. Made by `&`, which flattens and simplifies."""

    def _seen(self, pairs: Pairs) -> Tensor:
        seen = self.masks[0]._seen(pairs)
        for mask in self.masks[1:]:
            seen = seen & mask._seen(pairs)
        return seen

    def _runs(self, rows: Rows) -> Intervals:
        # What stays within documents by itself need not be cut at their ends.
        masks = [mask for mask in self.masks if not isinstance(mask, Documents)]
        if not any(mask._across() is False for mask in masks):
            masks = list(self.masks)
        runs = masks[0]._runs(rows)
        for mask in masks[1:]:
            runs = runs & mask._runs(rows)
        return runs

    def terms(self) -> tuple[Mask, ...]:
        return self.masks

    def _say(self, numbers: Numbers) -> str:
        return self._joined(" & ", Or, numbers)

    def _across(self) -> bool | None:
        parts = [mask._across() for mask in self.masks]
        return False if False in parts else None if None in parts else True

    def _within(self, grid: Grid, document: int) -> Mask:
        return all_of([term for mask in self.masks for term in mask._within(grid, document).terms()])

    def _mapped(self, change: Callable[[Mask], Mask]) -> Mask:
        return all_of([term for mask in self.masks for term in mask._mapped(change).terms()])


@dataclass(frozen=True, repr=False)
class Or(_Combined):
    """Any part allows the pair. Made by `|`, which flattens."""

    def _seen(self, pairs: Pairs) -> Tensor:
        seen = self.masks[0]._seen(pairs)
        for mask in self.masks[1:]:
            seen = seen | mask._seen(pairs)
        return seen

    def _runs(self, rows: Rows) -> Intervals:
        runs = self.masks[0]._runs(rows)
        for mask in self.masks[1:]:
            runs = runs | mask._runs(rows)
        return runs

    def _say(self, numbers: Numbers) -> str:
        return self._joined(" | ", And, numbers)

    def _across(self) -> bool | None:
        parts = [mask._across() for mask in self.masks]
        return True if True in parts else None if None in parts else False

    def _within(self, grid: Grid, document: int) -> Mask:
        return any_of([mask._within(grid, document) for mask in self.masks])

    def _mapped(self, change: Callable[[Mask], Mask]) -> Mask:
        return any_of([mask._mapped(change) for mask in self.masks])


@dataclass(frozen=True, repr=False)
class Not(Mask):
    """The pair is allowed exactly where `mask` forbids it. Made by `~`.

    Pairs of different documents too: what a mask of positions forbids across documents, its negation allows.

    >>> print((~causal() | ~documents([1, 2])).show())
    .##
    #.#
    #..
    """

    mask: Mask

    @property
    def shape(self) -> Shape | None:
        return self.mask.shape

    @property
    def frame(self) -> Documents | None:
        return self.mask.frame

    def __invert__(self) -> Mask:
        return self.mask

    def _seen(self, pairs: Pairs) -> Tensor:
        return ~self.mask._seen(pairs)

    def _runs(self, rows: Rows) -> Intervals:
        return ~self.mask._runs(rows)

    def _say(self, numbers: Numbers) -> str:
        inner = self.mask._say(numbers)
        return f"~({inner})" if isinstance(self.mask, And | Or) else f"~{inner}"

    def _columns(self, grid: Grid) -> int:
        return 1 + self.mask._columns(grid)

    def _across(self) -> bool | None:
        inner = self.mask._across()
        return None if inner is None else not inner

    def _is_alike(self) -> bool:
        return self.mask._is_alike()

    def _within(self, grid: Grid, document: int) -> Mask:
        return ~self.mask._within(grid, document)

    def _leaves(self) -> Iterator[Mask]:
        return self.mask._leaves()

    def _mapped(self, change: Callable[[Mask], Mask]) -> Mask:
        return ~self.mask._mapped(change)


def full() -> Mask:
    """Every query reads every key, of any document.

    >>> print(full().show(2))
    ##
    ##
    """
    return Full()


def causal() -> Mask:
    """A query reads itself and whatever stands before it in its document: `window(None, 0)`.

    Where a document has another number of keys, query 0 stands beside key 0 (top left, as torch's `is_causal`):

    >>> print(causal().show((2, 4)))
    #...
    ##..
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
    """
    if left is None and right is None:
        return Full()
    reaches = (("left", left), ("right", right))
    return Window(*(None if reach is None else whole("window", name, reach) for name, reach in reaches))


def documents(lengths: Iterable[int] | None = None, kv_lengths: Iterable[int] | None = None) -> Mask:
    """Each query reads the keys of its own document; documents lie end to end, of the given lengths in tokens.

    `kv_lengths` are the documents' lengths on the key side where they differ (cross-attention). Without lengths it
    stands for documents that `bind` names later.

    >>> print(documents([1, 2]).show())
    #..
    .##
    .##
    >>> print(documents([1, 2], kv_lengths=[3, 1]).show())
    ###.
    ...#
    ...#
    """
    own = None if lengths is None else wholes("documents", "lengths", lengths)
    return Documents(own, own if kv_lengths is None else wholes("documents", "kv_lengths", kv_lengths))


def bound(mask: Mask, lengths: Iterable[int], kv_lengths: Iterable[int] | None) -> Mask:
    """The expression with these lengths for each `documents` that has none; see `Mask.bind`."""
    if not has_documents(mask):
        text = f"({mask.describe()})" if isinstance(mask, Or) else mask.describe()
        raise ValueError(f"{text} has no documents to bind; write documents(lengths) & {text}")
    known = documents(lengths, kv_lengths)

    def change(leaf: Mask) -> Mask:
        if not isinstance(leaf, Documents) or leaf == known:
            return leaf
        if leaf.lengths is not None:
            raise ValueError(f"bind: the mask has {leaf.describe()} already, which is not {known.describe()}")
        return known

    return mask._mapped(change)


def all_of(masks: Sequence[Mask]) -> Mask:
    """The intersection, simplified where that is exact: windows to the tighter one, no repeats, no `full()`."""
    windows = [m for m in masks if isinstance(m, Window)]
    others = [m for m in dict.fromkeys(masks) if not isinstance(m, Window | Full)]
    if any(isinstance(m, Documents) and m.lengths is not None for m in others):
        others = [m for m in others if m != Documents(None, None)]
    if windows:
        lefts = [w.left for w in windows if w.left is not None]
        rights = [w.right for w in windows if w.right is not None]
        others.append(Window(min(lefts, default=None), min(rights, default=None)))
    match others:
        case []:
            return Full()
        case [only]:
            return only
        case _:
            return _consistent(And(tuple(others)))


def any_of(masks: Sequence[Mask]) -> Mask:
    """The union, flat and without repeats; beside `full()` only what says of how many tokens."""
    parts = [part for mask in masks for part in (mask.masks if isinstance(mask, Or) else (mask,))]
    kept = list(dict.fromkeys(parts))
    if Full() in kept:
        kept = [m for m in kept if m == Full() or m.shape is not None or has_documents(m)]
    return kept[0] if len(kept) == 1 else _consistent(Or(tuple(kept)))


def has_documents(mask: Mask) -> bool:
    """Whether the expression has `documents`, of known lengths or not."""
    return any(isinstance(leaf, Documents) for leaf in mask._leaves())


def _consistent(mask: Mask) -> Mask:
    mask.shape  # noqa: B018  # raises where parts cover different tokens
    return mask


def _common_frame(masks: Iterable[Mask]) -> Documents | None:
    framed = [m.frame for m in masks if m.frame is not None]
    for frame in framed[1:]:
        if frame != framed[0]:
            raise ValueError(
                f"{framed[0].describe()} is {framed[0].shape} and {frame.describe()} is {frame.shape}: "
                f"two different sets of documents in one mask; masks that are combined must cover the same tokens"
            )
    return framed[0] if framed else None


def _common_shape(masks: Iterable[Mask]) -> Shape | None:
    shaped = [m for m in masks if m.shape is not None]
    for mask in shaped[1:]:
        if mask.shape != shaped[0].shape:
            raise ValueError(
                f"{shaped[0].describe()} is {shaped[0].shape} and {mask.describe()} is {mask.shape}: "
                f"masks that are combined must cover the same tokens"
            )
    return shaped[0].shape if shaped else None
