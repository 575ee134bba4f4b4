"""Tags of words: which scheme they are of, what is wrong with a row of them, and how it is mended.

A tag is O, outside; or a letter and a type, such as B-PER; or the letter alone, where there is one type without a name.

         one word   more      a neighbour of the same type
IO       I          I I I     cannot be told apart
IOB1     I          I I I     B I I
BIO      B          B I I     B I I                          also called IOB2
BIOES    S          B I E     B I E                          also called IOBES
BILOU    U          B I L     B I L
BMES     S          B M E     B M E
BMEWO    W          B M E     B M E

The first three are read as conlleval does: an I that goes on with nothing begins an entity. Those that mark ends are
read strictly: what is not well-formed is no entity. Tags of which none is O or has such a letter and a type are classes
of words, such as parts of speech: each word has one, and none is outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import combinations, pairwise

from .labels import in_order

OUTSIDE = "O"
NAMELESS = "_"
"""What the type of tags without one is called in reports, as seqeval has it."""

_TAG = re.compile(r"([BIELMSUW])(?:-(.+))?", re.DOTALL)
_SMALL = re.compile(r"[bielmsuw]-.+", re.DOTALL)
_ROLES = {"L": "E", "U": "S", "M": "I", "W": "S"}
"""Letters as BIOES has them, where they differ."""
_RULE = "a tag is O, or a letter of a scheme (B, I, E, S; L, U; M, W) and a type, such as B-PER"


class Scheme(StrEnum):
    """How the tags of words spell entities."""

    IO = "IO"
    IOB1 = "IOB1"
    BIO = "BIO"
    BIOES = "BIOES"
    BILOU = "BILOU"
    BMES = "BMES"
    BMEWO = "BMEWO"
    CLASSES = "classes of words"

    @property
    def letters(self) -> str:
        """Of the begin, the inside, the end and the single word of an entity, as far as the scheme has them."""
        return _LETTERS[self]

    @property
    def marks_ends(self) -> bool:
        """Whether an entity has a last word that can be told, and so a row can break the scheme."""
        return len(self.letters) == 4

    def first_break(self, tags: Sequence[str]) -> str | None:
        """What is wrong with a row, or None. A broken entity would be left out of every count.

        >>> Scheme.BILOU.first_break(["B-PER", "L-PER", "U-LOC", "O"])
        >>> Scheme.BILOU.first_break(["B-PER", "O"])
        "tag 2 is 'O' after 'B-PER': an entity that B or I leaves open goes on with I or L of its type"
        """
        if not self.marks_ends:
            return None
        begin, inside, end, _ = tuple(self.letters)
        open_type: str | None = None
        for place, tag in enumerate([*tags, OUTSIDE]):
            letter, kind = parts(tag)
            goes_on = letter in (inside, end)
            if (open_type is not None or goes_on) and not (goes_on and kind == open_type):
                here = f"tag {place + 1} is {tag!r}" if place < len(tags) else "the row ends"
                after = f" after {tags[place - 1]!r}" if place else ""
                rule = (
                    f"{inside} and {end} go on with an entity of their type that {begin} began"
                    if open_type is None
                    else f"an entity that {begin} or {inside} leaves open goes on with {inside} or {end} of its type"
                )
                return f"{here}{after}: {rule}"
            open_type = kind if letter in (begin, inside) else None
        return None

    def repaired(self, tags: Sequence[str]) -> list[str]:
        """A row without a break: its entities, read as leniently as they can be, in well-formed tags.

        An entity begins where a tag says so, and where one goes on with nothing; it ends where a tag says so, and where
        the type changes.

        >>> Scheme.BIOES.repaired(["I-PER", "I-PER", "O", "B-LOC", "E-PER"])
        ['B-PER', 'E-PER', 'O', 'S-LOC', 'S-PER']
        """
        if not self.marks_ends:
            return list(tags)
        begin, inside, end, single = tuple(self.letters)
        written = [OUTSIDE] * len(tags)
        for kind, first, after in _spans(tags):
            long = [begin, *inside * (after - first - 2), end]
            for place, letter in enumerate([single] if after - first == 1 else long, first):
                written[place] = f"{letter}-{kind}" if kind else letter
        return written

    def as_bioes(self, tags: Iterable[str]) -> list[str]:
        """The tags with the letters that BIOES has for them."""
        return [_ROLES.get(tag[0], tag[0]) + tag[1:] for tag in tags]


_LETTERS = {
    Scheme.IO: "I",
    Scheme.BIO: "BI",
    Scheme.BIOES: "BIES",
    Scheme.BILOU: "BILU",
    Scheme.BMES: "BMES",
    Scheme.BMEWO: "BMEW",
    Scheme.IOB1: "BI",
    Scheme.CLASSES: "",
}
"""In the order in which they are tried: letters that two schemes have are of the first."""


class Mixed(ValueError):
    """Two tags that no scheme has together."""

    def __init__(self, tag: str, other: str, why: str) -> None:
        super().__init__(f"tag {tag!r} beside {other!r}: {why}")
        self.tag, self.other, self.why = tag, other, why


def parts(tag: str) -> tuple[str, str]:
    """Letter and type: ("B", "PER") of "B-PER", ("B", "") of "B", ("O", "") of "O". Raises ValueError for others."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    found = _TAG.fullmatch(tag)
    if found is None:
        raise ValueError(_RULE)
    return found[1], found[2] or ""


