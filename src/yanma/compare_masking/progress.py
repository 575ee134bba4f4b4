"""What is told on stderr while runs are computed: a bar where a person watches, and a line a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from .outcome import METRICS, Outcome


class Teller:
    """Tells of runs; silent where `enabled` is False."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not enabled)
        self._bar: Progress | None = None
        self._done = self._total = 0
        self._began_s = time.monotonic()

    def note(self, text: str) -> None:
        """One line."""
        self._console.print(text, markup=False)

    @contextmanager
    def counting(self, num_runs: int) -> Iterator[None]:
        """While that many runs are computed."""
        self._done, self._total, self._began_s = 0, num_runs, time.monotonic()
        if not self._console.is_terminal or not num_runs:
            yield
            return
        columns = (
            BarColumn(20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as self._bar:
            self._task = self._bar.add_task("", total=num_runs)
            try:
                yield
            finally:
                self._bar = None

    def finished(self, outcome: Outcome) -> None:
        """A run is over."""
        shown = [metric for metric in METRICS if metric.name in outcome.figures]
        figures = ", ".join(f"{one.name} {one.told(outcome.figures[one.name])}" for one in shown)
        self._one_more(f"{outcome.name}: {figures} ({sum(outcome.seconds.values()):.0f} s)")

    def failed(self, told: str) -> None:
        """A run could not be computed."""
        self._one_more(f"failed: {told}")

    def _one_more(self, told: str) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.advance(self._task)
            self.note(told)
            return
        left_s = (time.monotonic() - self._began_s) / self._done * (self._total - self._done)
        self.note(f"[{self._done}/{self._total}, about {left_s / 60:.0f} min left] {told}")
