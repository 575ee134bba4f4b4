"""The kinds of data sources, each read once from its beginning to its end: (fields, where) of every row.

jsonl, ndjson            an object a line
csv                      a header; a field in quotes may hold commas, quotes (doubled) and newlines
tsv                      a header; fields are taken as they stand: a quote is a character like any other
conll, bio, iob          a line a word, first column the token, last its tag; an empty line ends a sentence
parquet                  columns
any of them with .gz     the same, compressed
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError, did_you_mean

Record = tuple[dict[str, object], str]
"""The wanted fields of a row, and where it stands."""

_LONGEST_FIELD = 2**31 - 1  # csv refuses fields above 128 KiB by default; a long document is no error
_DOCUMENT_START = "-DOCSTART-"  # CoNLL-2003's mark between documents: no word of a sentence


def format_of(path: Path) -> Callable[[Path, Sequence[str]], Iterator[Record]] | None:
    """The reader that the file's name asks for, .gz left aside; None where the name says nothing.

    >>> format_of(Path("train.CSV.gz")).__name__
    'read_csv'
    """
    return _READERS.get(Path(path.name.lower().removesuffix(".gz")).suffix)


def read_jsonl(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """One JSON object a line; empty lines are passed over."""
    for number, line in numbered_lines(path):
        if line.strip():
            yield json_fields(line, f"{path}:{number}", columns), f"{path}:{number}"


def json_fields(line: str, where: str, columns: Sequence[str]) -> dict[str, object]:
    """The wanted fields of one JSON object; raises DataError."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {_json_fault(error)}") from None
    if not isinstance(fields, dict):
        raise DataError(f"{where}: a line must be one JSON object {{...}}; this is {_shown(fields)}")
    return _picked(fields, columns, where)


