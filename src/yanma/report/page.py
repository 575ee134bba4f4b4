"""Pages: HTML without scripts and with nothing from elsewhere, the same bytes everywhere, light and dark."""

from __future__ import annotations

from html import escape

_STYLE = """\
:root{color-scheme:light dark} body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;
padding:0 1rem;background:#fff;color:#1f2937} code{overflow-wrap:anywhere} svg{max-width:100%;height:auto}
h2{margin-top:2.2rem} dt{font-weight:600} dd{margin:0 0 .4rem}
.wide{overflow-x:auto} table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}
th,td{padding:.25rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid #d1d5db}
th:first-child,td:first-child{text-align:left}
@media (prefers-color-scheme:dark){body{background:#111418;color:#e5e7eb} th,td{border-color:#374151}}
"""


def page(title: str, *parts: str, style: str = "") -> str:
    """A page of these parts, which are HTML; `style` is of their own."""
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(title)}</title>\n<style>\n{_STYLE}{style}\n</style>",
            *filter(None, parts),
            "</html>\n",
        )
    )
