"""A report as a table."""

from __future__ import annotations

from ..objectives import Report, Score
from ..report.tables import Table


def table(report: Report, title: str, *, worst: int | None = None) -> Table:
    """Precision, recall and F1 of every class (`worst`: of that many with the lowest F1), and their averages."""
    classes = sorted(report.classes.items())
    if worst is not None and len(classes) > worst:
        title += f"; the {worst} of {len(classes)} classes with the lowest F1"
        classes = sorted(classes, key=lambda item: item[1].f1)[:worst]
    totals = [_cells(f"{name} average", score) for name, score in report.averages.items()]
    if report.accuracy is not None and report.headline_name != "accuracy":
        totals.append(("accuracy", "", "", f"{report.accuracy:.4f}", ""))
    return Table(
        ("class", "precision", "recall", "F1", "support"),
        (*(_cells(name, score) for name, score in classes), *totals),
        f"{title}: {report.headline_name} {report.headline:.4f}",
        num_totals=len(totals),
    )


def _cells(name: str, score: Score) -> tuple[str, ...]:
    return (name, *(f"{x:.4f}" for x in (score.precision, score.recall, score.f1)), str(score.support))
