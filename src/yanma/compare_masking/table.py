"""The figures in words and as a table, for the page and for Markdown."""

from __future__ import annotations

from ..report.tables import Table
from .arms import BASELINE
from .outcome import MAIN, Metric, Pairs
from .statistics import LEVEL, Estimate, Interval, Line, lines

_HEADINGS = (
    "arm", "mean", "95 % bootstrap", "95 % Student", f"difference from {BASELINE}", "95 % bootstrap", "95 % Student",
    "seed by seed",
)  # fmt: skip


def table(shown: list[Line]) -> Table:
    """A row an arm."""
    return Table(_HEADINGS, tuple(map(_row, shown)))


def without_seeds(whole: Table) -> Table:
    """The table without its last column, which is wide."""
    return Table(whole.columns[:-1], tuple(row[:-1] for row in whole.rows))


def _row(line: Line) -> tuple[str, ...]:
    plain, difference, metric = line.plain, line.difference, line.metric
    told = ("", "", "") if difference is None else _cells(difference, metric, signed=True)
    seeds = (difference or plain).values
    one_by_one = " ".join(metric.told(value, signed=difference is not None) for value in seeds)
    return (line.arm, *_cells(plain, metric), *told, one_by_one)


def reading(pairs: Pairs) -> str:
    """How many of the main differences are apart from 0, and how many would be by chance."""
    found = [
        line
        for metric in pairs.metrics
        if metric.name in MAIN
        for line in lines(pairs, metric)
        if line.difference is not None
    ]
    apart = [
        f"{line.arm}, {line.metric.name} ({line.metric.told(line.difference.mean, signed=True)})"
        for line in found
        if line.difference is not None and 0.0 not in line.difference.student
    ]
    measured = dict.fromkeys(line.metric.name for line in found)
    named = f": {'; '.join(apart)}" if apart else ""
    return (
        f"Of {len(found)} differences from {BASELINE} in {', '.join(measured)}, {len(apart)} have 0 outside of "
        f"Student's interval{named}. If there were no difference at all, about {len(found) * (1 - LEVEL):.1f} would by "
        f"chance: the intervals are not corrected for their number."
    )


def _cells(found: Estimate, metric: Metric, *, signed: bool = False) -> tuple[str, str, str]:
    def told(interval: Interval) -> str:
        return f"{metric.told(interval.low, signed=signed)} to {metric.told(interval.high, signed=signed)}"

    return metric.told(found.mean, signed=signed), told(found.bootstrap), told(found.student)
