"""Units, rates, replacements and resampling by the names that settings and the command line give them."""

from __future__ import annotations

import re
from typing import Any, Protocol, cast

from .phrases import Phrases
from .plan import Resampling
from .rates import Between, Decay, Rate
from .replacement import ALL_MASK, ALL_RANDOM, BERT, Replacement
from .units import Spans, Unit, needs_words
from .words import Offsets, Segmenter, WordIds, sentences, whole_words

UNITS: dict[str, Unit] = {
    "token": "token",
    "word": "word",
    "phrase": "word",
    "sentence": "word",
    "span": Spans.geometric(),
    "ngram": Spans.ngrams(),
}
"""What each is to a plan."""

REPLACEMENTS: dict[str, Replacement] = {
    "bert": BERT,
    "spanbert": Replacement(per="unit"),
    "mask": ALL_MASK,
    "random": ALL_RANDOM,
}
"""What stands in the place of hidden tokens."""

_NUMBER = r"(\d*\.?\d+(?:e-?\d+)?)"
_DECAY = re.compile(rf"{_NUMBER}\s*->\s*{_NUMBER}\s+(linear|cosine|step)(?:\s+(\d+))?")
_BETWEEN = re.compile(rf"{_NUMBER}\s*\.\.\s*{_NUMBER}")


class Numbering(Protocol):
    """Which unit each token of a text is of; `word_ids` are those of `whole_words`."""

    def __call__(self, text: str, offsets: Offsets, word_ids: WordIds | None = None, /) -> list[int]:
        """From 0, one a token; -1 for special tokens."""


def numbering(
    unit: str, *, segmenter: Segmenter | None = None, phrases: Phrases | None = None
) -> Numbering | None:
    """How the tokens of a text are numbered for a unit of `UNITS`; None where a plan does not ask.

    >>> numbering("word")("a b", [(0, 1), (2, 3)]), numbering("token")
    ([0, 1], None)

    Raises ValueError for "phrase" without phrases.
    """
    if unit == "sentence":
        return lambda text, offsets, word_ids=None: sentences(text, offsets)
    if unit == "phrase":
        if phrases is None:
            raise ValueError("unit is 'phrase': say which, phrases=")
        return lambda text, offsets, word_ids=None: phrases.whole(text, offsets, segmenter, word_ids)
    if needs_words(UNITS[unit]):
        return lambda text, offsets, word_ids=None: whole_words(text, offsets, segmenter, word_ids)
    return None


def resampling_of(text: str) -> Resampling:
    """When other tokens are hidden, as it is written.

    >>> resampling_of("never"), resampling_of("10")
    ('never', 10)

    Raises ValueError for anything but "every epoch", "never" and a number of fixed copies.
    """
    match text:
        case "every epoch" | "never":
            return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise ValueError(f"must be 'every epoch', 'never' or a number of fixed copies, 1 or more; got {text!r}")


def rate_of(text: str) -> Rate:
    """A rate as it is written: a share, one drawn for each example, or one that decays over training.

    >>> rate_of("0.15"), rate_of("0.1..0.5"), rate_of("0.3->0.15 linear")
    (0.15, Between(low=0.1, high=0.5), Decay(start=0.3, end=0.15, kind='linear', num_steps=4))
    >>> rate_of("0.3 -> 0.1 step 2").num_steps
    2

    Raises ValueError for what is no rate.
    """
    if found := _BETWEEN.fullmatch(text.strip()):
        return Between(float(found[1]), float(found[2]))
    if (found := _DECAY.fullmatch(text.strip())) and (found[3] == "step" or found[4] is None):
        return Decay(float(found[1]), float(found[2]), cast(Any, found[3]), int(found[4] or 4))
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no rate; give a share as 0.15, one that decays as '0.3->0.15 linear' (or cosine, or step 4), "
            f"or 0.1..0.5, drawn for each text"
        ) from None
