"""What is told on stderr while it runs: a bar where a person watches, a line a stage where none does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Teller:
    """Tells of stages and of turns in them; silent where `enabled` is False."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not enabled)
        self._bar: Progress | None = None

    def note(self, text: str) -> None:
        """One line."""
        self._console.print(text, markup=False)

    @contextmanager
    def stage(self, name: str, num_turns: int) -> Iterator[None]:
        """While `num_turns` turns are taken."""
        if not self._console.is_terminal:
            self.note(name)
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(
            *columns, TextColumn("{task.fields[who]}"), console=self._console, transient=True
        ) as self._bar:
            self._task = self._bar.add_task(name, total=num_turns, who="")
            yield
        self._bar = None

    def turn(self, who: str) -> None:
        """Someone's turn begins."""
        if self._bar is not None:
            self._bar.update(self._task, advance=1, who=who)