def scheme_of(tags: Iterable[str]) -> Scheme:
    """The scheme of all these tags, of which some may be missing; BIO where only their order would tell IOB1.

    >>> [str(scheme_of(tags.split())) for tags in ("O I-X", "O B-X U-Y", "B M E S", "NOUN VERB M $")]
    ['IO', 'BILOU', 'BMES', 'classes of words']

    Raises Mixed for tags of more than one.
    """
    known = list(dict.fromkeys(tags))
    ours = [tag for tag in known if tag == OUTSIDE or _TAG.fullmatch(tag)]
    # A letter alone may be a class like others: M, of measure words.
    sure = [tag for tag in ours if tag == OUTSIDE or len(tag) > 1]
    other = next((tag for tag in known if tag != OUTSIDE and not _TAG.fullmatch(tag)), None)
    if other is not None and not sure:
        return Scheme.CLASSES
    if other is not None:
        named = "; classes of words, such as NOUN, have no O among them" if set(sure) == {OUTSIDE} else ""
        raise Mixed(other, sure[0], _RULE + named)
    firsts: dict[tuple[str, bool], str] = {}
    for tag in ours:
        if tag != OUTSIDE:
            firsts.setdefault((tag[0], len(tag) > 1), tag)
    for one, later in combinations(firsts.values(), 2):
        if (len(one) > 1) != (len(later) > 1):
            raise Mixed(later, one, "one has a type and the other has none")
        if not _of({one[0], later[0]}):
            raise Mixed(later, one, f"no scheme has both {one[0]} and {later[0]}")
    return _of({letter for letter, _ in firsts})[0]


def looks_like_scheme(tag: str) -> bool:
    """Whether it would be a tag of a scheme, were its letter a capital: b-PER."""
    return _SMALL.fullmatch(tag) is not None


def tag_set(tags: Iterable[str], scheme: Scheme) -> tuple[str, ...]:
    """All tags that a model should know: O, then every letter of the scheme with every type that is seen.

    Complete even where a tag is not seen, so that a rare one in the test data has its place. Classes are as they are.

    >>> tag_set(["O", "B-PER", "I-PER", "B-LOC"], Scheme.BIO)
    ('O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER')
    >>> tag_set(["B", "E"], Scheme.BMES), tag_set(["VERB", "NOUN"], Scheme.CLASSES)
    (('O', 'B', 'M', 'E', 'S'), ('NOUN', 'VERB'))
    """
    if scheme is Scheme.CLASSES:
        return in_order(tags)
    types = sorted({parts(tag)[1] for tag in tags if tag != OUTSIDE})
    return (
        OUTSIDE,
        *(f"{letter}-{kind}" if kind else letter for kind in types for letter in scheme.letters),
    )


def begins_apart(tags: Sequence[str]) -> bool:
    """Whether some B of a row of BIO begins an entity where none of its type stands right before. In IOB1 none does.

    >>> begins_apart(["O", "B-PER", "I-PER"]), begins_apart(["I-PER", "B-PER", "O"])
    (True, False)
    """
    return any(
        tag[0] == "B" and (before == OUTSIDE or before[1:] != tag[1:])
        for before, tag in pairwise((OUTSIDE, *tags))
    )


def _of(letters: set[str]) -> list[Scheme]:
    """The schemes that have all these letters."""
    return [scheme for scheme, known in _LETTERS.items() if letters <= set(known)]


def _spans(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """(type, first word, after the last) of the entities, read leniently."""
    kind, first = "", None
    for place, tag in enumerate([*tags, OUTSIDE]):
        letter, own = parts(tag)
        role = _ROLES.get(letter, letter)
        if first is not None and (role in "BSO" or own != kind):
            yield kind, first, place
            first = None
        if role != OUTSIDE and first is None:
            kind, first = own, place
        if first is not None and role in "ES":
            yield kind, first, place + 1
            first = None
