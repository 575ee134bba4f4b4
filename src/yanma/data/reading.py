"""How files are read where their names do not say it."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import ConfigError, DataError, did_you_mean

Format = Literal["csv", "tsv", "jsonl", "json", "parquet", "conll", "weibo", "brat", "text"]
FORMATS: tuple[str, ...] = get_args(Format)

Record = tuple[dict[str, object] | DataError, str]
"""The fields of a row, or why there are none, and where it stands."""
Note = Callable[[str], None]


def _silent(said: str) -> None:
    pass


@dataclass(frozen=True)
class Reading:
    """What is said of files beside their names.

    >>> Reading("csv", delimiter=";", encoding="latin-1").delimiter
    ';'

    Raises ConfigError for a format, a delimiter or an encoding that there is not.
    """

    format: str | None = None
    """One of FORMATS; None = as the name says."""
    delimiter: str | None = None
    """One character between the fields of csv, tsv and text; None = as the format has it."""
    encoding: str = "utf-8"
    """Of all but parquet."""
    note: Note = _silent
    """Is told what a user should know of how a file is read."""
    setting: str = "columns"
    """By which the columns are said, in messages."""
    all_fields: bool = False
    """Whether rows have all their fields, beside the columns that are asked for."""

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            hint = did_you_mean(self.format, FORMATS) or f"there are {', '.join(FORMATS)}"
            raise ConfigError(f"`format` is {self.format!r}; {hint}")
        if self.delimiter == "\\t":  # as a shell hands it on
            object.__setattr__(self, "delimiter", "\t")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '\r\n"'):
            raise ConfigError(f"`delimiter` is {self.delimiter!r}; it must be one character (a tab is \\t)")
        try:
            name = codecs.lookup(self.encoding).name
            "a".encode(name)  # base64 and its like are no encodings of text
        except LookupError:
            raise ConfigError(
                f"`encoding` is {self.encoding!r}, which Python does not know; e.g. utf-8, latin-1, cp1252, gb18030"
            ) from None
        object.__setattr__(self, "encoding", "utf-8" if name in ("utf-8", "utf-8-sig") else name)


def picked(
    fields: dict[str, object], columns: Sequence[str] | None, where: str, reading: Reading
) -> dict[str, object]:
    """The wanted fields, or all where `columns` is None. Raises DataError for one that is not there."""
    if columns is None:
        return fields
    try:
        wanted = {column: fields[column] for column in columns}
    except KeyError:
        check_columns(fields, columns, where, reading)
        raise
    return fields if reading.all_fields else wanted


def check_columns(
    there: Collection[str], wanted: Sequence[str] | None, where: str, reading: Reading, more: str = ""
) -> None:
    """Raises DataError, which ends with `more`, where a wanted column is not there, or is there twice."""
    for column in wanted or ():
        if column not in there:
            hint = did_you_mean(column, there)
            raise DataError(
                f"{where}: no column {column!r}; {hint}{' ' * bool(hint)}it has: {', '.join(there) or 'none'}"
                f"{more or f' (`{reading.setting}` says which is meant)'}"
            )
        if isinstance(there, list) and there.count(column) > 1:
            raise DataError(f"{where}: {there.count(column)} columns are called {column!r}")


def tell_unread(
    file: object, there: Collection[str], columns: Sequence[str] | None, reading: Reading
) -> None:
    """Tell which columns of a file are not asked for."""
    left_out = [name or "(without a name)" for name in there if columns is not None and name not in columns]
    if left_out and not reading.all_fields:
        reading.note(f"{file}: columns that are not read: {', '.join(left_out)}")


def are_numbers(columns: Sequence[str] | None) -> bool:
    """Whether columns are said by their numbers, from 1: then the file has no header.

    >>> are_numbers(["2", "1"]), are_numbers(["text"])
    (True, False)
    """
    return bool(columns) and all(
        column.isascii() and column.isdigit() and column != "0" for column in columns or ()
    )


def first_line(error: BaseException) -> str:
    """Of what an error says."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
