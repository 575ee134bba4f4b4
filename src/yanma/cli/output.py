"""Data goes to stdout, words to stderr; of several processes that a launcher started the first one speaks."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from ..runs.config import RunConfig

Json = Annotated[bool, typer.Option("--json", help="print the report as JSON")]
Page = Annotated[Path | None, typer.Option(help="a page whose part between two markers is rewritten")]


def is_first_rank() -> bool:
    """Whether this is the process that speaks, of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def put(data: str) -> None:
    """Data, for stdout."""
    if is_first_rank():
        print(data, flush=True)


def say(words: str) -> None:
    """Words, for stderr."""
    if is_first_rank():
        print(words, file=sys.stderr, flush=True)


def say_error(words: str) -> None:
    """What went wrong, on one line."""
    say(f"error: {' '.join(words.splitlines())}")


def fail(words: str, *, code: int) -> NoReturn:
    """Say what went wrong, and exit."""
    say_error(words)
    sys.exit(code)


@contextmanager
def leaving(kind: type[RunConfig], out: str) -> Iterator[None]:
    """Say what a run's folder holds at its end, and where it is interrupted or the system fails it."""
    try:
        from ..runs.folder import RunFolder
    except KeyboardInterrupt:
        say("interrupted before anything was begun")
        raise typer.Exit(130) from None
    folder = RunFolder(out, kind)
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted; {folder.describe()}")
        raise typer.Exit(130) from None
    except OSError as error:
        fail(f"{told(error)}; {folder.describe()}", code=1)
    say(folder.describe())


def with_flags(words: str, flags: Mapping[str, str]) -> str:
    """A message of the library with the command's own flags in the place of the settings that it names.

    >>> with_flags("`max_length` is 9; `it` must be less", {"max_length": "--max-length"})
    '--max-length is 9; `it` must be less'
    """
    return re.sub(r"`(\w+)`", lambda found: flags.get(found[1], found[0]), words)


def told(error: OSError) -> str:
    """Which file, and what the system said of it."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def is_coloured() -> bool:
    """Whether stdout is a terminal that shows colours, and nobody asked for none (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
