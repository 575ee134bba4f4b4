"""What is told on stderr while something runs: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from .tables import Table

_PLAIN_LINE_EVERY_S = 10.0
_TOLD_EVERY = 1000
T = TypeVar("T")


@dataclass
class Speed:
    """What has been computed so far, and in which time."""

    seconds: float = 0.0
    tokens: int = 0
    slots: int = 0
    """Places computed, tokens and padding."""
    slots_if_padded: int = 0
    """Places that padding each step to its longest example would have computed."""

    def add(self, lengths: Sequence[int], slots: int, seconds: float) -> None:
        """Count one step: its examples' tokens, the places computed for them, and the time that took."""
        self.seconds += seconds
        self.tokens += sum(lengths)
        self.slots += slots
        self.slots_if_padded += len(lengths) * max(lengths)

    @property
    def tokens_per_s(self) -> float:
        """Real tokens, not padding."""
        return self.tokens / max(self.seconds, 1e-9)

    @property
    def padding_computed(self) -> float:
        """Share of the places computed that held padding."""
        return 1 - self.tokens / max(self.slots, 1)

    @property
    def padding_avoided(self) -> float:
        """Share of what padding each step to its longest would compute that was not computed; below 0: more was."""
        return 1 - self.slots / max(self.slots_if_padded, 1)

    def describe(self) -> str:
        """Tokens per second, and the share of padding: avoided, or computed where more was than had to be.

        >>> speed = Speed()
        >>> speed.add([30, 10], slots=40, seconds=0.01)
        >>> speed.describe()
        '4,000 tokens/s, 33 % padding avoided'
        """
        share = self.padding_avoided
        told = f"{share:.0%} padding avoided" if share >= 0 else f"{self.padding_computed:.0%} of it padding"
        return f"{self.tokens_per_s:,.0f} tokens/s, {told}".replace("%", " %")


class ProgressReporter:
    """Tells on stderr of what runs; silent where `enabled` is False (every rank but the first)."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, quiet=not enabled)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._total = self._done = self._done_before = 0
        self._began_s = self._told_s = time.monotonic()

    def note(self, text: str) -> None:
        """One line."""
        self._console.print(text, markup=False)

    def show(self, table: Table) -> None:
        """A table."""
        self._console.print(table)

    @contextmanager
    def counting(self, total: int, *, done: int = 0, name: str = "") -> Iterator[None]:
        """While what is done is counted towards `total`; `done` were before. A name is a line where there is no bar."""
        self._total, self._done, self._done_before = total, done, done
        self._began_s = self._told_s = time.monotonic()
        if not self._console.is_terminal or not total:
            if name:
                self.note(name)
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        told = TextColumn("{task.fields[told]}")
        with Progress(*columns, told, console=self._console, transient=True) as self._bar:
            self._task = self._bar.add_task(name, total=total, completed=done, told="")
            try:
                yield
            finally:
                self._bar = None

    def step(self, place: str, done: int, told: str) -> None:
        """So many are done, at a `place`; without a bar a line now and then."""
        self._done, now_s = done, time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=place, told=f"{told}, {self._left()}")
        elif now_s - self._told_s >= _PLAIN_LINE_EVERY_S:
            self._told_s = now_s
            self.note(f"{place}, step {done}/{self._total}: {told}, {self._left()}")

    def reading(self, items: Callable[[], Iterable[T]], what: str) -> Callable[[], Iterator[T]]:
        """The same items, told while they are read: each reading of all of them is one of what is counted."""

        def read() -> Iterator[T]:
            before, number = self._done, 0
            for number, item in enumerate(items(), 1):
                yield item
                if number % _TOLD_EVERY == 0:
                    self.step(f"reading {before + 1} of {self._total}", before, f"{number:,} {what}")
            self.step(f"reading {before + 1} of {self._total}", before + 1, f"{number:,} {what}")

        return read

    def one_more(self, told: str) -> None:
        """One more is done, which is a line."""
        self._done += 1
        if self._bar is not None:
            self._bar.advance(self._task)
            self.note(told)
        else:
            self.note(f"[{self._done}/{self._total}, {self._left()}] {told}")

    def turn(self, who: str) -> None:
        """Someone's turn begins, of those that are counted."""
        if self._bar is not None:
            self._bar.update(self._task, advance=1, told=who)

    def _left(self) -> str:
        seconds = time.monotonic() - self._began_s
        return f"{_clock(seconds / max(1, self._done - self._done_before) * (self._total - self._done))} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
