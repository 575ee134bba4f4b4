"""Which examples share a pack: groups of examples under a token budget. Plain Python ints in, plain ints out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

TooLong = Literal["refuse", "alone", "truncate"]


@dataclass(frozen=True)
class Plan:
    """Which examples go together, and how long each of them is then."""

    groups: tuple[tuple[int, ...], ...]
    """Indices of examples; every example stands in exactly one group."""

    lengths: tuple[int, ...]
    """Tokens of each example, by index, after `truncate` where that was asked for."""

    truncated: int
    """How many examples `too_long="truncate"` cut."""


def plan(
    lengths: Sequence[int],
    max_batch_tokens: int,
    *,
    order: Iterable[int] | None = None,
    too_long: TooLong = "refuse",
) -> Plan:
    """Fill groups of at most `max_batch_tokens` tokens, taking the examples in `order` (default: longest first).

    Longest first puts equal lengths together, which is what makes attention over a pack cheap; a `shuffled` order
    keeps groups random. An example longer than the budget is never dropped: `refuse` raises, `alone` gives it a
    group of its own, `truncate` counts it as `max_batch_tokens` and says so in `Plan.lengths` (the caller cuts it).

    >>> plan([3, 1, 2, 3], max_batch_tokens=5).groups
    ((0,), (3, 2), (1,))
    >>> plan([3, 9], max_batch_tokens=5, too_long="alone").groups
    ((1,), (0,))
    """
    if max_batch_tokens < 1:
        raise ValueError(f"max_batch_tokens is {max_batch_tokens}; it must be 1 or more")
    if too_long not in ("refuse", "alone", "truncate"):
        raise ValueError(f"too_long is {too_long!r}; it must be 'refuse', 'alone' or 'truncate'")
    cut = tuple(min(n, max_batch_tokens) for n in lengths) if too_long == "truncate" else tuple(lengths)
    if too_long == "refuse":
        _refuse_too_long(cut, max_batch_tokens)
    indices = list(order) if order is not None else sorted(range(len(cut)), key=lambda i: -cut[i])
    if sorted(indices) != list(range(len(cut))):
        raise ValueError(f"order must name each of the {len(cut)} examples once")
    return Plan(
        _fill(indices, cut, max_batch_tokens), cut, sum(a != b for a, b in zip(cut, lengths, strict=True))
    )


def shuffled(num_examples: int, *, seed: int, epoch: int, first: int = 0) -> list[int]:
    """A random order of the examples from number `first` on, a pure function of these numbers, seed and epoch.

    >>> shuffled(5, seed=0, epoch=0) == shuffled(5, seed=0, epoch=0) != shuffled(5, seed=0, epoch=1)
    True
    """

    def key(index: int) -> bytes:
        return blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=8).digest()

    return sorted(range(first, first + num_examples), key=key)


def _fill(order: Iterable[int], lengths: tuple[int, ...], budget: int) -> tuple[tuple[int, ...], ...]:
    groups: list[tuple[int, ...]] = []
    group: list[int] = []
    tokens = 0
    for index in order:
        if group and tokens + lengths[index] > budget:
            groups.append(tuple(group))
            group, tokens = [], 0
        group.append(index)
        tokens += lengths[index]
    return (*groups, tuple(group)) if group else tuple(groups)


def _refuse_too_long(lengths: tuple[int, ...], budget: int) -> None:
    for index, length in enumerate(lengths):
        if length > budget:
            raise ValueError(
                f"example {index} has {length} tokens, max_batch_tokens is {budget}; "
                f"raise the budget or say too_long='alone' or 'truncate'"
            )
