"""Tags of words: which schemes there are, and what is wrong with a tag or a row of tags.

BIO     B-X begins an entity of type X, I-X goes on with it, O is outside. Read as conlleval does: an I-X that goes on
        with nothing begins an entity. So plain IO (I-X alone) and the old IOB1 are read rightly too.
BIOES   also E-X, the end of an entity, and S-X, an entity of one word. Read strictly: what is not well-formed is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

OUTSIDE = "O"
_PREFIXES = "BIES"
_ADVICE = {
    "L": "this is BILOU: write E- for L- and S- for U-",
    "U": "this is BILOU: write E- for L- and S- for U-",
    "M": "this is BMES: write I- for M-",
}


def parts(tag: str) -> tuple[str, str]:
    """Prefix and type: ("B", "PER") of "B-PER", ("O", "") of "O".

    Raises ValueError, which says what to write instead.
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, dash, kind = tag.partition("-")
    if dash and kind and prefix in _PREFIXES and len(prefix) == 1:
        return prefix, kind
    if dash and kind and prefix in _ADVICE:
        raise ValueError(_ADVICE[prefix])
    raise ValueError("a tag is O, or B-, I-, E- or S- and a type, such as B-PER")


def tag_set(tags: Iterable[str]) -> tuple[str, ...]:
    """All tags that a model should know: O, then every prefix of the scheme with every type that is seen.

    Complete even where a tag is not seen, so that a rare one in the test data has its place.

    >>> tag_set(["O", "B-PER", "I-PER", "B-LOC"])
    ('O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER')
    >>> tag_set(["I-PER", "S-PER"])
    ('O', 'B-PER', 'I-PER', 'E-PER', 'S-PER')
    """
    seen = [parts(tag) for tag in tags if tag != OUTSIDE]
    used = {prefix for prefix, _ in seen}
    prefixes = "BIES" if used & {"E", "S"} else "BI" if "B" in used else "I"
    types = sorted({kind for _, kind in seen})
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in types for prefix in prefixes))


def is_bioes(tags: Iterable[str]) -> bool:
    """Whether these tags are of the strict scheme."""
    return any(tag[0] in "ES" for tag in tags)


def first_break(tags: Sequence[str]) -> str | None:
    """What is wrong with a row of BIOES tags, or None. A broken entity would be left out of every count.

    >>> first_break(["B-PER", "E-PER", "S-LOC", "O"])
    >>> first_break(["B-PER", "O"])
    "tag 2 is 'O' after 'B-PER': an entity that B- or I- leaves open goes on with I- or E- of its type"
    """
    open_type: str | None = None
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, kind = parts(tag)
        goes_on = prefix in "IE"
        if (open_type is not None or goes_on) and not (goes_on and kind == open_type):
            here = f"tag {place + 1} is {tag!r}" if place < len(tags) else "the row ends"
            after = f" after {tags[place - 1]!r}" if place else ""
            rule = (
                "I- and E- go on with an entity of their type that B- began"
                if open_type is None
                else "an entity that B- or I- leaves open goes on with I- or E- of its type"
            )
            return f"{here}{after}: {rule}"
        open_type = kind if prefix in "BI" else None
    return None
