"""The part of a Markdown page between two markers: `yanma compare-masking --write` writes it, the rest is by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError
from .report import Report
from .statistics import Line
from .table import HEADINGS, reading, rows

BEGIN = "<!-- yanma compare-masking: begin; what stands between these markers is written by its --write -->"
END = "<!-- yanma compare-masking: end -->"


def check(path: Path) -> None:
    """Raise ConfigError, before anything is computed, where `write` could not write."""
    replaced(_text(path), "", str(path))


def write(path: Path, report: Report) -> None:
    """Rewrite the part between the markers."""
    path.write_text(replaced(_text(path), render(report), str(path)), encoding="utf-8")


def replaced(page: str, found: str, where: str) -> str:
    """The page with the part between the markers replaced.

    Raises ConfigError where the markers are not there, once each and in their order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ConfigError(
            f"{where}: it must have these two lines, between which the results go:\n{BEGIN}\n{END}"
        )
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n\n{found}\n{END}{rest.split(END)[1]}"


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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--write {path}: {error.strerror or error}") from None
