"""Units by the names that settings and the command line give them."""

from __future__ import annotations

from collections.abc import Callable

from .phrases import Phrases
from .units import Spans, Unit, needs_words
from .words import Offsets, Segmenter, sentences, whole_words

UNITS: dict[str, Unit] = {
    "token": "token",
    "word": "word",
    "phrase": "word",
    "sentence": "word",
    "span": Spans.geometric(),
    "ngram": Spans.ngrams(),
}
"""What each is to a plan."""

Numbering = Callable[[str, Offsets], list[int]]
"""Which unit each token of a text is of."""


def numbering(
    unit: str, *, segmenter: Segmenter | None = None, phrases: Phrases | None = None
) -> Numbering | None:
    """How the tokens of a text are numbered for a unit of `UNITS`; None where a plan does not ask.

    >>> numbering("word")("a b", [(0, 1), (2, 3)]), numbering("token")
    ([0, 1], None)

    Raises ValueError for "phrase" without phrases.
    """
    if unit == "sentence":
        return sentences
    if unit == "phrase":
        if phrases is None:
            raise ValueError("unit is 'phrase': say which, phrases=")
        return lambda text, offsets: phrases.whole(text, offsets, segmenter)
    if needs_words(UNITS[unit]):
        return lambda text, offsets: whole_words(text, offsets, segmenter)
    return None
