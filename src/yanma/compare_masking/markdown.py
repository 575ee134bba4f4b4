"""The part of a Markdown page between two markers: `yanma compare-masking --write` writes it, the rest is by hand."""

from __future__ import annotations

from ..markers import Markers
from ..report.tables import markdown
from .report import Report
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
        shown = (cells[:-1] for cells in rows(lines))  # seed by seed is in the HTML page
        parts.append("\n".join(markdown(HEADINGS[:-1], shown)) + "\n")
    return "\n".join(parts)
