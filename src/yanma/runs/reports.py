"""A report as a table."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from ..objectives import Report, Score


def table(report: Report, title: str, *, worst: int | None = None) -> Table:
    """Precision, recall and F1 of every class (`worst`: of that many with the lowest F1), and their averages."""
    classes = sorted(report.classes.items())
    if worst is not None and len(classes) > worst:
        title += f"; the {worst} of {len(classes)} classes with the lowest F1"
        classes = sorted(classes, key=lambda item: item[1].f1)[:worst]
    shown = Table(title=f"{title}: {report.headline_name} {report.headline:.4f}", title_justify="left")
    shown.add_column("class", overflow="fold")
    for name in ("precision", "recall", "F1", "support"):
        shown.add_column(name, justify="right")
    _add(shown, classes)
    shown.add_section()
    _add(shown, ((f"{name} average", score) for name, score in report.averages.items()))
    if report.accuracy is not None and report.headline_name != "accuracy":
        shown.add_row("accuracy", "", "", f"{report.accuracy:.4f}", "")
    return shown


def _add(shown: Table, scores: Iterable[tuple[str, Score]]) -> None:
    for name, score in scores:
        shown.add_row(
            Text(name), *(f"{x:.4f}" for x in (score.precision, score.recall, score.f1)), str(score.support)
        )
