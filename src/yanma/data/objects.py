"""Files of JSON objects: one a line, or an array of them; annotated texts among them become words and tags."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from .conll import USUAL
from .reading import Reading, Record, first_line, picked
from .sources import DataFile
from .standoff import Span, is_standoff, read_ann, spans_of, tagged


def read_jsonl(file: DataFile, columns: Sequence[str] | None, reading: Reading) -> Iterator[Record]:
    """One JSON object a line; empty lines are passed over."""
    name = str(file)
    for number, line in file.lines_or_faults(reading.encoding):
        where = f"{name}:{number}"
        if isinstance(line, DataError):
            yield line, where
        elif line.strip():
            try:
                yield json_fields(line, where, columns), where
            except DataError as error:
                yield error, where


def read_json(file: DataFile, columns: Sequence[str] | None, reading: Reading) -> Iterator[Record]:
    """An array of JSON objects, or one object whose only array of objects it is; kept in memory."""
    try:
        found: Any = json.loads(_text(file, reading.encoding))
    except (ValueError, RecursionError) as error:
        more = "; one object a line is called .jsonl" if "Extra data" in str(error) else ""
        raise DataError(f"{file}: not JSON: {first_line(error)}{more}") from None
    if isinstance(found, dict):
        arrays = [name for name, value in found.items() if isinstance(value, list) and value]
        if len(arrays) != 1:
            raise DataError(
                f"{file}: one JSON object, and an array of objects is wanted: it has {', '.join(found)}"
            )
        reading.note(f"{file}: its rows are those of {arrays[0]!r}")
        found = found[arrays[0]]
    if not isinstance(found, list):
        raise DataError(f"{file}: JSON, but no array of objects; it is {_shown(found)}")
    for index, fields in enumerate(found):
        where = f"{file}[{index}]"
        try:
            yield _fields(fields, where, columns), where
        except DataError as error:
            yield error, where


def read_brat(file: DataFile, columns: Sequence[str] | None, reading: Reading) -> Iterator[Record]:
    """A row a line of the .txt file beside an .ann file, in words and their tags."""
    plain = _beside(file)
    text = _text(plain, reading.encoding)
    spans, passed_over = read_ann(_text(file, reading.encoding), text, str(file))
    if passed_over:
        reading.note(
            f"{file}: {passed_over} lines that name no entity (relations, events, notes) are not read"
        )
    begin = 0
    for number, line in enumerate(text.split("\n"), start=1):
        where, end = f"{plain}:{number}", begin + len(line)
        inside = [span for span in spans if begin <= span.start < end]
        if line.strip():
            try:
                own = [Span(span.start - begin, span.end - begin, span.label) for span in inside]
                yield picked(tagged(line, own, where), columns, where), where
            except DataError as error:
                yield error, where
        begin = end + 1


def json_fields(line: str, where: str, columns: Sequence[str] | None) -> dict[str, object]:
    """The wanted fields of one JSON object; raises DataError."""
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:  # its own line number would count from this line
        raise DataError(f"{where}: not JSON: {error.msg} (character {error.pos + 1} of the line)") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {first_line(error)}") from None
    return _fields(fields, where, columns)


def _fields(fields: object, where: str, columns: Sequence[str] | None) -> dict[str, object]:
    """The wanted ones; words and tags of a text with spans where it has no words."""
    if columns is not None and columns[0] in USUAL and set(columns) <= set(USUAL) and is_standoff(fields):
        text, spans = spans_of(fields, where)
        fields = tagged(text, spans, where)
    if not isinstance(fields, dict):
        raise DataError(f"{where}: a row must be one JSON object {{...}}; this is {_shown(fields)}")
    return picked(fields, columns, where)


def _beside(file: DataFile) -> DataFile:
    """The text that an .ann file annotates."""
    path = Path(file.member or file.path).with_suffix(".txt")
    plain = DataFile(file.path, path.as_posix()) if file.member else DataFile(path)
    if not file.member and not path.exists():
        raise DataError(f"{file}: no {path.name} beside it, the text that it annotates")
    return plain


def _text(file: DataFile, encoding: str) -> str:
    try:
        return file.content().decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: not {encoding}: byte {error.start + 1} is 0x{error.object[error.start]:02x}; say its `encoding`"
        ) from None


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
