"""Rows of data, wherever they come from, and their values, checked where they are taken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, did_you_mean_file
from .formats import SUFFIXES, Record, format_of, json_fields, read_dataset

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


def read_rows(source: str | Path, columns: Sequence[str], split: str | None = None) -> list[Row]:
    """The wanted columns of every row of a file or of a set that `datasets` loads.

    `source` is a file, whose name says its format (see formats.py), or NAME or NAME:CONFIG of `datasets`; the split
    is `split`, or stands behind one more colon: NAME:SPLIT, NAME:CONFIG:SPLIT.
    Raises DataError, one line, for whatever cannot be read.
    """
    return list(stream_rows(source, columns, split))


def stream_rows(source: str | Path, columns: Sequence[str], split: str | None = None) -> Iterator[Row]:
    """The rows that `read_rows` gives, one by one. Raises what it does."""
    row = None
    for fields, where in _records(str(source), columns, split):
        row = Row(fields, where)
        yield row
    if row is None:
        raise DataError(f"{source}: no rows in it")


def json_row(line: str, where: str, columns: Sequence[str]) -> Row:
    """The wanted columns of one JSON object.

    >>> json_row('{"id": 5, "text": "Hello"}', "stdin:1", ["text"])
    Row(fields={'text': 'Hello'}, where='stdin:1')
    """
    return Row(json_fields(line, where, columns), where)


def _records(source: str, columns: Sequence[str], split: str | None) -> Iterator[Record]:
    path = Path(source)
    reader, is_plain = format_of(path), path.name.lower().removesuffix(".gz").endswith((".txt", ".text"))
    if path.is_dir():
        raise DataError(f"{source}: a folder; give the file in it")
    if not path.exists() and reader is None and not is_plain:
        return read_dataset(source, columns, split)
    if not path.exists():
        raise DataError(f"{source}: no such file{_nearest(path)}")
    if is_plain:
        raise DataError(
            f"{source}: .txt is plain text, a text a line, and rows are wanted here; one word a line with its tag is "
            f"called .conll, rows .jsonl, .csv, .tsv or .parquet"
        )
    if reader is None:
        more = "; one JSON object a line is called .jsonl" if ".json" in path.name.lower() else ""
        raise DataError(
            f"{source}: the name does not say its format; known: {', '.join(SUFFIXES)} (.gz){more}"
        )
    if split is not None:
        raise DataError(f"{source}: a file has no splits, and {split!r} was asked for")
    return reader(path, columns)


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; there is no folder {str(path.parent)!r} either"
    near = did_you_mean_file(path)
    return f"; {near}" if near else ""


def _shown(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
