"""Which blocks move the weights together, epoch by epoch: a pure function of the blocks, the seed and the epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from ..packing import shuffled
from .blocks import Block, Blocks
from .steps import cut_epoch

WINDOW = 4096
"""Blocks of a stream that are held at once: of 512 tokens each, 8 MB, and as much again where words are kept."""

Step = Sequence[Block]
"""The blocks of one move of the weights."""


class Order(Protocol):
    """What the loop asks."""

    def steps(self, epoch: int, begin: int = 0) -> Iterator[Step]:
        """The steps of an epoch (from 0), without the first `begin`; each has a block."""


@dataclass(frozen=True)
class Shuffled:
    """Blocks in memory, in another order in each epoch."""

    blocks: Blocks
    seed: int
    batch_tokens: int
    """Of a step, at most; a longer block makes a step of its own."""

    def steps(self, epoch: int, begin: int = 0) -> Iterator[Step]:
        for step in self._cut(epoch)[begin:]:
            yield [self.blocks[index] for index in step]

    def count(self, epochs: int) -> int:
        """Steps of so many epochs."""
        return sum(len(self._cut(epoch)) for epoch in range(epochs))

    def _cut(self, epoch: int) -> list[tuple[int, ...]]:
        lengths = self.blocks.lengths
        return cut_epoch(
            lengths, seed=self.seed, epoch=epoch, batch_size=None, batch_tokens=self.batch_tokens
        )


@dataclass(frozen=True)
class Streamed:
    """Blocks as they come, so many at a time shuffled as by `Shuffled`; what is done is read again and passed over."""

    blocks: Callable[[], Iterable[Block]]
    """Begins anew at each call."""
    seed: int
    batch_tokens: int
    """Of a step, at most; a longer block makes a step of its own."""
    window: int = WINDOW
    """Blocks that are held and shuffled at once."""

    def steps(self, epoch: int, begin: int = 0) -> Iterator[Step]:
        return islice(self._cut(epoch), begin, None)

    def _cut(self, epoch: int) -> Iterator[Step]:
        step: list[Block] = []
        tokens = 0
        for block in self._shuffled(epoch):
            if step and tokens + len(block.ids) > self.batch_tokens:
                yield step
                step, tokens = [], 0
            step.append(block)
            tokens += len(block.ids)
        if step:
            yield step

    def _shuffled(self, epoch: int) -> Iterator[Block]:
        stream = iter(self.blocks())
        first = 0
        while held := list(islice(stream, self.window)):
            for number in shuffled(len(held), seed=self.seed, epoch=epoch, first=first):
                yield held[number - first]
            first += len(held)
            held.clear()  # before the next ones are read
