"""Which items move the weights together, epoch by epoch: a pure function of the items, the seed and the epoch.

A step is one move of the weights; its items, examples or blocks, are shared among the ranks, and each rank computes its
share in packs that fit the memory. Neither cut changes the gradient: the loss is a sum divided once by what is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from ..packing import shuffled

WINDOW = 4096
"""Items of a stream that are held at once: blocks of 512 tokens take 8 MB, and as much again where words are kept."""


class Item(Protocol):
    """An example or a block."""

    @property
    def key(self) -> int:
        """Its place in the data."""

    @property
    def num_tokens(self) -> int:
        """How much of a step's room it takes."""


Step = Sequence[Any]
"""The items of one move of the weights."""


class Order(Protocol):
    """What the loop asks."""

    def steps(self, epoch: int, begin: int = 0) -> Iterator[Step]:
        """The steps of an epoch (from 0), without the first `begin`; each has an item."""


@dataclass(frozen=True)
class StepSize:
    """How large a step is: so many items, or as many as have so many tokens; a longer item makes a step of its own."""

    batch_size: int | None = None
    batch_tokens: int | None = None

    def cut(self, items: Iterable[tuple[Any, int]]) -> Iterator[list[Any]]:
        """Items, each with its tokens, in their order, as steps.

        >>> list(StepSize(batch_tokens=5).cut([("a", 3), ("b", 9), ("c", 2), ("d", 3)]))
        [['a'], ['b'], ['c', 'd']]
        """
        step: list[Any] = []
        total = 0
        for item, tokens in items:
            full = self.batch_size is not None and len(step) == self.batch_size
            full |= self.batch_tokens is not None and total + tokens > self.batch_tokens
            if step and full:
                yield step
                step, total = [], 0
            step.append(item)
            total += tokens
        if step:
            yield step


@dataclass(frozen=True)
class Shuffled:
    """Items in memory, in another order in each epoch."""

    items: Sequence[Any]
    lengths: Sequence[int]
    """Tokens of each."""
    seed: int
    size: StepSize

    def steps(self, epoch: int, begin: int = 0) -> Iterator[Step]:
        """See Order."""
        for step in islice(self._cut(epoch), begin, None):
            yield [self.items[index] for index in step]

    def count(self, epochs: int) -> int:
        """Steps of so many epochs."""
        return sum(1 for epoch in range(epochs) for _ in self._cut(epoch))

    def _cut(self, epoch: int) -> Iterator[list[int]]:
        order = shuffled(len(self.items), seed=self.seed, epoch=epoch)
        return self.size.cut((index, self.lengths[index]) for index in order)


@dataclass(frozen=True)
class Streamed:
    """Items as they come, so many at a time shuffled as by `Shuffled`; what is done is read again and passed over."""

    items: Callable[[], Iterable[Any]]
    """Begins anew at each call."""
    seed: int
    size: StepSize
    window: int = WINDOW
    """Items that are held and shuffled at once."""

    def steps(self, epoch: int, begin: int = 0) -> Iterator[Step]:
        """See Order."""
        return islice(self.size.cut((item, item.num_tokens) for item in self._shuffled(epoch)), begin, None)

    def _shuffled(self, epoch: int) -> Iterator[Any]:
        stream = iter(self.items())
        first = 0
        while held := list(islice(stream, self.window)):
            for number in shuffled(len(held), seed=self.seed, epoch=epoch, first=first):
                yield held[number - first]
            first += len(held)
            held.clear()  # before the next ones are read


def share(step: Step, *, rank: int, num_ranks: int) -> list[Any]:
    """The items of a step that one rank computes, in the step's order: every `num_ranks`-th from the longest down.

    >>> from yanma.data.examples import Example, Tokens
    >>> step = [Example(key, (Tokens(range(length)),), None) for key, length in enumerate((5, 9, 7))]
    >>> [[item.key for item in share(step, rank=rank, num_ranks=2)] for rank in range(2)]
    [[0, 1], [2]]
    """
    longest_first = sorted(
        range(len(step)), key=lambda place: -step[place].num_tokens
    )  # equals stay as they are
    return [step[place] for place in sorted(longest_first[rank::num_ranks])]
