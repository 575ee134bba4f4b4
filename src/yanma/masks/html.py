"""A mask as SVG, and as a page around it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from unicodedata import east_asian_width

from ..report import page as pages
from .pictures import Cell, Picture, check_tokens, label_keys, shortened

OWN = ("#2563eb", "#0f8a7e")
"""What is visible in a document: neighbours differ."""
ACROSS = "#c2570c"
"""What is visible across documents."""

STYLE = f"""\
.mask text{{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1f2937}}
.mask .paper{{fill:#fff}} .mask .o{{fill:#f1f3f5}} .mask .line{{stroke:#4b5563;fill:none}}
.mask .a{{fill:{OWN[0]}}} .mask .b{{fill:{OWN[1]}}} .mask .x{{fill:{ACROSS}}}
@media (prefers-color-scheme:dark){{
.mask text{{fill:#e5e7eb}} .mask .paper{{fill:#111418}} .mask .o{{fill:#1d2229}} .mask .line{{stroke:#9ca3af}}
.mask .a{{fill:#6ea0ff}} .mask .b{{fill:#2dd4bf}} .mask .x{{fill:#fb9a4b}}
}}"""

_TEXT_HEIGHT = 12


def strength(cell: Cell) -> float:
    """How strongly a cell is coloured: hidden ones of a document faintly, the others by the share that is visible."""
    if cell.share:
        return 1.0 if cell.share == 1 else round(0.25 + 0.6 * cell.share, 2)
    return 0.0 if cell.document is None else 0.12


def page(shown: Picture, title: str, tokens: Sequence[str] | None = None) -> str:
    """An HTML page with the picture, what it shows, and a title over each cell."""
    shades = "; the darker, the more of it is visible" if shown.is_reduced else ""
    return pages.page(
        title,
        f"<p><code>{escape(title)}</code></p>",
        f"<p>{escape(shown.caption + shades)}</p>" if shown.caption else "",
        svg(shown, title, tokens),
        style="rect:hover{stroke:currentColor}",
    )


def svg(shown: Picture, title: str, tokens: Sequence[str] | None = None) -> str:
    """The picture with numbers or tokens beside it; over each visible cell a title says who reads whom.

    Raises ValueError where the number of tokens is wrong.
    """
    labels = check_tokens(shown, tokens)
    rows, columns = shown.shape
    size = max(8, min(22, 720 // max(rows, columns, 1)))
    beside = _labels(shown.queries, labels, size)
    above = _labels(shown.keys, label_keys(shown, labels), size)
    left, top = (32 + max([_width(text) for _, text in texts], default=0) for texts in (beside, above))
    width, height = left + columns * size + 12, top + rows * size + 12
    parts = [
        f'<svg class="mask" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<style>\n{STYLE}\n</style>\n<rect class="paper" width="{width}" height="{height}"/>',
        f'<text x="{left}" y="14">key</text>',
        f'<text x="14" y="{top}" transform="rotate(-90 14 {top})" text-anchor="end">query</text>',
    ]
    middle = size / 2 + 4
    for row, text in beside:
        y = top + row * size + middle
        parts.append(f'<text x="{left - 6}" y="{y:g}" text-anchor="end">{escape(text)}</text>')
    for column, text in above:
        x = left + column * size + middle
        parts.append(f'<text transform="translate({x:g} {top - 6}) rotate(-90)">{escape(text)}</text>')
    parts.append(f'<g transform="translate({left} {top})">')
    parts.append(f'<rect class="o" width="{columns * size}" height="{rows * size}"/>')
    parts += [
        _rect(cell, size, labels, label_keys(shown, labels))
        for row in shown.rows
        for cell in row
        if strength(cell)
    ]
    parts += [f'<path class="line" d="{_lines(shown, size)}"/>', "</g>", "</svg>"]
    return "\n".join(parts)


def _labels(side: range, texts: Sequence[str] | None, size: int) -> list[tuple[int, str]]:
    """(cell, text) where there is room: tokens or numbers."""
    every = 1 if texts or len(side) <= 32 else 8
    if size <= _TEXT_HEIGHT and texts:
        every = -(-(_TEXT_HEIGHT + 1) // size)
    return [
        (cell, shortened(texts[side[cell]] if texts else str(side[cell])))
        for cell in range(0, len(side), every)
    ]


def _width(text: str) -> int:
    """About how wide 12px monospace is: what is wide in East Asia takes twice the place."""
    return sum(13 if east_asian_width(sign) in "WF" else 8 for sign in text)


def _rect(cell: Cell, size: int, queries: Sequence[str] | None, keys: Sequence[str] | None) -> str:
    hue = "x" if cell.document is None else "ab"[cell.document % 2]
    part = strength(cell)
    faint = "" if part == 1 else f' fill-opacity="{part:g}"'
    gap = 1 if size > 12 else 0
    place = f'x="{cell.column * size}" y="{cell.row * size}" width="{size - gap}" height="{size - gap}"'
    if not cell.share:
        return f'<rect class="{hue}" {place}{faint}/>'
    who = f"{_named('query', 'queries', cell.queries, queries)} {{}} {_named('key', 'keys', cell.keys, keys)}"
    told = who.format("reads") if cell.share == 1 else f"{who.format('x')}: {cell.share:.1%} visible"
    return f'<rect class="{hue}" {place}{faint}><title>{escape(told, quote=False)}</title></rect>'


def _named(one: str, many: str, span: tuple[int, int], texts: Sequence[str] | None) -> str:
    start, end = span
    if end - start > 1:
        return f"{many} {start} to {end - 1}"
    return f"{one} {start}" + (f" '{texts[start]}'" if texts else "")


def _lines(shown: Picture, size: int) -> str:
    """A frame, and a line where a document ends."""
    rows, columns = shown.shape
    q_borders, kv_borders = shown.borders
    across = (f"M0 {_place(border, shown.queries, size)}h{columns * size}" for border in q_borders)
    down = (f"M{_place(border, shown.keys, size)} 0v{rows * size}" for border in kv_borders)
    return "".join([f"M0 0h{columns * size}v{rows * size}H0z", *across, *down])


def _place(index: int, side: range, size: int) -> str:
    return f"{(index - side.start) / side.step * size:.4g}"
