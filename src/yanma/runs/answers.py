"""How predictions are written: as JSON lines, or in the format of the file that was asked about."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..data.formats import format_of
from ..data.sources import DataFile
from ..errors import ConfigError

Fields = dict[str, Any]
_NONE = "_"
"""What stands for the class of a word that has no token."""
Write = Callable[[Sequence[Fields]], None]
"""Takes some answers, in their order."""


def writer_of(asked: str, out: Path | None) -> Callable[[BinaryIO], Write]:
    """How answers to rows of the format `asked` are written to `out`, as its name says; without one, as JSON lines.

    Raises ConfigError where rows of that format cannot be written so.
    """
    wanted = None if out is None else format_of(DataFile(out))
    if out is not None and out.name.lower().endswith(".gz"):
        raise ConfigError(f"`out` is {out}; answers are not compressed: leave .gz out")
    if wanted in (None, "jsonl"):
        return json_lines
    tables = ("csv", "tsv")
    if wanted == "conll" and asked in ("conll", "weibo"):
        return words
    if asked in tables and wanted == "csv":
        return comma_separated
    if asked == wanted == "tsv":  # a field of csv may hold tabs and newlines
        return tab_separated
    raise ConfigError(
        f"`out` is named as {wanted}; answers to {asked or 'these'} rows are written as JSON lines (.jsonl)"
        + (", or as the table that they came from" if asked in tables else "")
    )


def json_lines(out: BinaryIO) -> Write:
    """An object a line."""

    def write(answers: Sequence[Fields]) -> None:
        for fields in answers:
            out.write(_json(fields))
        out.flush()

    return write


def comma_separated(out: BinaryIO, **dialect: Any) -> Write:
    """A header, then a line an answer; words of a list with spaces between them."""
    begun = False

    def write(answers: Sequence[Fields]) -> None:
        nonlocal begun
        text = io.StringIO(newline="")
        rows = csv.writer(text, **dialect)
        for fields in answers:
            if not begun:
                rows.writerow(fields)
                begun = True
            rows.writerow([_joined(v) if isinstance(v, list) else v for v in fields.values()])
        out.write(text.getvalue().encode())
        out.flush()

    return write


def tab_separated(out: BinaryIO) -> Write:
    """The same with tabs, and fields as they stand."""
    return comma_separated(out, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")


def words(out: BinaryIO) -> Write:
    """A word and its tag a line, an empty line behind each sentence."""

    def write(answers: Sequence[Fields]) -> None:
        for fields in answers:
            tokens, *_, tags = fields.values()
            out.write(
                "".join(
                    f"{token}\t{tag or _NONE}\n" for token, tag in zip(tokens, tags, strict=True)
                ).encode()
                + b"\n"
            )
        out.flush()

    return write


def _joined(words: list[object]) -> str:
    return " ".join(_NONE if word is None else str(word) for word in words)


def _json(fields: Fields) -> bytes:
    try:
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a field holds half a surrogate pair, which JSON can spell and UTF-8 cannot
        return json.dumps(fields).encode() + b"\n"
