"""Files with a word a row: its words are gathered to sentences by a column that says which one each is of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from ..errors import DataError
from .columns import Columns
from .reading import Reading
from .rows import Row, stream_rows
from .unusable import Unusable


def task_rows(
    source: str | Path | Sequence[str],
    columns: Columns,
    reading: Reading | None = None,
    bad: Unusable | None = None,
    check: Callable[[Row], object] | None = None,
) -> list[Row]:
    """The rows of a source that a task learns from; where `columns` names one for the sentence, a row a sentence.

    `check` raises DataError for a row that cannot be used, and `bad` says what becomes of it; `reading.note` is told.
    Raises DataError, as `read_rows` does, and for words whose sentence is not known or is cut in two.
    """
    bad = bad or Unusable()
    rows: Iterable[Row] = stream_task_rows(source, columns, reading, bad.meet)
    found = list(rows if check is None else bad.checked(rows, check))
    said = bad.told(len(found) + bad.count)
    if said is not None and reading is not None:
        reading.note(said)
    if not found:
        raise DataError(f"{bad.first}; no row of {bad.count} can be used")
    return found


def stream_task_rows(
    source: str | Path | Sequence[str],
    columns: Columns,
    reading: Reading | None = None,
    bad: Callable[[DataError], None] | None = None,
) -> Iterator[Row]:
    """The rows that `task_rows` gives, one by one. Raises what it does."""
    rows = stream_rows(source, columns.all, reading=reading, bad=bad)
    return rows if columns.sentence is None else gathered(rows, columns)


def gathered(rows: Iterable[Row], columns: Columns) -> Iterator[Row]:
    """The sentences of rows that are a word each, in their order; an empty id is that of the row before.

    >>> columns = Columns(("word",), "tag", "id")
    >>> words = [{"id": "1", "word": "in", "tag": "O"}, {"id": "", "word": "Rio", "tag": "B-LOC"}]
    >>> next(gathered([Row(word, f"a.csv:{line}") for line, word in enumerate(words, 2)], columns))
    Row(fields={'word': ['in', 'Rio'], 'tag': ['O', 'B-LOC']}, where='a.csv:2')
    """
    seen: set[object] = set()
    for sentence, words in groupby(_sentences(rows, columns), lambda pair: pair[0]):
        own = [row for _, row in words]
        if sentence in seen:
            raise DataError(
                f"{own[0].where}: sentence {sentence!r} of column {columns.sentence!r} goes on here after another one; "
                f"put its words together, or give each sentence an id of its own"
            )
        seen.add(sentence)
        names = (*columns.inputs, columns.truth)
        yield Row({name: [_word(row, name) for row in own] for name in names}, own[0].where)


def refuse_words_alone(rows: Iterable[Row], columns: Columns) -> None:
    """Raise DataError where every one of several rows is a text of one word: their sentences are not known then."""
    name, where, count = columns.inputs[0], "", 0
    for row in rows:
        text = row.fields.get(name)
        if not (isinstance(text, str) and len(text.split()) == 1):
            return
        where, count = where or row.where, count + 1
    if count > 1:
        raise DataError(
            f"{where}: {name!r} is one word here and in each of the {count} rows: say which column tells "
            f"the sentence of a word (`columns` sentence=NAME), or give the words of a sentence in one row, as a list "
            f"where there is but one"
        )


def _sentences(rows: Iterable[Row], columns: Columns) -> Iterator[tuple[object, Row]]:
    """Each row with the id of its sentence."""
    name, sentence = columns.sentence, None
    for row in rows:
        own = row.fields.get(name or "")
        if own is not None and own == own and not (isinstance(own, str) and not own.strip()):  # NaN is no id
            sentence = own
        if sentence is None:
            raise DataError(f"{row.where}: {name!r} is empty, and no row before says the sentence")
        yield sentence, row


def _word(row: Row, name: str) -> str:
    value = row.fields.get(name)
    if isinstance(value, list | tuple):
        raise DataError(
            f"{row.where}: {name!r} is a list; with a column for the sentence (`columns` sentence=...) a row is a word"
        )
    return row.text(name).strip()