def _json_fault(error: ValueError | RecursionError) -> str:
    """What is wrong, and where in its line: the error's own line number would count from this line."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (character {error.pos + 1} of the line)"
    return _first_line(error)


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """Comma-separated values; `where` is the line on which the row begins."""
    usual = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield from _table(
            path, _csv_records(path), columns, "a comma inside a field needs quotes round the field"
        )
    finally:
        csv.field_size_limit(usual)


def read_tsv(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """Tab-separated values without quoting."""
    records = (
        (number, line.rstrip("\r\n").split("\t"))
        for number, line in numbered_lines(path)
        if line.strip("\r\n")
    )
    yield from _table(path, records, columns, "a field cannot hold a tab or a newline")


def read_conll(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """One row a sentence, with the columns `tokens` and `tags`; `where` is the line of its first token.

    Columns are cut at tabs where a line has one, else at spaces. One column is enough where `tags` is not wanted.
    """
    _check_columns(("tokens", "tags"), columns, f"{path}:1, read as CoNLL")
    words: list[list[str]] = []
    first, width = 0, 0  # line of the sentence's first token; columns of every line
    for number, line in numbered_lines(path):
        cells = _cells(line)
        if cells and cells[0] != _DOCUMENT_START:
            width = width or len(cells)
            _check_width(len(cells), width, 1 + ("tags" in columns), f"{path}:{number}")
            first = first if words else number
            words.append(cells)
        elif words:
            yield _sentence(words, columns), f"{path}:{first}"
            words = []
    if words:
        yield _sentence(words, columns), f"{path}:{first}"


def read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """Rows of a parquet file, counted from 1; classes that `datasets` stored as numbers have their names back."""
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        # Parquet is read from its end, so a compressed file must be unpacked first.
        source = io.BytesIO(_unpacked(path)) if path.name.lower().endswith(".gz") else path
        with parquet.ParquetFile(source) as file:
            _check_columns(file.schema_arrow.names, columns, str(path))
            names = _names_of_classes(_stored_features(file.schema_arrow.metadata), columns)
            for batch in file.iter_batches(columns=list(columns)):
                for fields in batch.to_pylist():
                    number += 1
                    where = f"{path}:row {number}"
                    yield {column: _named(fields[column], names[column]) for column in columns}, where
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet: {_first_line(error)}") from None


def read_dataset(
    source: str, columns: Sequence[str], split: str | None, *, streaming: bool = False
) -> Iterator[Record]:
    """Rows of a set that `datasets` loads; source is NAME or NAME:CONFIG, with :SPLIT after it where split is None.

    With `streaming` rows come as they are read, and the set is not stored here first.
    """
    import datasets

    name, *rest = source.split(":")
    if split is None and rest:
        split = rest.pop()
    hub = logging.getLogger("huggingface_hub")
    usual = hub.level
    hub.setLevel(logging.ERROR)  # it would tell of each of its attempts; the error below says it once
    try:
        stream = {"streaming": True} if streaming else {}
        loaded: Any = datasets.load_dataset(name, *rest[:1], split=split, **stream)
    except Exception as error:  # datasets raises nearly everything: no network, unknown name, a script, ...
        said = _first_line(error)
        raise DataError(
            f"{source}: no such file, and datasets cannot load it (mind its spelling, and the network): {said}"
        ) from None
    finally:
        hub.setLevel(usual)
    if isinstance(loaded, dict):
        there = ", ".join(loaded)
        raise DataError(f"{source}: say which split, as in {source}:{next(iter(loaded))}; it has: {there}")
    where = f"{name}[{split}]"
    if (
        streaming and loaded.features is None
    ):  # a stream that does not say what its columns are: it is looked at
        loaded = loaded._resolve_features()
    _check_columns(loaded.column_names, columns, where)
    names = _names_of_classes(loaded.features.to_dict(), columns)
    for index, fields in enumerate(loaded.select_columns(list(columns))):
        yield {column: _named(fields[column], names[column]) for column in columns}, f"{where}[{index}]"


_READERS: dict[str, Callable[[Path, Sequence[str]], Iterator[Record]]] = {
    **dict.fromkeys((".jsonl", ".ndjson"), read_jsonl),
    ".csv": read_csv,
    ".tsv": read_tsv,
    **dict.fromkeys((".conll", ".bio", ".iob", ".iob2", ".bioes"), read_conll),
    ".parquet": read_parquet,
}
SUFFIXES = tuple(_READERS)


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of UTF-8 text, with or without a byte order mark. Only a newline ends a line."""
    number = 0
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield number, _decoded(line, path, number)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}:{number + 1}: the gzip file is damaged or cut off: {_first_line(error)}"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        hint = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip: name it .gz"}.get(line[:2])
        looks = f" (it looks like {hint})" if hint and number == 1 else ""
        byte = f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}"
        raise DataError(f"{path}:{number}: not UTF-8{looks}: {byte}; save the file as UTF-8") from None
    return text.removeprefix("\ufeff") if number == 1 else text


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line of its beginning, fields) of each record that is not an empty line."""
    reader = csv.reader((line for _, line in numbered_lines(path)), strict=True)
    begin = 1
    try:
        for record in reader:
            if record:
                yield begin, record
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{begin}: not CSV: {error}; it begins on this line") from None


def _table(
    path: Path, records: Iterable[tuple[int, list[str]]], columns: Sequence[str], hint: str
) -> Iterator[Record]:
    """Rows under a header; every row must have as many fields."""
    records = iter(records)
    line, header = next(records, (1, []))
    if not header:
        return
    _check_columns(header, columns, f"{path}:{line}")
    places = [(column, header.index(column)) for column in columns]
    for line, record in records:
        if len(record) != len(header):
            raise DataError(f"{path}:{line}: {len(record)} fields, but the header has {len(header)}; {hint}")
        yield {column: record[place] for column, place in places}, f"{path}:{line}"


def _cells(line: str) -> list[str]:
    """The columns of a CoNLL line; none for an empty one."""
    if not line.strip(" \t\r\n"):
        return []
    line = line.rstrip(" \t\r\n")
    return line.split("\t") if "\t" in line else [cell for cell in line.split(" ") if cell]


def _check_width(seen: int, width: int, least: int, where: str) -> None:
    if seen != width:
        raise DataError(f"{where}, read as CoNLL: {seen} columns, but the lines before have {width}")
    if seen < least:
        raise DataError(
            f"{where}, read as CoNLL: one column; a line is a token and its tag, with a tab or a space between them"
        )


def _sentence(words: Sequence[Sequence[str]], columns: Collection[str]) -> dict[str, object]:
    fields: dict[str, object] = {
        "tokens": [cells[0] for cells in words],
        "tags": [cells[-1] for cells in words],
    }
    return {column: fields[column] for column in columns}


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as stream:
            return stream.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip file is damaged or cut off: {_first_line(error)}") from None


def _stored_features(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """What `datasets` wrote into a parquet file about its columns."""
    try:
        return dict(json.loads((metadata or {})[b"huggingface"])["info"]["features"])
    except (KeyError, ValueError, TypeError):
        return {}


def _names_of_classes(features: dict[str, Any], columns: Sequence[str]) -> dict[str, list[str]]:
    """By column: what its numbers mean, [] where they are no classes."""
    names = {}
    for column in columns:
        feature = features.get(column) or {}
        while isinstance(feature, list) or "feature" in feature:  # a column of lists
            feature = feature[0] if isinstance(feature, list) else feature["feature"]
        names[column] = feature.get("names") or [] if feature.get("_type") == "ClassLabel" else []
    return names


def _named(value: object, names: Sequence[str]) -> object:
    """The value with classes' numbers replaced by their names; -1 stands for "not known" there, hence None."""
    if not names:
        return value
    if isinstance(value, list):
        return [_named(inner, names) for inner in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


def _picked(fields: dict[str, object], columns: Sequence[str], where: str) -> dict[str, object]:
    try:
        return {column: fields[column] for column in columns}
    except KeyError:
        _check_columns(fields, columns, where)
        raise


def _check_columns(there: Collection[str], wanted: Sequence[str], where: str) -> None:
    for column in wanted:
        if column not in there:
            hint = did_you_mean(column, there)
            raise DataError(
                f"{where}: no column {column!r}; {hint}{' ' * bool(hint)}it has: {', '.join(there) or 'none'} "
                f"(in training and evaluation, `columns` says which is meant; in pre-training, `column`; in an audit, "
                f"`text_column`)"
            )
        if isinstance(there, list) and there.count(column) > 1:
            raise DataError(f"{where}: {there.count(column)} columns are called {column!r}")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
