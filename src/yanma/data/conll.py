"""Files with a word a line and an empty line after each sentence: CoNLL's in its many forms, and Weibo's."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ..errors import DataError
from .reading import Reading, Record, are_numbers, check_columns
from .sources import DataFile

USUAL = ("tokens", "tags")
_DOCUMENT_START = "-DOCSTART-"  # CoNLL-2003's mark between documents: no word of a sentence
_UNIVERSAL = "ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC".split()
"""The columns of CoNLL-U."""
_NO_WORD = re.compile(r"\d+[-.]\d+")
"""The number of what is no word of its own in CoNLL-U: several words in one (3-4), or none that is written (8.1)."""
_PLACED = re.compile(r"\D\d")
"""A character with the digit of its place in a word, as in Weibo NER."""
_GLOBAL = "# global.columns ="
_LOOKED_AT = 200
"""Words at the beginning of a file by which it is told what its columns are."""

_LONG_SENTENCE = 1000
"""More words than that are more likely a file without empty lines."""

Line = tuple[int, list[str]]
"""Its number, and its columns; none for an empty line."""


def read_conll(file: DataFile, columns: Sequence[str] | None, reading: Reading) -> Iterator[Record]:
    """A row a sentence, with the columns `tokens` and `tags`; `where` is the line of its first token.

    Columns are cut at tabs where a line has one, else at spaces. The token is the first column and the tag the last,
    unless columns are said by their numbers from 1, or by name: those of CoNLL-U (FORM, UPOS, ...), or those of a line
    `# global.columns = ...`. One column is enough where `tags` is not wanted.
    Before a sentence a line that begins with # and has other columns than words have is a comment.
    """
    yield from _sentences(file, columns, reading, digits=False)


def read_weibo(file: DataFile, columns: Sequence[str] | None, reading: Reading) -> Iterator[Record]:
    """CoNLL whose tokens are characters, each with the digit of its place in a word, which is left out."""
    yield from _sentences(file, columns, reading, digits=True)


def _sentences(
    file: DataFile, columns: Sequence[str] | None, reading: Reading, *, digits: bool
) -> Iterator[Record]:
    lines = _lines(file, reading)
    head = list(islice(lines, _LOOKED_AT))
    names = _names(file, head)
    head = [(number, cells) for number, cells in head if cells[:1] != [_GLOBAL]]
    width = _usual_width(head)
    wanted = tuple(columns or USUAL[: max(1, width)])
    places = _places(wanted, names, f"{file}:1, read as CoNLL", reading)
    if not digits and places.get(wanted[0], 0) == 0:
        _check_tokens(file, head)
    usual = set(wanted) <= set(USUAL)  # else chosen by the user: then other columns may come and go
    least = 1 + ("tags" in wanted) if usual else 1 + max(places.values())
    words: list[list[str]] = []
    first, fault, comments = 0, None, None
    if names:
        rule = _Comments()
    elif usual:
        tags = {cells[-1] for _, cells in head if cells and not cells[0].startswith("#")}
        rule = _Comments(width, tags | {"O"} if "tags" in wanted else None)
    else:
        rule = _Comments(least=least)
    for number, cells in _with_end(head, lines):
        if cells and not words and rule.holds(cells):
            comments = comments or (number, " ".join(cells))
            continue
        if cells[:1] == [_DOCUMENT_START] or not cells:
            if len(words) > _LONG_SENTENCE:
                reading.note(
                    f"{file}:{first}: a sentence of {len(words)} words; an empty line ends a sentence"
                )
            if words:
                yield fault or _sentence(words, wanted, places, digits), f"{file}:{first}"
            words, fault = [], None
            continue
        first = first if words else number
        if names == _UNIVERSAL and _NO_WORD.fullmatch(cells[0]):
            continue
        fault = fault or _fault(cells, width if usual else None, least, f"{file}:{number}")
        words.append(cells)
    if comments is not None and not names:
        reading.note(f"{file}:{comments[0]}: read as a comment, as are others like it: {comments[1]}")


@dataclass(frozen=True)
class _Comments:
    """Which lines before a sentence are comments: those that begin with # and are no words."""

    width: int | None = None
    """Columns of words, where all lines have as many."""
    tags: Collection[str] | None = None
    """What stands in the last of them."""
    least: int | None = None
    """How many columns are read at least, where they were chosen and others may come and go."""

    def holds(self, cells: Sequence[str]) -> bool:
        if not cells[0].startswith("#"):
            return False
        if self.least is not None:
            return len(cells) < self.least
        if self.width is None or len(cells) != self.width:
            return True  # columns that have names have an index before the word
        return self.tags is not None and cells[0] == "#" and cells[-1] not in self.tags


