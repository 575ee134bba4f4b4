"""Parquet files and sets of `datasets`: columns, with the names of classes that stand there as numbers."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import DataError
from .reading import Reading, Record, check_columns, first_line, tell_unread
from .sources import DataFile


def read_parquet(file: DataFile, columns: Sequence[str] | None, reading: Reading) -> Iterator[Record]:
    """Rows of a parquet file, counted from 1; classes that `datasets` stored as numbers have their names back."""
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        # Parquet is read from its end, so a compressed file must be unpacked first.
        is_packed = bool(file.member) or file.path.name.lower().endswith(".gz")
        with parquet.ParquetFile(io.BytesIO(file.content()) if is_packed else file.path) as table:
            check_columns(table.schema_arrow.names, columns, str(file), reading)
            tell_unread(file, table.schema_arrow.names, columns, reading)
            wanted = list(table.schema_arrow.names if columns is None or reading.all_fields else columns)
            names = _names_of_classes(_stored_features(table.schema_arrow.metadata), wanted)
            for batch in table.iter_batches(columns=wanted):
                for fields in batch.to_pylist():
                    number += 1
                    where = f"{file}:row {number}"
                    yield {column: _named(fields[column], names[column]) for column in wanted}, where
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read as parquet: {first_line(error)}") from None


def read_dataset(
    source: str,
    columns: Sequence[str] | None,
    split: str | None,
    reading: Reading | None = None,
    *,
    streaming: bool = False,
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
        said = first_line(error)
        raise DataError(
            f"{source}: no such file, and datasets cannot load it (mind its spelling, and the network): {said}"
        ) from None
    finally:
        hub.setLevel(usual)
    if isinstance(loaded, dict):
        there = ", ".join(loaded)
        raise DataError(f"{source}: say which split, as in {source}:{next(iter(loaded))}; it has: {there}")
    where = f"{name}[{split}]"
    if streaming and loaded.features is None:
        loaded = (
            loaded._resolve_features()
        )  # a stream that does not say what its columns are: it is looked at
    check_columns(loaded.column_names, columns, where, reading or Reading())
    wanted = list(loaded.column_names if columns is None else columns)
    names = _names_of_classes(loaded.features.to_dict(), wanted)
    for index, fields in enumerate(loaded.select_columns(wanted)):
        yield {column: _named(fields[column], names[column]) for column in wanted}, f"{where}[{index}]"


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
