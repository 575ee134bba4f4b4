"""Where rows lie: a file, files in a folder, what a pattern matches, a zip archive; each file opened as bytes."""

from __future__ import annotations

import codecs
import glob
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from ..errors import DataError, did_you_mean, did_you_mean_file

_PARTS = re.compile(r"(?:^|[^a-z])(train|dev|val|valid|validation|test|eval)(?:[^a-z]|$)", re.IGNORECASE)
"""What a name says of the part of a data set that a file is."""


_SAMPLE = 1 << 16
_WIDE = ("utf-16", "utf-32")
"""Encodings in which a newline is more than one byte."""


@dataclass(frozen=True)
class DataFile:
    """One file of data; `str` of it is its name in messages.

    >>> str(DataFile(Path("a.zip"), "train.csv")), DataFile(Path("b.CSV.gz")).suffix
    ('a.zip/train.csv', '.csv')
    """

    path: Path
    member: str = ""
    """Its path within the zip archive at `path`; "" where it is no part of one."""

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def suffix(self) -> str:
        """What its name ends in, in lower case, .gz left aside."""
        return PurePosixPath(Path(self.member or self.path.name).name.lower().removesuffix(".gz")).suffix

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Its bytes, unpacked."""
        if self.member:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                yield cast(IO[bytes], gzip.open(stream)) if self.member.lower().endswith(".gz") else stream
        elif self.path.name.lower().endswith(".gz"):
            with gzip.open(self.path) as stream:
                yield cast(IO[bytes], stream)
        else:
            with self.path.open("rb") as stream:
                yield stream

    def lines(self, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
        """(number from 1, line) of its text, with or without a byte order mark. Only a newline ends a line."""
        for number, line in self.lines_or_faults(encoding):
            if isinstance(line, DataError):
                raise line
            yield number, line

    def lines_or_faults(self, encoding: str = "utf-8") -> Iterator[tuple[int, str | DataError]]:
        """The same, with why a line is none in its place."""
        number = 0
        try:
            with self.open() as stream:
                if encoding.startswith(_WIDE):
                    with io.TextIOWrapper(stream, encoding, newline="\n") as text:
                        for number, decoded in enumerate(text, start=1):
                            yield number, decoded.removeprefix("\ufeff") if number == 1 else decoded
                    return
                for number, line in enumerate(stream, start=1):
                    yield number, self._decoded(line, number, encoding)
        except UnicodeError as error:
            raise DataError(f"{self}:{number + 1}: not {encoding}: {error}") from None
        except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
            raise DataError(f"{self}:{number + 1}: {_damaged(self)}: {error}") from None
        except OSError as error:
            raise DataError(f"{self}: {error.strerror or error}") from None

    def looks_like_utf8(self, encoding: str) -> bool:
        """Whether it is said to be of another encoding, and begins with characters that only UTF-8 would spell so."""
        if (
            encoding == "utf-8" or encoding.startswith(_WIDE) or not self.path.is_file()
        ):  # a pipe is read once
            return False
        with suppress(OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile), self.open() as stream:
            try:
                return not codecs.getincrementaldecoder("utf-8")().decode(stream.read(_SAMPLE)).isascii()
            except UnicodeDecodeError:
                return False
        return False

    def content(self) -> bytes:
        """All of it. Raises DataError, as `lines` does."""
        try:
            with self.open() as stream:
                return stream.read()
        except KeyError:
            raise DataError(f"{self}: no such file in the archive") from None
        except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
            raise DataError(f"{self}: {_damaged(self)}: {error}") from None
        except OSError as error:
            raise DataError(f"{self}: {error.strerror or error}") from None

    def _decoded(self, line: bytes, number: int, encoding: str) -> str | DataError:
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            byte = f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}"
            if encoding != "utf-8":
                return DataError(f"{self}:{number}: not {encoding}: {byte}")
            hint = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip: name it .gz"}.get(
                line[:2]
            )
            looks = f" (it looks like {hint})" if hint and number == 1 else ""
            return DataError(
                f"{self}:{number}: not UTF-8{looks}: {byte}; say its `encoding`, such as latin-1 or gb18030, or "
                f"save it as UTF-8"
            )
        return text.removeprefix("\ufeff") if number == 1 else text


@dataclass(frozen=True)
class StandardInput(DataFile):
    """What is written to this process."""

    path: Path = Path("stdin")

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Its bytes as they come."""
        # Not sys.stdin: its lock, held by the thread that waits for a line, would crash an interpreter that exits.
        with open(0, "rb", closefd=False) as stream:  # no path
            yield stream


