"""A mask as a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from ..report.plots import figure_class
from .html import ACROSS, OWN, strength
from .pictures import Cell, Picture, check_tokens, label_keys, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LABELS = 48
_INCHES_A_CELL = 0.24
_TITLE_SIGNS_AN_INCH = 12


def figure(shown: Picture, title: str, tokens: Sequence[str] | None = None) -> Figure:
    """The picture on a figure that belongs to no window, so nothing is left to close.

    Raises Unsupported where matplotlib is missing, ValueError where the number of tokens is wrong.
    """
    kind = figure_class(
        "a .png, a .pdf and plot() need", "; show(), to_html(), and files called .svg or .html need none"
    )
    labels = check_tokens(shown, tokens)
    rows, columns = (min(9.0, max(1.0, _INCHES_A_CELL * count)) for count in shown.shape)
    width = max(4.0, columns + 2)
    lines = wrap(title.replace("$", r"\$"), int(width * _TITLE_SIGNS_AN_INCH))
    drawn = kind(figsize=(width, rows + 1.5 + 0.2 * len(lines)), layout="constrained")
    drawn.suptitle("\n".join(lines), fontsize=9, family="monospace")
    axes = drawn.add_subplot(aspect="equal" if shown.queries.step == shown.keys.step else "auto")
    if 0 not in shown.shape:
        _draw_cells(axes, shown)
    axes.set_xlim(shown.keys.start, max(shown.keys.stop, shown.keys.start + 1))
    axes.set_ylim(max(shown.queries.stop, shown.queries.start + 1), shown.queries.start)
    _draw_labels(axes, shown, labels)
    return drawn


def _draw_cells(axes: Axes, shown: Picture) -> None:
    colors = [[_color(cell) for cell in row] for row in shown.rows]
    columns, rows = ([*side, side.stop] for side in (shown.keys, shown.queries))
    gap = 0.5 if max(shown.shape) <= _MOST_LABELS and not shown.is_reduced else 0.0
    axes.pcolormesh(columns, rows, colors, edgecolors="white" if gap else "none", linewidth=gap)
    q_borders, kv_borders = shown.borders
    for border in q_borders:
        axes.axhline(border, color="0.25", linewidth=1)
    for border in kv_borders:
        axes.axvline(border, color="0.25", linewidth=1)


def _draw_labels(axes: Axes, shown: Picture, labels: Sequence[str] | None) -> None:
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("key")
    axes.set_ylabel("query")
    sides = ((axes.xaxis, shown.keys, label_keys(shown, labels)), (axes.yaxis, shown.queries, labels))
    for axis, side, texts in sides:
        if side.step > 1 or len(side) > _MOST_LABELS:
            continue  # matplotlib's own numbers
        named = [shortened(texts[i]) if texts else str(i) for i in side]
        # A dollar sign would begin a formula.
        escaped = [name.replace("$", r"\$") for name in named]
        axis.set_ticks([i + 0.5 for i in side], escaped, fontsize=8)
        axis.set_tick_params(length=0)
        if axis is axes.xaxis and max(map(len, named), default=0) > 2:
            axis.set_tick_params(rotation=90)


def _color(cell: Cell) -> tuple[float, ...]:
    """On white, as the page has it in light."""
    hue = ACROSS if cell.document is None else OWN[cell.document % 2]
    part = strength(cell)
    return tuple(1 - part + part * int(hue[i : i + 2], 16) / 255 for i in (1, 3, 5))
