"""Tables of text: csv, tsv, and a text a line with its label behind it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter

from ..errors import DataError
from .reading import Reading, Record, are_numbers, check_columns, tell_unread
from .sources import DataFile

_LONGEST_FIELD = 2**31 - 1  # csv refuses fields above 128 KiB by default; a long document is no error
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


def read_csv(file: DataFile, columns: Sequence[str] | None, reading: Reading) -> Iterator[Record]:
    """Comma-separated values; `where` is the line on which the row begins."""
    delimiter = reading.delimiter or ","
    usual = csv.field_size_limit(_LONGEST_FIELD)
    hint = f"a {_NAMES.get(delimiter, repr(delimiter))} inside a field needs quotes round the field"
    try:
        yield from _rows(file, _csv_records(file, delimiter, reading.encoding), columns, reading, hint)
    finally:
        csv.field_size_limit(usual)


def read_tsv(file: DataFile, columns: Sequence[str] | None, reading: Reading) -> Iterator[Record]:
    """Tab-separated values without quoting."""
    delimiter = reading.delimiter or "\t"
    records = (
        (number, line.rstrip("\r\n").split(delimiter))
        for number, line in file.lines(reading.encoding)
        if line.strip("\r\n")
    )
    yield from _rows(file, records, columns, reading, "a field cannot hold a tab or a newline")


def read_text(file: DataFile, columns: Sequence[str] | None, reading: Reading) -> Iterator[Record]:
    """A text a line, as the column `text`; with a delimiter, `label` is what stands behind its last one."""
    there = ["text"] if reading.delimiter is None else ["text", "label"]
    check_columns(there, columns, str(file), reading, "; with `delimiter` a label stands behind the text")
    for number, line in file.lines(reading.encoding):
        text, where = line.rstrip("\r\n"), f"{file}:{number}"
        if not text.strip():
            continue
        if reading.delimiter is None:
            yield {"text": text}, where
            continue
        text, found, label = text.rpartition(reading.delimiter)
        if found:
            fields: dict[str, object] = {"text": text, "label": label}
            yield {name: fields[name] for name in columns or there}, where
        else:
            yield (
                DataError(f"{where}: no {reading.delimiter!r} in this line, which parts text and label"),
                where,
            )


def _csv_records(file: DataFile, delimiter: str, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """(line of its beginning, fields) of each record that is not an empty line."""
    reader = csv.reader(map(itemgetter(1), file.lines(encoding)), strict=True, delimiter=delimiter)
    begin = 1
    try:
        for record in reader:
            if record:
                yield begin, record
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{file}:{begin}: not CSV: {error}; it begins on this line") from None


def _rows(
    file: DataFile,
    records: Iterable[tuple[int, list[str]]],
    columns: Sequence[str] | None,
    reading: Reading,
    hint: str,
) -> Iterator[Record]:
    """Rows under a header, or, where columns are said by number, from the first line on."""
    records = iter(records)
    line, first = next(records, (1, []))
    if not first:
        return
    header = [name.strip() for name in first]
    if are_numbers(columns) and not (all(map(str.isdigit, header)) and set(columns or ()) <= set(header)):
        reading.note(f"{file}: columns are said by number, so its first line is a row: {_shown(header)}")
        numbers = [str(number) for number in range(1, len(header) + 1)]
        check_columns(numbers, columns, f"{file}:{line}", reading)
        wanted = numbers if reading.all_fields else columns or ()
        yield from _numbered(file, line, first, records, wanted, hint)
        return
    check_columns(header, columns, f"{file}:{line}", reading, _advice(header, reading))
    tell_unread(file, header, columns, reading)
    wanted = header if columns is None or reading.all_fields else columns
    if len(set(wanted)) < len(wanted):
        raise DataError(f"{file}:{line}: two columns have one name: {_shown(header)}")
    places = [(column, header.index(column)) for column in wanted]
    name, width = str(file), len(header)
    for line, record in records:
        where = f"{name}:{line}"
        if len(record) == width:
            yield {column: record[place] for column, place in places}, where
        else:
            yield DataError(f"{where}: {len(record)} fields, but the header has {width}; {hint}"), where


def _numbered(
    file: DataFile,
    line: int,
    first: list[str],
    rest: Iterable[tuple[int, list[str]]],
    columns: Sequence[str],
    hint: str,
) -> Iterator[Record]:
    width = len(first)
    for number, record in chain([(line, first)], rest):
        where = f"{file}:{number}"
        if len(record) == width:
            yield {column: record[int(column) - 1] for column in columns}, where
        else:
            yield DataError(f"{where}: {len(record)} fields, but the first line has {width}; {hint}"), where


def _advice(header: Sequence[str], reading: Reading) -> str:
    """The end of a message about a column that a header has not."""
    found = [mark for mark in _NAMES if len(header) == 1 and mark in header[0]]
    if found:
        return f"; the header is one column with a {_NAMES[found[0]]} in it: say `delimiter` {found[0]!r}"
    if reading.setting != "columns":
        return ""
    return " (`columns` says which is meant; by numbers, as in text=1,label=2, where there is no header)"


def _shown(fields: Sequence[str]) -> str:
    text = " | ".join(fields)
    return text if len(text) <= 60 else f"{text[:57]}..."
