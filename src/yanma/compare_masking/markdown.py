"""The part of a Markdown page between two markers: `yanma compare-masking --write` writes it, the rest is by hand."""

from __future__ import annotations

from ..markers import Markers
from .report import Report
from .table import reading, table, without_seeds

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
        parts.append(f"**{metric.heading}** ({metric.better} is better)\n")
        parts.append("\n".join(without_seeds(table(lines)).markdown()) + "\n")  # they are in the HTML page
    return "\n".join(parts)
