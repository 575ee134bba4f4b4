"""Phrases of several words: a lexicon of one's own, or collocations found in a corpus (yanma.corruption.pmi)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from .words import Offsets, Segmenter, WordIds, entities, word_numbers


@dataclass(frozen=True)
class Phrases:
    """Phrases as tuples of lowercase words.

    >>> phrases = Phrases.of(["New York", "in spite of"])
    >>> phrases.whole("In spite of New York", [(0, 2), (3, 8), (9, 11), (12, 15), (16, 20)])
    [0, 0, 0, 1, 1]
    """

    words: frozenset[tuple[str, ...]]

    @classmethod
    def of(cls, texts: Iterable[str], segmenter: Segmenter | None = None) -> Phrases:
        """The phrases that some texts are, cut into words as `whole_words` does. One word alone is no phrase."""
        cut = (tuple(word for word, _ in words_of(text, segmenter)) for text in texts)
        return cls(frozenset(words for words in cut if len(words) > 1))

    def whole(
        self,
        text: str,
        offsets: Offsets,
        segmenter: Segmenter | None = None,
        word_ids: WordIds | None = None,
    ) -> list[int]:
        """Like `whole_words`, but the words of a phrase are one."""
        return entities(text, offsets, self.spans(text, segmenter), segmenter, word_ids)

    def spans(self, text: str, segmenter: Segmenter | None = None) -> list[tuple[int, int]]:
        """(first character, after the last) of each phrase in the text: from the left, the longest that fits.

        >>> Phrases.of(["a b", "a b c", "c d"]).spans("a b c d")
        [(0, 5)]
        """
        words = words_of(text, segmenter)
        found, place = [], 0
        while place < len(words):
            length = self._longest_at([word for word, _ in words[place : place + self._longest]])
            if length:
                found.append((words[place][1][0], words[place + length - 1][1][1]))
            place += length or 1
        return found

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.words), default=0)

    def _longest_at(self, words: Sequence[str]) -> int:
        """How many of the words from the first on are a phrase; 0 where none are."""
        lengths = range(len(words), 1, -1)
        return next((length for length in lengths if tuple(words[:length]) in self.words), 0)


def words_of(text: str, segmenter: Segmenter | None = None) -> list[tuple[str, tuple[int, int]]]:
    """Each word of a text in lowercase, and where it stands.

    >>> words_of("New York!")
    [('new', (0, 3)), ('york', (4, 8)), ('!', (8, 9))]
    """
    spans: list[tuple[int, int]] = []
    for place, number in enumerate(word_numbers(text, segmenter)):
        if number == len(spans):
            spans.append((place, place + 1))
        elif number >= 0:
            spans[number] = (spans[number][0], place + 1)
    return [(text[start:end].lower(), (start, end)) for start, end in spans]
