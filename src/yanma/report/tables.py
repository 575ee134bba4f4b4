"""One table of texts: for a terminal, as Markdown and as HTML. Its numbers as JSON are of whoever makes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import OverflowMethod
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    r"""Rows under headings; all columns but the first are aligned at the right.

    >>> print(*Table(("", "seconds"), (("a|b", "1.5"),)).markdown(), sep="\n")
    |  | seconds |
    |---|---:|
    | a\|b | 1.5 |
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    num_totals: int = 0
    """Rows at the end that sum up those before: in a terminal, a blank line apart from them."""
    ends_in_prose: bool = False
    """Whether the last column has sentences, which are aligned at the left, and folded where a terminal is narrow."""

    def __rich__(self) -> RichTable:
        """For a console of rich's: without lines, and nothing but prose and the first column is ever folded."""
        from rich.table import Table as RichTable
        from rich.text import Text

        title = Text(self.title) if self.title else None
        drawn = RichTable(box=None, pad_edge=False, title=title, title_justify="left", title_style="none")
        for place, heading in enumerate(self.columns):
            is_prose = self.ends_in_prose and place == len(self.columns) - 1
            left = is_prose or place == 0
            overflow: OverflowMethod = "fold" if left else "ellipsis"
            drawn.add_column(
                heading, justify="left" if left else "right", no_wrap=not left, overflow=overflow
            )
        first_total = len(self.rows) - self.num_totals
        for number, cells in enumerate(self.rows):
            if self.num_totals and number == first_total > 0:
                drawn.add_row()
            drawn.add_row(*map(Text, cells))  # brackets in a name are no markup
        return drawn

    def markdown(self) -> Iterator[str]:
        """Line by line."""
        heading, *rows = (
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
            for cells in (self.columns, *self.rows)
        )
        yield from (heading, f"|---|{'---:|' * (len(self.columns) - 1)}", *rows)

    def html(self) -> str:
        """A table of a `page`, which scrolls by itself where it is wider than that."""
        head, *rows = (
            "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
            for tag, cells in (("th", self.columns), *(("td", row) for row in self.rows))
        )
        body = "\n".join(f"<tr>{row}</tr>" for row in rows)
        return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'
