"""Files of JSON objects: one a line, or an array of them; annotated texts among them become words and tags."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from .conll import USUAL
from .reading import Reading, Record, first_line, picked, tell_unread
from .sources import DataFile
from .standoff import Span, half_words, is_standoff, passed_over, read_ann, spans_of, tagged


def read_jsonl(file: DataFile, columns: Sequence[str] | None, reading: Reading) -> Iterator[Record]:
    """One JSON object a line; empty lines are passed over."""
    name, seen, is_first = str(file), Counter[str](), True
    for number, line in file.lines_or_faults(reading.encoding):
        where = f"{name}:{number}"
        if isinstance(line, DataError):
            yield line, where
        elif line.strip():
            try:
                record = _parsed(line, where)
                fields = _fields(record, where, columns, seen, reading)
                if is_first and isinstance(record, dict):
                    _tell_unread(file, record, fields, columns, reading)
                    is_first = False
                yield fields, where
            except DataError as error:
                yield error, where
    _tell(file, seen, reading)


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
    seen = Counter[str]()
    for index, fields in enumerate(found):
        where = f"{file}[{index}]"
        try:
            record = _fields(fields, where, columns, seen, reading)
            if index == 0 and isinstance(fields, dict):
                _tell_unread(file, fields, record, columns, reading)
            yield record, where
        except DataError as error:
            yield error, where
    _tell(file, seen, reading)


def read_brat(file: DataFile, columns: Sequence[str] | None, reading: Reading) -> Iterator[Record]:
    """A row a line of the .txt file beside an .ann file, in words and their tags."""
    plain = _beside(file)
    text = _text(plain, reading.encoding)
    spans, others = read_ann(_text(file, reading.encoding), text, str(file))
    if others:
        reading.note(f"{file}: {others} lines that name no entity (relations, events, notes) are not read")
    spans, begin, seen = [_trimmed(span, text) for span in spans], 0, Counter[str]()
    for number, line in enumerate(text.split("\n"), start=1):
        where, end = f"{plain}:{number}", begin + len(line)
        own = [Span(s.start - begin, s.end - begin, s.label) for s in spans if begin <= s.start < end]
        long = next((span for span in own if span.end > len(line)), None)
        if long is not None:
            yield (
                DataError(f"{where}: an entity ({long.label}) goes on in the next line, and a row is a line"),
                where,
            )
        elif line.strip():
            try:
                seen[_HALF] += half_words(line, own)
                yield picked(tagged(line, own, where), columns, where, reading), where
            except DataError as error:
                yield error, where
        begin = end + 1
    _tell(file, seen, reading)


_HALF = "words that a span covers in part"


def _parsed(line: str, where: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:  # its own line number would count from this line
        raise DataError(f"{where}: not JSON: {error.msg} (character {error.pos + 1} of the line)") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {first_line(error)}") from None


def _tell_unread(
    file: DataFile,
    record: Mapping[str, object],
    fields: Mapping[str, object],
    columns: Sequence[str] | None,
    reading: Reading,
) -> None:
    """Of the first row; not of a text with spans, whose columns are made of others."""
    if columns is not None and all(column in record for column in columns):
        tell_unread(file, list(record), list(fields), reading)


def _fields(
    fields: object, where: str, columns: Sequence[str] | None, seen: Counter[str], reading: Reading
) -> dict[str, object]:
    """The wanted ones; words and tags of a text with spans where it has no words. `seen` counts what is to be told."""
    if columns is not None and columns[0] in USUAL and set(columns) <= set(USUAL) and is_standoff(fields):
        try:
            text, spans = spans_of(fields, where)
            seen.update(passed_over(fields))
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise DataError(f"{where}: not as an annotation tool writes it: {error!r}") from None
        fields = tagged(text, spans, where)
        seen[_HALF] += half_words(text, spans)
    if not isinstance(fields, dict):
        more = "; an array of rows is read with `format` json" if _is_array_of_rows(fields) else ""
        raise DataError(f"{where}: a row must be one JSON object {{...}}; this is {_shown(fields)}{more}")
    return picked(fields, columns, where, reading)


def _is_array_of_rows(found: object) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(row, dict) for row in found)


def _tell(file: DataFile, seen: Counter[str], reading: Reading) -> None:
    """What was met beside words and spans."""
    halves, others = seen.pop(_HALF, 0), [f"{count} {name}" for name, count in seen.items() if count]
    if halves:
        reading.note(f"{file}: {halves} {_HALF} are tagged as wholes")
    if others:
        reading.note(f"{file}: not read beside spans: {', '.join(others)}")


def _trimmed(span: Span, text: str) -> Span:
    """Without spaces at its ends."""
    covered = text[span.start : span.end]
    begin = span.start + len(covered) - len(covered.lstrip())
    return Span(begin, begin + len(covered.strip()), span.label) if covered.strip() else span


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