def _damaged(file: DataFile) -> str:
    return f"the {'zip' if file.member else 'gzip'} file is damaged or cut off"


def files_of(source: str, known: Sequence[str]) -> list[DataFile] | None:
    """The files that a source names, in the order of their names; None where nothing of that name is there.

    A source is a file; a folder, whose files of `known` suffixes are read; a pattern with * or ?; a zip archive with
    one such file in it, or ARCHIVE.zip/NAME. Raises DataError where it is not clear which files are meant.
    """
    path = Path(source)
    if path.is_dir():
        return _of_folder(path, known)
    if path.exists():
        return [DataFile(path, _only_member(path, known))] if _is_zip(path) else [DataFile(path)]
    for parent in path.parents:
        if _is_zip(parent) and parent.is_file():
            return [DataFile(parent, _member(parent, path.relative_to(parent).as_posix()))]
    if glob.has_magic(source):
        names = sorted(glob.glob(source, recursive=True))  # noqa: PTH207  # Path's takes no absolute pattern
        files = [DataFile(path) for name in names if (path := Path(name)).is_file()]
        if not files:
            raise DataError(f"{source}: no file matches")
        return files
    return None


def nearest(path: Path) -> str:
    """The end of a message about a file that is not there."""
    if not path.parent.is_dir():
        return f"; there is no folder {str(path.parent)!r} either"
    near = did_you_mean_file(path)
    return f"; {near}" if near else ""


def _of_folder(path: Path, known: Sequence[str]) -> list[DataFile]:
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    found = [file for path in files if (file := DataFile(path)).suffix in known]
    if not found:
        raise DataError(f"{path}: a folder without a file of rows; known: {', '.join(known)} (.gz)")
    _refuse_parts(path, [file.path.name for file in found])
    return found


def _only_member(path: Path, known: Sequence[str]) -> str:
    names = [name for name in _members(path) if DataFile(path, name).suffix in known]
    if not names:
        raise DataError(f"{path}: an archive without a file of rows; known: {', '.join(known)} (.gz)")
    if len(names) > 1:
        raise DataError(f"{path}: {len(names)} files in it; name the one, as in {path}/{names[0]}")
    return names[0]


def _member(path: Path, name: str) -> str:
    names = _members(path)
    if name not in names:
        hint = did_you_mean(name, names) or f"it has: {', '.join(names[:10])}"
        raise DataError(f"{path}: no file {name!r} in the archive; {hint}")
    return name


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: not a zip archive that can be read: {error}") from None
    return [
        name for name in names if not name.startswith("__MACOSX/") and not Path(name).name.startswith(".")
    ]


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def _refuse_parts(path: Path, names: Sequence[str]) -> None:
    """A folder with a part to measure on beside what is learned from is two sources."""
    parts = {found[1].lower(): name for name in names if (found := _PARTS.search(name))}
    measured = next((name for part, name in parts.items() if part != "train"), None)
    if measured is not None and len(names) > 1:
        first, second = measured, next(name for name in names if name != measured)
        raise DataError(
            f"{path}: a folder with {first} and {second}, which are learned from and measured on; name the file, or "
            f"the files by a pattern such as {path}/train*"
        )
