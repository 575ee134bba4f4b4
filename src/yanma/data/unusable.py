"""Rows that cannot be used: refused together with their number, or left out and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import DataError
from .rows import Row

OnBadRow = Literal["refuse", "skip", "repair"]


@dataclass
class Unusable:
    """What was found of a source's rows.

    >>> bad = Unusable("skip")
    >>> rows = [Row({"text": "Hello"}, "a.csv:2"), Row({"text": " "}, "a.csv:3")]
    >>> [row.where for row in bad.checked(rows, lambda row: row.text("text"))]
    ['a.csv:2']
    >>> bad.told(num_rows=2).partition("; ")[0]
    '1 of 2 rows cannot be used and is left out'
    """

    rule: OnBadRow = "refuse"
    count: int = 0
    first: DataError | None = None

    def meet(self, error: DataError) -> None:
        """Count a row that there is no more of than why it cannot be used."""
        self.count += 1
        self.first = self.first or error

    def checked(self, rows: Iterable[Row], check: Callable[[Row], object]) -> Iterator[Row]:
        """The rows that pass a check, which raises DataError."""
        for row in rows:
            try:
                check(row)
            except DataError as error:
                self.meet(error)
            else:
                yield row

    def told(self, num_rows: int) -> str | None:
        """What was left out of so many rows, in a sentence; None where nothing was.

        Raises the first error, with the number of all, where rows are not to be skipped.
        """
        if self.first is None:
            return None
        if self.rule != "skip":
            more = f" ({self.count} of {num_rows} rows cannot be used)" if self.count > 1 else ""
            advice = "; `on_bad_row` skip leaves such rows out" if self.count < num_rows else ""
            raise DataError(f"{self.first}{more}{advice}")
        are = "is" if self.count == 1 else "are"
        first = str(self.first).replace(
            "`", ""
        )  # a setting's name stands for itself where no command translates it
        return f"{self.count} of {num_rows} rows cannot be used and {are} left out; the first: {first}"