def _lines(file: DataFile, reading: Reading) -> Iterator[Line]:
    by_tabs = False
    for number, line in file.lines(reading.encoding):
        if line.startswith(_GLOBAL):
            yield number, [_GLOBAL, *line.removeprefix(_GLOBAL).split()]
            continue
        line = line.rstrip(" \t\r\n")
        if reading.delimiter is not None:
            yield number, line.split(reading.delimiter) if line.strip() else []
        elif not line.strip(" \t"):
            yield number, []
        else:
            by_tabs = by_tabs or "\t" in line  # then a line without a tab is one column
            yield number, line.split("\t") if by_tabs else [cell for cell in line.split(" ") if cell]


def _with_end(head: Sequence[Line], lines: Iterator[Line]) -> Iterator[Line]:
    yield from head
    yield from lines
    yield 0, []


def _names(file: DataFile, head: Sequence[Line]) -> list[str]:
    """What the file calls its columns; [] where it has no names for them."""
    for _, cells in head:
        if cells[:1] == [_GLOBAL]:
            return cells[1:]
    words = [cells for _, cells in head if cells and not cells[0].startswith("#")]
    is_universal = file.suffix == ".conllu" or (
        bool(words) and all(len(cells) == len(_UNIVERSAL) for cells in words) and words[0][0] in ("1", "1-2")
    )
    return _UNIVERSAL if is_universal else []


def _places(wanted: Sequence[str], names: Sequence[str], where: str, reading: Reading) -> dict[str, int]:
    """The place of each wanted column, -1 for the last."""
    if are_numbers(wanted):
        return {column: int(column) - 1 for column in wanted}
    if set(wanted) <= set(USUAL):
        if names:
            raise DataError(
                f"{where}: its columns are {', '.join(names)}; say which are the words and the tags, as in `columns` "
                f"tokens=FORM,tags=UPOS"
            )
        return {"tokens": 0, "tags": -1}
    check_columns(
        list(names) or list(USUAL), wanted, where, reading, "; a column may be said by its number, from 1"
    )
    return {column: list(names).index(column) for column in wanted}


def _usual_width(head: Sequence[Line]) -> int:
    """How many columns words have, as the first has that is no comment."""
    words = [cells for _, cells in head if cells and cells[0] not in (_DOCUMENT_START, _GLOBAL)]
    return next(
        (len(cells) for cells in words if not cells[0].startswith("#")), len(words[0]) if words else 0
    )


def _check_tokens(file: DataFile, head: Sequence[Line]) -> None:
    """Raises DataError where first columns are no words: numbers of words, or characters with the digit of a place."""
    words = [(number, cells) for number, cells in head if cells and not cells[0].startswith("#")]
    if len(words) < 2:
        return
    firsts = [cells[0] for _, cells in words]
    where = f"{words[0][0]}, read as CoNLL"
    if firsts[:2] == ["1", "2"] and all(first.isdigit() for first in firsts) and len(words[0][1]) > 1:
        raise DataError(
            f"{file}:{where}: the first column counts the words; say which columns are the words and their tags, as in "
            f"`columns` tokens=2,tags={min(3, len(words[0][1]))}"
        )
    if all(_PLACED.fullmatch(first) for first in firsts):
        raise DataError(
            f"{file}:{where}: each token is a character with a digit behind it, its place in a word, as in Weibo NER; "
            f"`format` weibo leaves the digits out"
        )


def _fault(cells: Sequence[str], width: int | None, least: int, where: str) -> DataError | None:
    """Why a line cannot be used; `width` is that of all lines, None where columns were chosen and others may vary."""
    seen, where = len(cells), f"{where}, read as CoNLL"
    if width is None:
        return DataError(f"{where}: {seen} columns; column {least} is asked for") if seen < least else None
    if seen != width:
        return DataError(
            f"{where}: {seen} columns, but the lines before have {width}; columns can be said by number, as in "
            f"`columns` tokens=1,tags=2"
        )
    if seen < least:
        return DataError(
            f"{where}: one column; a line is a token and its tag, with a tab or a space between them"
        )
    return None


def _sentence(
    words: Sequence[Sequence[str]], wanted: Sequence[str], places: dict[str, int], digits: bool
) -> dict[str, object]:
    found = {column: [cells[places[column]] for cells in words] for column in wanted}
    if digits:  # of the tokens
        found[wanted[0]] = [token[:-1] if _PLACED.fullmatch(token) else token for token in found[wanted[0]]]
    return dict(found)
