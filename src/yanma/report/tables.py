"""Tables as Markdown, and for a console."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    r"""Lines of Markdown; all columns but the first are aligned at the right.

    >>> print(*markdown(["", "seconds"], [["a", "1.5"]]), sep="\n")
    |  | seconds |
    |---|---:|
    | a | 1.5 |
    """
    yield f"| {' | '.join(columns)} |"
    yield f"|---|{'---:|' * (len(columns) - 1)}"
    yield from (f"| {' | '.join(cells)} |" for cells in rows)


def rich_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """For a rich console, without lines; all columns but the first are aligned at the right and never cut."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(columns):
        table.add_column(heading, justify="right" if index else "left", no_wrap=index > 0)
    for cells in rows:
        table.add_row(*cells)
    return table
