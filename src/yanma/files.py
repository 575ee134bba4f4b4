"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def remove(place: Path) -> None:
    """Remove a file or a folder, if it is there."""
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)


def place_of(text: str) -> Path | None:
    """The file or folder that a text names; None where it is a text and no name of anything that is there."""
    try:
        path = Path(text).expanduser()
        return path if text and path.exists() else None
    except (OSError, RuntimeError):  # a text may be too long for a name, or begin with ~
        return None


def write(path: Path, content: str | bytes) -> None:
    """Make or replace a file, in one instant."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        flush_to_disk(path.parent)
    except OSError as error:
        error.filename = str(path)  # a full disk names no file
        raise
    finally:
        fresh.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def full_disk_is_an_os_error() -> Iterator[None]:
    """safetensors tells of the system's errors in a class of its own."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise OSError(str(error)) from error
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
