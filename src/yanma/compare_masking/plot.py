"""Estimates as a picture: SVG to stand in a page, in the page's own colours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..report.plots import figure_class
from .statistics import Estimate, Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WHO_NEEDS = "the page's plot needs"
_MARK, _INK = "#2563eb", "#000000"  # stand for the page's colours, which are put in their place
STYLE = """\
.plot{max-width:100%;height:auto;--mark:#2563eb} .plot text{fill:currentColor}
@media (prefers-color-scheme:dark){.plot{--mark:#6ea0ff}}"""


def svg(panels: Sequence[Sequence[Line]], *, difference: bool) -> str:
    """A panel a metric, a row an arm: a dot a seed, the mean, a thick bar for the bootstrap, a thin one for Student's.

    With `difference`, differences from the baseline, and a line where there is none.
    """
    kind = figure_class(WHO_NEEDS)
    import matplotlib

    shown = [[line for line in lines if line.difference or not difference] for lines in panels]
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "yanma", "font.family": "sans-serif"}
    ):
        figure = kind(figsize=(3.6 * len(shown) + 0.8, 0.34 * len(shown[0]) + 1.1), layout="constrained")
        axes = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
        for one, lines in zip(axes, shown, strict=True):
            _panel(one, lines, difference=difference)
        file = io.StringIO()
        none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=none)
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg ") :].replace("<svg ", '<svg class="plot" role="img" ', 1)
    return drawn.replace(_MARK, "var(--mark)").replace(_INK, "currentColor")


def _panel(axes: Axes, lines: Sequence[Line], *, difference: bool) -> None:
    metric = lines[0].metric
    scale = 100 if metric.percent else 1
    for row, line in enumerate(lines):
        found = line.difference if difference else line.plain
        assert found is not None  # lines without a difference were left out
        _row(axes, row, found, scale)
    axes.set_yticks(range(len(lines)), [line.arm for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_title(metric.title, fontsize=9)
    axes.set_xlabel(f"difference from dynamic ({metric.better} is better)" if difference else "", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if difference:
        axes.axvline(0, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))


def _row(axes: Axes, row: int, found: Estimate, scale: float) -> None:
    values = [value * scale for value in found.values]
    for interval, width in ((found.student, 1.0), (found.bootstrap, 4.0)):
        ends = [interval.low * scale, interval.high * scale]
        axes.plot(ends, [row, row], color=_MARK, linewidth=width, solid_capstyle="butt")
    axes.plot(values, [row - 0.22] * len(values), ".", color=_INK, markersize=3, alpha=0.6)
    axes.plot([found.mean * scale], [row], "o", color=_MARK, markersize=6)
