"""The report as one HTML page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from ..report import page as pages
from . import plot
from .arms import ARMS, BASELINE
from .outcome import MAIN
from .report import Report
from .statistics import Line
from .table import reading, table

METHOD = (
    "Arms of a seed are pairs: they begin with the same weights, read the same blocks of text in the same order for "
    "the same number of steps and tokens, and draw dropout by the same keys. Only what is hidden differs.",
    "Every model is judged on the same held-back text with one fixed corruption (15 % of tokens, drawn once), "
    'whatever it was trained on; under "where whole words are hidden" and the like, with one fixed corruption of that '
    "unit.",
    "The probe is a fine-tuning of the pre-trained model on another task, with the seed of its run.",
    "Intervals are over seeds, at 95 %: percentiles of a bootstrap that draws seeds, so that pairs stay together, and "
    "Student's t. With 5 seeds the bootstrap's is too narrow: for normal values it holds the truth in about 84 of 100 "
    "cases, Student's in 95.",
)
"""How it is measured, a sentence or two each."""


def page(report: Report) -> str:
    """The whole page."""
    shown = report.lines()
    drawn = [lines for lines in shown if lines[0].metric.name in MAIN]
    title = "Ways to mask, compared"
    return pages.page(
        title,
        f"<h1>{title}</h1>",
        f"<p>{escape(report.date)}, {len(report.pairs.seeds)} seeds: <code>{escape(report.command)}</code></p>",
        _list((name, ARMS[name].about) for name in report.pairs.arms),
        f"<h2>Differences from {BASELINE}</h2>",
        plot.svg(drawn, difference=True),
        "<p>Large dot: the mean; thick bar: 95 % by bootstrap; thin bar: 95 % by Student's t; small dots: seeds.</p>",
        f"<p>{escape(reading(report.pairs))}</p>",
        "<h2>Each arm by itself</h2>",
        plot.svg(drawn, difference=False),
        *(_figures(lines) for lines in shown),
        "<h2>How it is measured</h2>",
        *(f"<p>{escape(said)}</p>" for said in METHOD),
        "<h2>With what</h2>",
        _list(report.about),
        style=plot.STYLE,
    )


def _figures(lines: list[Line]) -> str:
    metric = lines[0].metric
    return f"<h2>{escape(metric.heading)}</h2>\n<p>{metric.better} is better</p>\n{table(lines).html()}"


def _list(pairs: Iterable[tuple[str, str]]) -> str:
    inner = "".join(f"<dt>{escape(name)}</dt><dd>{escape(told)}</dd>" for name, told in pairs)
    return f"<dl>{inner}</dl>"
