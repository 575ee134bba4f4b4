"""The report as one HTML page: no scripts, nothing from elsewhere, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from . import plot
from .arms import ARMS, BASELINE
from .outcome import MAIN
from .report import Report
from .statistics import Line
from .table import HEADINGS, reading, rows

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
_STYLE = (
    """\
:root{color-scheme:light dark} body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;
padding:0 1rem;background:#fff;color:#1f2937} code{overflow-wrap:anywhere} h2{margin-top:2.2rem}
.wide{overflow-x:auto} table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}
th,td{padding:.25rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid #d1d5db}
th:first-child,td:first-child{text-align:left} dt{font-weight:600} dd{margin:0 0 .4rem}
@media (prefers-color-scheme:dark){body{background:#111418;color:#e5e7eb} th,td{border-color:#374151}}
"""
    + plot.STYLE
)


def page(report: Report) -> str:
    """The whole page."""
    shown = report.lines()
    drawn = [lines for lines in shown if lines[0].metric.name in MAIN]
    title = "Ways to mask, compared"
    parts = [
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{title}</title>\n<style>\n{_STYLE}\n</style>',
        f"<h1>{title}</h1>",
        f"<p>{escape(report.date)}, {len(report.pairs.seeds)} seeds: <code>{escape(report.command)}</code></p>",
        _list((name, ARMS[name].about) for name in report.pairs.arms),
        f"<h2>Differences from {BASELINE}</h2>",
        plot.svg(drawn, difference=True),
        "<p>Large dot: the mean; thick bar: 95 % by bootstrap; thin bar: 95 % by Student's t; small dots: seeds.</p>",
        f"<p>{escape(reading(report.pairs))}</p>",
        "<h2>Each arm by itself</h2>",
        plot.svg(drawn, difference=False),
        *(_table(lines) for lines in shown),
        "<h2>How it is measured</h2>",
        *(f"<p>{escape(said)}</p>" for said in METHOD),
        "<h2>With what</h2>",
        _list(report.about),
        "</html>\n",
    ]
    return "\n".join(parts)


def _table(lines: list[Line]) -> str:
    metric = lines[0].metric
    heads = "".join(f"<th>{escape(head)}</th>" for head in HEADINGS)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for cells in rows(lines)
    )
    return (
        f"<h2>{escape(metric.title[0].upper() + metric.title[1:])}</h2>\n<p>{metric.better} is better</p>\n"
        f'<div class="wide"><table>\n<tr>{heads}</tr>\n{body}\n</table></div>'
    )


def _list(pairs: Iterator[tuple[str, str]] | tuple[tuple[str, str], ...]) -> str:
    inner = "".join(f"<dt>{escape(name)}</dt><dd>{escape(told)}</dd>" for name, told in pairs)
    return f"<dl>{inner}</dl>"
