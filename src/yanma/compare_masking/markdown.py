"""The part of a Markdown page between two markers: `yanma compare-masking --write` writes it, the rest is by hand."""

from __future__ import annotations

from collections.abc import Iterator

from ..markers import Markers
from .report import Report
from .statistics import Line
from .table import HEADINGS, reading, rows

MARKERS = Markers("yanma compare-masking")


def render(report: Report) -> str:
    """The outcome, as Markdown."""
    parts = [
        f"Computed on {report.date}, {len(report.pairs.seeds)} seeds:\n\n```sh\n{report.command}\n```\n",
        "\n".join(f"- {name}: {told}." for name, told in report.about) + "\n",
        reading(report.pairs) + "\n",
    ]
    for lines in report.lines():
        metric = lines[0].metric
        parts.append(f"**{metric.title[0].upper()}{metric.title[1:]}** ({metric.better} is better)\n")
        parts.append("\n".join(_table(lines)) + "\n")
    return "\n".join(parts)


def _table(lines: list[Line]) -> Iterator[str]:
    heads = HEADINGS[:-1]  # seed by seed is in the HTML page
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'---:|' * (len(heads) - 1)}"
    for cells in rows(lines):
        yield f"| {' | '.join(cells[:-1])} |"
