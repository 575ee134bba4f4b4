"""What a run tells on stderr while it runs: a bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

_PLAIN_LINE_EVERY_S = 10.0


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


class Teller:
    """Tells of a run; silent where `enabled` is False (every rank but the first)."""

    def __init__(self, *, enabled: bool) -> None:
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, quiet=not enabled)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._num_steps = self._done_before = 0
        self._began_s = self._told_s = time.monotonic()

    def note(self, text: str) -> None:
        """One line."""
        self._console.print(text, markup=False)

    def show(self, table: Table) -> None:
        """A table."""
        self._console.print(table)

    @contextmanager
    def training(self, num_steps: int, done: int = 0) -> Iterator[None]:
        """While steps are counted towards `num_steps`; `done` were before."""
        self._num_steps, self._done_before = num_steps, done
        self._began_s = self._told_s = time.monotonic()
        if not self._console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[told]}"),
        )
        with Progress(*columns, console=self._console, transient=True) as self._bar:
            self._task = self._bar.add_task("", total=num_steps, told="")
            try:
                yield
            finally:
                self._bar = None

    def step(self, place: str, done: int, loss: float, speed: Speed) -> None:
        """`done` steps are done, the last of them with this loss; `place` says where in the run that is."""
        now_s = time.monotonic()
        if self._bar is None and now_s - self._told_s < _PLAIN_LINE_EVERY_S:
            return
        self._told_s = now_s
        left_s = (now_s - self._began_s) / (done - self._done_before) * (self._num_steps - done)
        told = f"loss {loss:.4f}, {speed.describe()}, {_clock(left_s)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=place, told=told)
        else:
            self.note(f"{place}, step {done}/{self._num_steps}: {told}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
