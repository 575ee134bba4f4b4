"""The parts of a page that are written by a command: each stands between two markers, the rest is written by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import ConfigError


@dataclass(frozen=True)
class Markers:
    """Those of one command.

    >>> page = Markers("yanma bench masks").replaced(Markers("yanma bench masks").empty, "a table\\n")
    >>> page.splitlines()[1:-1]
    ['', 'a table', '']
    """

    command: str
    heading: str = ""
    """First line of a page that is made where there is none; "" = the page must be there."""

    @property
    def begin(self) -> str:
        """The line before the part."""
        return f"<!-- {self.command}: begin; what stands between these markers is written by its --write -->"

    @property
    def end(self) -> str:
        """The line after it."""
        return f"<!-- {self.command}: end -->"

    @property
    def empty(self) -> str:
        """Both, with nothing between them."""
        return f"{self.begin}\n{self.end}\n"

    def check(self, path: Path) -> None:
        """Raise ConfigError, before anything is measured, where `write` could not write."""
        self.replaced(self._text(path), "", str(path))

    def write(self, path: Path, lines: Iterable[str]) -> None:
        """Rewrite the part of a page that is between the markers."""
        measured = "\n".join(lines) + "\n"
        path.write_text(self.replaced(self._text(path), measured, str(path)), encoding="utf-8")

    def replaced(self, page: str, measured: str, where: str = "the page") -> str:
        """The page with the part between the markers replaced.

        Raises ConfigError where the markers are not there, once each and in their order.
        """
        begin, end = self.begin, self.end
        if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
            raise ConfigError(
                f"{where}: it must have these two lines, between which the results go:\n{begin}\n{end}"
            )
        head, rest = page.split(begin)
        return f"{head}{begin}\n\n{measured}\n{end}{rest.split(end)[1]}"

    def _text(self, path: Path) -> str:
        if self.heading and not path.exists():
            if not path.absolute().parent.is_dir():
                raise ConfigError(f"{path}: there is no folder {path.parent}")
            return f"{self.heading}\n\n{self.empty}"
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"`write` {path}: {error.strerror or error}") from None
