"""Times of several contestants, taken in turns, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

# Worker threads of a library spin for some milliseconds after its work, on cores that the next one needs.
PAUSE_S = 0.1

Turn = Callable[[], float]
"""Takes one turn; its seconds."""


@dataclass(frozen=True)
class Timing:
    """Seconds of each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """Seconds."""
        return min(self.seconds)

    def percentile(self, share: float) -> float:
        """Seconds; between two rounds by a straight line.

        >>> Timing((1.0, 2.0, 3.0)).percentile(0.75)
        2.5
        """
        ordered = sorted(self.seconds)
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    def over(self, other: Timing) -> float:
        """How many times as long as `other`: the median of the ratios round by round.

        >>> Timing((4.0, 10.0, 6.0)).over(Timing((2.0, 2.0, 3.0)))
        2.0
        """
        return statistics.median(mine / its for mine, its in zip(self.seconds, other.seconds, strict=True))


def timed(work: Callable[[], object]) -> Turn:
    """A turn that does `work` once."""

    def turn() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return turn


def in_turns(
    turns: Mapping[str, Turn],
    rounds: int,
    *,
    told: Callable[[str], None] = lambda name: None,
) -> dict[str, Timing]:
    """A B C A B C ...: `rounds` turns of each; `told` hears of each before it begins."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    with _clean_heap():
        for _ in range(rounds):
            for name, turn in turns.items():
                told(name)
                gc.collect()
                time.sleep(PAUSE_S)
                seconds[name].append(turn())
    return {name: Timing(tuple(each)) for name, each in seconds.items()}


@contextmanager
def _clean_heap() -> Iterator[None]:
    """What is there already is out of the collector's way: else each collection takes a tenth of a second and more."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
