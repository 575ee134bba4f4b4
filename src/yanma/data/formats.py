"""The formats of data, by the names of files, and which reader each has; every file is read once from its beginning.

jsonl, ndjson            an object a line
json                     an array of objects
csv                      a header; a field in quotes may hold the delimiter, quotes (doubled) and newlines
tsv                      a header; fields are taken as they stand: a quote is a character like any other
conll and its kin        a line a word, columns with its token and tag; an empty line ends a sentence
ann                      brat's: spans of the text in the .txt file beside it
parquet                  columns
any of them with .gz     the same, compressed
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..errors import DataError
from .columnar import read_parquet
from .conll import read_conll, read_weibo
from .objects import read_brat, read_json, read_jsonl
from .reading import Reading, Record
from .sources import DataFile
from .tables import read_csv, read_text, read_tsv

Reader = Callable[[DataFile, Sequence[str] | None, Reading], Iterator[Record]]

_READERS: dict[str, Reader] = {
    "csv": read_csv,
    "tsv": read_tsv,
    "jsonl": read_jsonl,
    "json": read_json,
    "parquet": read_parquet,
    "conll": read_conll,
    "weibo": read_weibo,
    "brat": read_brat,
    "text": read_text,
}
_WORDS = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".bioes", ".bilou", ".bmes", ".bmewo", ".annotated")
_FORMATS = {
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    **dict.fromkeys(_WORDS, "conll"),
    ".ann": "brat",
}
SUFFIXES = tuple(_FORMATS)
_SPREADSHEETS = (".xlsx", ".xls", ".ods")
_PLAIN = (".txt", ".text")


def format_of(file: DataFile, reading: Reading | None = None) -> str | None:
    """The format that was said, or that the file's name asks for; None where it says none.

    >>> from pathlib import Path
    >>> format_of(DataFile(Path("train.CSV.gz"))), format_of(DataFile(Path("train.txt")))
    ('csv', None)
    """
    return (reading and reading.format) or _FORMATS.get(file.suffix)


def read_file(
    file: DataFile, columns: Sequence[str] | None = None, reading: Reading | None = None
) -> Iterator[Record]:
    """The wanted columns of every row of a file, all where `columns` is None; raises DataError."""
    reading = reading or Reading()
    name = format_of(file, reading)
    if name is None:
        raise DataError(f"{file}: {no_format(file)}")
    if reading.delimiter is not None and name not in ("csv", "tsv", "text", "conll", "weibo"):
        raise DataError(f"{file}: read as {name}, which has no delimiter; {reading.delimiter!r} was given")
    if file.looks_like_utf8(reading.encoding):
        reading.note(f"{file}: read as {reading.encoding}, as is said, but it begins like UTF-8")
    return _READERS[name](file, columns, reading)


def no_format(file: DataFile) -> str:
    """Why a name does not say how a file is read, and what to do."""
    if file.suffix in _SPREADSHEETS:
        return (
            "a spreadsheet; save it as CSV (in UTF-8), or with pandas: "
            f'pandas.read_excel("{file.path.name}").to_csv("{file.path.stem}.csv", index=False)'
        )
    if file.suffix in _PLAIN:
        return (
            f"{file.suffix} is plain text, and rows are wanted here; say what it holds: `format` conll for a "
            f"word a line with its tag, csv or tsv for a table, text for a text a line (with `delimiter`, its label "
            f"behind it)"
        )
    return f"the name does not say its format; say `format`, or name it one of {', '.join(SUFFIXES)} (.gz)"
