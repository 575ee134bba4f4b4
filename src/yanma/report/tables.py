"""Tables as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of Markdown; all columns but the first are aligned at the right.

    >>> print(*markdown(["", "seconds"], [["a", "1.5"]]), sep="\\\\n")
    |  | seconds |
    |---|---:|
    | a | 1.5 |
    """
    yield f"| {' | '.join(columns)} |"
    yield f"|---|{'---:|' * (len(columns) - 1)}"
    yield from (f"| {' | '.join(cells)} |" for cells in rows)
