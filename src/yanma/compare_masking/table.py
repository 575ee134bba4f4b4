"""The figures as rows of text, for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from .arms import BASELINE
from .outcome import MAIN, Metric, Pairs
from .statistics import LEVEL, Estimate, Interval, Line, lines

HEADINGS = (
    "arm", "mean", "95 % bootstrap", "95 % Student", f"difference from {BASELINE}", "95 % bootstrap", "95 % Student",
    "seed by seed",
)  # fmt: skip


def rows(shown: list[Line]) -> Iterator[tuple[str, ...]]:
    """A row an arm, as `HEADINGS` say."""
    for line in shown:
        plain, difference = line.plain, line.difference
        told = _cells(difference, line.metric, signed=True) if difference else ("", "", "")
        seeds = (difference or plain).values
        yield (
            line.arm,
            *_cells(plain, line.metric),
            *told,
            " ".join(line.metric.told(value, signed=difference is not None) for value in seeds),
        )


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
