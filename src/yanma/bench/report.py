"""What was measured, as plain data and as tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .machine import Machine
from .measure import Timing
from .parity import Verdict

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One contestant on one workload."""

    name: str
    timing: Timing
    setting: str = ""
    """Its best batch size: "16 texts"."""
    padding: float | None = None
    """Share of padding among the places computed; None = not known, or nothing is computed."""
    verdict: Verdict | None = None
    """None for the floor, which computes nothing that could be compared."""


@dataclass(frozen=True)
class Section:
    """All contestants of one kind of work on one workload."""

    part: str
    title: str
    workload: str
    about: str
    """The workload, in one line."""
    num_tokens: int
    rows: tuple[Row, ...]
    absent: tuple[tuple[str, str], ...] = ()
    """(baseline, why it did not take part)."""
    yardsticks: tuple[str, ...] = ("yanma",)
    """Rows by whose time the others are divided, round by round."""

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def columns(self) -> tuple[str, ...]:
        """Headings of `cells`."""
        ratios = tuple(f"x {name}" for name in self.yardsticks)
        return ("", "batch", "seconds", "p20-p80", "best", "tokens/s", "padding", *ratios, "off float64 by")

    def cells(self) -> Iterator[tuple[str, ...]]:
        """The table's rows, as text."""
        for row in self.rows:
            timing = row.timing
            ratios = (f"{timing.over(self.row(name).timing):.2f}" for name in self.yardsticks)
            yield (
                row.name,
                row.setting,
                f"{timing.median:.3f}",
                f"{timing.percentile(0.2):.3f}-{timing.percentile(0.8):.3f}",
                f"{timing.best:.3f}",
                f"{self.num_tokens / timing.median:,.0f}",
                "" if row.padding is None else f"{row.padding:.0%}".replace("%", " %"),
                *ratios,
                "" if row.verdict is None else row.verdict.text,
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "part": self.part,
            "workload": self.workload,
            "about": self.about,
            "tokens": self.num_tokens,
            "absent": dict(self.absent),
            "rows": [self._row_as_dict(row) for row in self.rows],
        }

    def _row_as_dict(self, row: Row) -> dict[str, Any]:
        timing = row.timing
        return {
            "name": row.name,
            "batch": row.setting,
            "seconds": {
                "rounds": timing.seconds,
                "median": timing.median,
                "p20": timing.percentile(0.2),
                "p80": timing.percentile(0.8),
                "best": timing.best,
            },
            "tokens_per_s": self.num_tokens / timing.median,
            "padding": row.padding,
            "times": {name: timing.over(self.row(name).timing) for name in self.yardsticks},
            "parity": None if row.verdict is None else asdict(row.verdict),
        }


@dataclass(frozen=True)
class Report:
    """One run."""

    machine: Machine
    model: str
    command: str
    rounds: int
    quick: bool
    sections: tuple[Section, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "machine": asdict(self.machine),
            "model": self.model,
            "command": self.command,
            "rounds": self.rounds,
            "quick": self.quick,
            "sections": [section.as_dict() for section in self.sections],
        }


def table(section: Section) -> Table:
    """A section's rows for a rich console."""
    from rich.table import Table

    found = Table(box=None, pad_edge=False)
    for index, heading in enumerate(section.columns()):
        found.add_column(heading, justify="right" if index else "left", no_wrap=index > 0)
    for cells in section.cells():
        found.add_row(*cells)
    return found
