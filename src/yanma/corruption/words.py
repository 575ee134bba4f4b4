"""Which word, phrase or sentence each token is of: the `words` of a plan, from a text and its tokens' offsets.

Offsets are (first character, after the last) of each token, as every fast tokenizer gives them
(`return_offsets_mapping=True`), so WordPiece, byte-level BPE and SentencePiece are all read alike. A token that covers
parts of two words, as BPE's may, makes one of the two. All of it takes time in proportion to the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import lru_cache
from itertools import groupby

from ..errors import Unsupported

Offsets = Sequence[tuple[int, int]]
Segmenter = Callable[[str], Iterable[str]]
"""Cuts a run of Chinese, Japanese, Thai, ... characters into words that, joined, are the run again."""

# Scripts that put no space between words: Thai to Myanmar, Khmer, kana.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3041, 0x30FF), (0x31F0, 0x31FF))
_HAN = ((0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_SENTENCE = re.compile(r"""(?:[.!?]+["'”’)\]]*(?=\s|$)|[。！？…]+["'”’」』）]*|\n)""")


def whole_words(text: str, offsets: Offsets, segmenter: Segmenter | None = None) -> list[int]:
    """The number of the word of each token, from 0; -1 for a token without characters, as special tokens are.

    A word is a run of letters and digits with their accents; any other character that is no space is a word of its own,
    so punctuation is. A Chinese character is one too, unless a `segmenter` says which belong together.

    >>> whole_words("unbelievable, 北京!", [(0, 0), (0, 2), (2, 12), (12, 13), (14, 15), (15, 16), (16, 17), (0, 0)])
    [-1, 0, 0, 1, 2, 3, 4, -1]
    """
    return of_tokens(word_numbers(text, segmenter), offsets)


def sentences(text: str, offsets: Offsets) -> list[int]:
    """The number of the sentence of each token: one ends with . ! or ? before a space, 。 ！ ？ … or a line's end.

    >>> sentences("It costs 3.5. Why?", [(0, 2), (3, 8), (9, 12), (12, 13), (14, 17), (17, 18)])
    [0, 0, 0, 0, 1, 1]
    """
    numbers, begin = [], 0
    for number, end in enumerate([*(match.end() for match in _SENTENCE.finditer(text)), len(text)]):
        numbers += [number] * (end - begin)
        begin = end
    return of_tokens([-1 if char.isspace() else n for char, n in zip(text, numbers, strict=True)], offsets)


def entities(
    text: str, offsets: Offsets, spans: Iterable[tuple[int, int]], segmenter: Segmenter | None = None
) -> list[int]:
    """Like `whole_words`, but the words that a span of characters touches are one: ERNIE's units (Sun et al. 2019).

    >>> entities("in New York now", [(0, 2), (3, 6), (7, 11), (12, 15)], [(3, 11)])
    [0, 1, 1, 2]
    """
    return of_tokens(merged(word_numbers(text, segmenter), spans), offsets)


def word_numbers(text: str, segmenter: Segmenter | None = None) -> list[int]:
    """The number of the word of each character, from 0; -1 for spaces.

    >>> word_numbers("ab, c")
    [0, 0, 1, -1, 2]

    Raises ValueError where the segmenter's words are not the characters that it was given.
    """
    numbers: list[int] = []
    word = -1
    for kind, group in groupby(text, _kind if segmenter is None else _segmented_kind):
        run = "".join(group)
        if kind is _Kind.SPACE:
            numbers += [-1] * len(run)
            continue
        for part in _parts(run, kind, segmenter):
            # An accent alone belongs to what it stands on.
            word += not (numbers and numbers[-1] == word >= 0 and unicodedata.category(part[0])[0] == "M")
            numbers += [word] * len(part)
    return numbers


def merged(numbers: Sequence[int], spans: Iterable[tuple[int, int]]) -> list[int]:
    """Numbers of characters with all that a span touches made one.

    >>> merged([0, 0, -1, 1, 2], [(1, 4)])
    [0, 0, -1, 0, 1]

    Raises ValueError for a span that is not in the text.
    """
    joined = [False] * (max(numbers, default=-1) + 2)  # whether a number is one with that before it
    for start, end in spans:
        if not 0 <= start < end <= len(numbers):
            raise ValueError(f"span ({start}, {end}) is not in a text of {len(numbers)} characters")
        inside = [n for n in numbers[start:end] if n >= 0]
        for number in range(inside[0] + 1, inside[-1] + 1) if inside else ():
            joined[number] = True
    fresh, last = [], -1
    for number in range(len(joined)):
        last += not joined[number]
        fresh.append(last)
    return [-1 if n < 0 else fresh[n] for n in numbers]


def of_tokens(numbers: Sequence[int], offsets: Offsets) -> list[int]:
    """Numbers of tokens from those of characters; a token of spaces alone is of the word after it."""
    after = [*numbers, max(numbers, default=-1) + 1]
    for place in range(len(numbers) - 1, -1, -1):
        if after[place] < 0:
            after[place] = after[place + 1]
    tokens: list[int] = []
    unit = reached = -1
    for start, end in offsets:
        if start == end:
            tokens.append(-1)
            continue
        first = after[start]
        unit += first > reached
        reached = max(reached, first, *numbers[start:end])
        tokens.append(unit)
    return tokens


def jieba_words(run: str) -> list[str]:
    """Chinese words by jieba's dictionary, a segmenter: `whole_words(text, offsets, jieba_words)`.

    Raises Unsupported where jieba is not installed.
    """
    try:
        import jieba
    except ImportError as error:
        raise Unsupported("Chinese words need the package jieba: pip install 'yanma[chinese]'") from error
    jieba.setLogLevel("WARNING")  # else it tells on stderr how it loads
    return [str(word) for word in jieba.cut(run)]


class _Kind(Enum):
    SPACE, LETTER, HAN, UNSPACED, OTHER = range(5)


@lru_cache(maxsize=2**16)
def _kind(char: str) -> _Kind:
    code = ord(char)
    if char.isspace():
        return _Kind.SPACE
    if any(low <= code <= high for low, high in _HAN):
        return _Kind.HAN
    if any(low <= code <= high for low, high in _UNSPACED):
        return _Kind.UNSPACED
    return _Kind.LETTER if char.isalnum() or unicodedata.category(char)[0] == "M" else _Kind.OTHER


@lru_cache(maxsize=2**16)
def _segmented_kind(char: str) -> _Kind:
    kind = _kind(char)
    return _Kind.UNSPACED if kind is _Kind.HAN else kind


def _parts(run: str, kind: _Kind, segmenter: Segmenter | None) -> Sequence[str]:
    if kind is _Kind.LETTER or (kind is _Kind.UNSPACED and segmenter is None):
        return [run]
    if segmenter is None or kind is _Kind.OTHER:
        return run
    words = [word for word in segmenter(run) if word]
    if "".join(words) != run:
        raise ValueError(f"the segmenter makes {words} of {run!r}; its words must be the same characters")
    return words
