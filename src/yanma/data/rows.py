"""Rows of data, wherever they come from, and their values, checked where they are taken."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ..errors import DataError
from .columnar import read_dataset
from .formats import SUFFIXES, format_of, read_file
from .reading import Reading, Record
from .sources import DataFile, files_of, nearest

_PRINTED_LIST = re.compile(r"(?:array\()?\[(['\"]).*['\"]\]", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One row of data. A value that cannot be used raises DataError, which names row and column."""

    fields: Mapping[str, object]
    where: str
    """ "file:line", as it stands in messages."""

    def text(self, column: str) -> str:
        """A text that is not empty.

        >>> Row({"text": "Where is my card?"}, "a.jsonl:1").text("text")
        'Where is my card?'
        """
        value = self._value(column)
        if not isinstance(value, str):
            raise DataError(f"{self.where}: {column!r} is {_shown(value)}, not a text")
        if not value.strip():
            raise DataError(f"{self.where}: {column!r} is empty; give it a text or leave the row out")
        return self._encodable(value, column)

    def words(self, column: str) -> list[str]:
        """A list of strings that is not empty; one string is cut at its spaces.

        >>> Row({"tokens": "in  Rio"}, "a.csv:1").words("tokens") == Row({"tokens": ["in", "Rio"]}, "").words("tokens")
        True
        """
        value = self._value(column)
        if isinstance(value, str):
            if _PRINTED_LIST.match(value.strip()):
                raise DataError(
                    f"{self.where}: {column!r} is a list as Python prints it, {_shown(value)}; write its words with "
                    f"spaces between, or rows as JSON lines"
                )
            value = [word for word in value.split(" ") if word]
        if not isinstance(value, list | tuple):
            raise DataError(f"{self.where}: {column!r} is {_shown(value)}, not a list of strings")
        if not value:
            raise DataError(f"{self.where}: {column!r} is empty; give it words or leave the row out")
        for place, word in enumerate(value):
            if not isinstance(word, str):
                raise DataError(f"{self.where}: {column}[{place}] is {_shown(word)}, not a string")
            self._encodable(word, column)
        return list(value)

    def label(self, column: str) -> str:
        """A class name: a string, or a whole number or truth value as one.

        >>> Row({"label": 1}, "a.jsonl:1").label("label"), Row({"label": True}, "a.jsonl:2").label("label")
        ('1', 'true')
        """
        value = self._value(column)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int):
            return str(value)
        if not isinstance(value, str):
            raise DataError(f"{self.where}: {column!r} is {_shown(value)}, not the name of a class")
        if not value.strip():
            raise DataError(f"{self.where}: {column!r} is empty; a class needs a name")
        return self._encodable(value, column)

    def _value(self, column: str) -> object:
        if column not in self.fields:
            raise DataError(f"{self.where}: no column {column!r}; it has: {', '.join(self.fields) or 'none'}")
        return self.fields[column]

    def _encodable(self, value: str, column: str) -> str:
        r"""JSON can spell half of a character, such as "\ud800": nothing can be made of it."""
        try:
            value.isascii() or value.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(value[error.start]):04x}"
            raise DataError(f"{self.where}: {column!r} holds {half}, half of a surrogate pair") from None
        return value


def read_rows(
    source: str | Path | Sequence[str],
    columns: Sequence[str] | None,
    split: str | None = None,
    reading: Reading | None = None,
) -> list[Row]:
    """The wanted columns of every row of a source, or of several, one after the other; all where `columns` is None.

    A source is a file, whose name says its format (see formats.py) unless `reading` does; a folder, a pattern or a zip
    archive (see sources.py); or NAME or NAME:CONFIG of `datasets`, where the split is `split`, or stands behind one
    more colon: NAME:SPLIT, NAME:CONFIG:SPLIT.
    Raises DataError, one line, for whatever cannot be read.
    """
    return list(stream_rows(source, columns, split, reading))


def stream_rows(
    source: str | Path | Sequence[str],
    columns: Sequence[str] | None,
    split: str | None = None,
    reading: Reading | None = None,
    bad: Callable[[DataError], None] | None = None,
) -> Iterator[Row]:
    """The rows that `read_rows` gives, one by one. Raises what it does; `bad` takes errors of single rows instead."""
    for name in [str(source)] if isinstance(source, str | Path) else source:
        row = None
        for row, where in _records(name, columns, split, reading or Reading()):
            if not isinstance(row, DataError):
                yield Row(row, where)
            elif bad is None:
                raise row
            else:
                bad(row)
        if row is None:
            raise DataError(f"{name}: no rows in it")


def _records(
    source: str, columns: Sequence[str] | None, split: str | None, reading: Reading
) -> Iterator[Record]:
    if source == "-":
        raise DataError("-: rows are read from files; standard input is read by predict alone")
    files = files_of(source, SUFFIXES)
    if files is None:
        if not (format_of(DataFile(Path(source))) or Path(source).suffix in (".txt", ".text", ".zip")):
            return read_dataset(source, columns, split, reading)
        raise DataError(f"{source}: no such file{nearest(Path(source))}")
    if split is not None:
        raise DataError(f"{source}: a file has no splits, and {split!r} was asked for")
    if len(files) > 1:
        reading.note(f"{source}: {len(files)} files are read: {', '.join(file.path.name for file in files)}")
    return chain.from_iterable(read_file(file, columns, reading) for file in files)


def _shown(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
