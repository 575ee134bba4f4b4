"""Documents of a corpus, one after the other, from files of any size, folders, globs and sets of `datasets`."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..errors import ConfigError, DataError, did_you_mean, did_you_mean_file
from .columnar import read_dataset
from .formats import format_of, read_file
from .reading import Reading, Record
from .rows import Row
from .sources import DataFile

DocumentRule = Literal["line", "paragraph", "file"]
"""What of a plain text file is one document."""

_COLUMN = "text"
_RULE: DocumentRule = "line"
_PLAIN = (".txt", ".text")
_KNOWN = (*_PLAIN, ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Document:
    """One text of a corpus."""

    text: str
    """Never empty, and more than spaces."""
    where: str
    """ "file:line", as it stands in messages."""


class Documents(Iterator[Document]):
    """Documents in the order of their sources, each read when it is asked for, once."""

    def __init__(self, rows: Iterator[tuple[str, str]]) -> None:
        self._rows = rows
        self.num_empty = 0
        """Texts so far that were empty, or nothing but spaces, and were left out."""

    def __next__(self) -> Document:
        """Raises DataError, with file:line, for what cannot be read."""
        for text, where in self._rows:
            if text.strip():
                return Document(text, where)
            self.num_empty += 1
        raise StopIteration


def read_documents(
    sources: Sequence[str],
    *,
    column: str = _COLUMN,
    rule: DocumentRule = _RULE,
    reading: Reading | None = None,
) -> Documents:
    r"""The documents of some sources, in the order in which they are named.

    A source is one of:

    - a file: .txt (plain text), or .jsonl, .json, .csv, .tsv, .parquet with texts in `column`; each may end in .gz; or
      words with their tags, as .conll, whose sentences are the texts, with spaces between words;
    - a folder: its files of these kinds, and those of the folders in it, sorted by their paths; others are passed over;
    - a glob, such as "shards/*.jsonl.gz": what it matches, sorted;
    - NAME:SPLIT or NAME:CONFIG:SPLIT of a set that `datasets` streams.

    `rule` says what a document is in plain text: a "line", a "paragraph" (lines between empty ones) or a whole "file".
    `reading` says how files are read where their names do not.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.txt").write_text("Where is it?\nHere.\n\nThere.\n")
    >>> [document.text for document in read_documents([str(folder)])]
    ['Where is it?', 'Here.', 'There.']
    >>> [document.text for document in read_documents([str(folder)], rule="paragraph")]
    ['Where is it?\nHere.', 'There.']

    Files are looked for at once, so DataError for one that is missing comes before anything is read; for what is wrong
    in a file it comes when its line is reached. Raises ConfigError for no source and for an unknown rule.
    """
    if rule not in get_args(DocumentRule):
        known = get_args(DocumentRule)
        hint = did_you_mean(rule, known) or f"there are {', '.join(known)}"
        raise ConfigError(f"rule is {rule!r}; {hint}")
    if not sources or isinstance(sources, str):
        raise ConfigError(f"sources is {sources!r}; give a list of one file, folder, glob or set or more")
    reading = reading or Reading(setting="column")
    found = [part for source in sources for part in _parts(source, reading)]
    return Documents(row for part in found for row in _texts(part, column, rule, reading))


def check_used(
    sources: Sequence[str],
    *,
    column: str = _COLUMN,
    rule: DocumentRule = _RULE,
    settings: tuple[str, str] = ("column", "documents"),
) -> None:
    """Raises ConfigError where a column is named and all sources are plain text, or a rule and none of them is.

    `settings` are the names of the two, as messages say them.

    >>> check_used(["wikitext:train"], rule="file")
    Traceback (most recent call last):
      ...
    yanma.errors.ConfigError: `documents` is 'file', but wikitext:train has rows, each of them one text; leave it out

    Raises DataError for a source that is not there.
    """
    parts = [part for source in sources for part in _parts(source)]
    plain = [isinstance(part, Path) and _kind(part) in _PLAIN for part in parts]
    read = ", ".join(sources)
    if column != _COLUMN and all(plain):
        raise ConfigError(
            f"`{settings[0]}` is {column!r}, but {read} is plain text without columns; leave it out"
        )
    if rule != _RULE and not any(plain):
        raise ConfigError(
            f"`{settings[1]}` is {rule!r}, but {read} has rows, each of them one text; leave it out"
        )


def _parts(source: str, reading: Reading | None = None) -> Sequence[Path | str]:
    """The files of a source; the source itself where it is a set of `datasets`."""
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file) is not None)
        if not files:
            raise DataError(f"{source}: a folder without a file of text; known: {', '.join(_KNOWN)} (.gz)")
        return files
    if path.is_file():
        return [_checked(path, reading)]
    if glob.has_magic(source):
        names = glob.glob(source, recursive=True)  # noqa: PTH207  # Path's takes no absolute pattern
        files = sorted(path for name in names if (path := Path(name)).is_file())
        if not files:
            raise DataError(f"{source}: no file matches")
        return [_checked(file, reading) for file in files]
    if _kind(path) is None and ":" in source:
        return [source]
    near = did_you_mean_file(path)
    raise DataError(
        f"{source}: no such file or folder; {near}{' ' * bool(near)}a set of datasets is NAME:SPLIT"
    )


def _kind(path: Path) -> str | None:
    """The suffix that says how a file is read, .gz left aside; None for a file that is no text."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return suffix if suffix in _KNOWN else None


def _checked(path: Path, reading: Reading | None) -> Path:
    if _kind(path) is None and format_of(DataFile(path), reading) is None:
        raise DataError(
            f"{path}: the name does not say its format; known: {', '.join(_KNOWN)} (.gz); plain text is called .txt"
        )
    return path


def _texts(part: Path | str, column: str, rule: DocumentRule, reading: Reading) -> Iterator[tuple[str, str]]:
    """(text, where); a text may be empty."""
    if isinstance(part, str):
        return _column(read_dataset(part, [column], None, reading, streaming=True), column)
    file = DataFile(part)
    kind = format_of(file, reading)
    if kind is None or (kind == "text" and reading.delimiter is None):
        return {"line": _lines, "paragraph": _paragraphs, "file": _whole}[rule](file, reading.encoding)
    if kind in ("conll", "weibo", "brat") and column == _COLUMN:
        column = "tokens"
    return _column(read_file(file, [column], reading), column)


def _column(records: Iterator[Record], column: str) -> Iterator[tuple[str, str]]:
    for fields, where in records:
        if isinstance(fields, DataError):
            raise fields
        value = fields[column]
        value = (
            " ".join(value) if isinstance(value, list) and all(isinstance(w, str) for w in value) else value
        )
        is_empty = value is None or (isinstance(value, str) and not value.strip())
        yield "" if is_empty else Row({column: value}, where).text(column), where


def _lines(file: DataFile, encoding: str) -> Iterator[tuple[str, str]]:
    for number, line in file.lines(encoding):
        yield line.rstrip("\r\n"), f"{file}:{number}"


def _paragraphs(file: DataFile, encoding: str) -> Iterator[tuple[str, str]]:
    lines: list[str] = []
    first = 0
    for number, line in file.lines(encoding):
        if line.strip():
            first = first if lines else number
            lines.append(line.rstrip("\r\n"))
        elif lines:
            yield "\n".join(lines), f"{file}:{first}"
            lines = []
    if lines:
        yield "\n".join(lines), f"{file}:{first}"


def _whole(file: DataFile, encoding: str) -> Iterator[tuple[str, str]]:
    yield "".join(line for _, line in file.lines(encoding)), f"{file}:1"
