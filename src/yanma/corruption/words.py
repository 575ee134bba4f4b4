"""Which word, phrase or sentence each token is of: the `words` of a plan, from a text and its tokens' offsets.

Offsets are (first character, after the last) of each token, as every fast tokenizer gives them
(`return_offsets_mapping=True`), so WordPiece, byte-level BPE and SentencePiece are all read alike. A token that covers
parts of two words, as BPE's may, makes one of the two; so do tokens of which WordPiece says that one goes on with the
other. All of it takes time in proportion to the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..errors import Unsupported

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Offsets = Sequence[tuple[int, int]]
WordIds = Sequence[int | None]
"""Of which word each token is, as a tokenizer's `word_ids()` says; None for special tokens."""
Segmenter = Callable[[str], Iterable[str]]
"""Cuts a run of Chinese, Japanese, Thai, ... characters into words that, joined, are the run again."""

# Scripts that put no space between words: Thai to Myanmar, Khmer, kana.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3041, 0x30FF), (0x31F0, 0x31FF))
_HAN = ((0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_ZERO_WIDTH_SPACE, _JOINER = "\u200b", "\u200d"
_SKIN_TONES = "".join(map(chr, range(0x1F3FB, 0x1F400)))
_FLAG_LETTERS = "".join(map(chr, range(0x1F1E6, 0x1F200)))
_SENTENCE = re.compile(r"""(?:[.!?]+["'”’)\]]*(?=\s|$)|[。！？…]+["'”’」』）]*|\n)""")


def whole_words(
    text: str, offsets: Offsets, segmenter: Segmenter | None = None, word_ids: WordIds | None = None
) -> list[int]:
    """The number of the word of each token, from 0; -1 for a token without characters, as special tokens are.

    A word is a run of letters and digits with their accents; any other character that is no space is a word of its own,
    so punctuation is. A Chinese character is one too, unless a `segmenter` says which belong together. Characters that
    are not seen by themselves (Unicode's Cf, such as the joiners within Persian words, and soft hyphens) are of the
    word that they stand in, and an emoji is one word with all that is joined to it; U+200B ends a word as a space does.

    `word_ids` are WordPiece's: what it makes of one word stays together, though the rules above would cut it, but for
    Chinese characters and what the segmenter cuts. Other tokenizers number what stands between spaces: give none.

    >>> whole_words("unbelievable, 北京!", [(0, 0), (0, 2), (2, 12), (12, 13), (14, 15), (15, 16), (16, 17), (0, 0)])
    [-1, 0, 0, 1, 2, 3, 4, -1]
    >>> whole_words("5€", [(0, 1), (1, 2)]), whole_words("5€", [(0, 1), (1, 2)], word_ids=[0, 0])
    ([0, 1], [0, 0])
    """
    return of_tokens(kept_whole(text, offsets, segmenter, word_ids), offsets)


def word_ids_of(tokenizer: PreTrainedTokenizerBase, encoding: Any, row: int) -> WordIds | None:
    """The `word_ids` of `whole_words` for a row of what a tokenizer gave; None for one that is not WordPiece's."""
    from tokenizers.models import WordPiece

    is_wordpiece = isinstance(tokenizer.backend_tokenizer.model, WordPiece)
    return encoding.word_ids(row) if is_wordpiece else None


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
    text: str,
    offsets: Offsets,
    spans: Iterable[tuple[int, int]],
    segmenter: Segmenter | None = None,
    word_ids: WordIds | None = None,
) -> list[int]:
    """Like `whole_words`, but the words that a span of characters touches are one: ERNIE's units (Sun et al. 2019).

    >>> entities("in New York now", [(0, 2), (3, 6), (7, 11), (12, 15)], [(3, 11)])
    [0, 1, 1, 2]
    """
    return of_tokens(merged(kept_whole(text, offsets, segmenter, word_ids), spans), offsets)


def kept_whole(
    text: str, offsets: Offsets, segmenter: Segmenter | None, word_ids: WordIds | None
) -> list[int]:
    """The number of the word of each character, those words made one that share tokens of one of the tokenizer's."""
    numbers = word_numbers(text, segmenter)
    return numbers if word_ids is None else merged(numbers, _cut(text, numbers, offsets, segmenter, word_ids))


def word_numbers(text: str, segmenter: Segmenter | None = None) -> list[int]:
    """The number of the word of each character, from 0; -1 for spaces.

    >>> word_numbers("ab, c")
    [0, 0, 1, -1, 2]

    Raises ValueError where the segmenter's words are not the characters that it was given.
    """
    numbers: list[int] = []
    word = -1
    kinds = _kinds(text, _kind if segmenter is None else _segmented_kind)
    for kind, group in groupby(kinds):
        run = text[len(numbers) : len(numbers) + sum(1 for _ in group)]
        if kind is _Kind.SPACE:
            numbers += [-1] * len(run)
            continue
        for part in _parts(run, kind, segmenter):
            word += 1
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
    SPACE, LETTER, HAN, UNSPACED, OTHER, JOINED = range(6)


@lru_cache(maxsize=2**16)
def _kind(char: str) -> _Kind:
    code = ord(char)
    if char.isspace() or char == _ZERO_WIDTH_SPACE:
        return _Kind.SPACE
    if any(low <= code <= high for low, high in _HAN):
        return _Kind.HAN
    if any(low <= code <= high for low, high in _UNSPACED):
        return _Kind.UNSPACED
    if unicodedata.category(char) in ("Mn", "Mc", "Me", "Cf") or char in _SKIN_TONES:
        return _Kind.JOINED
    return _Kind.LETTER if char.isalnum() else _Kind.OTHER


@lru_cache(maxsize=2**16)
def _segmented_kind(char: str) -> _Kind:
    kind = _kind(char)
    return _Kind.UNSPACED if kind is _Kind.HAN else kind


def _kinds(text: str, kind_of: Callable[[str], _Kind]) -> list[_Kind]:
    """Of each character; what is joined is of the kind that it stands on, and begins a word where it stands on none."""
    kinds = [*map(kind_of, text)]
    if _Kind.JOINED in kinds:
        for place, kind in enumerate(kinds):
            if kind is _Kind.JOINED:
                before = kinds[place - 1] if place else _Kind.SPACE
                kinds[place] = _Kind.LETTER if before is _Kind.SPACE else before
    return kinds


def _parts(run: str, kind: _Kind, segmenter: Segmenter | None) -> Sequence[str]:
    if kind is _Kind.LETTER or (kind is _Kind.UNSPACED and segmenter is None):
        return [run]
    if segmenter is None or kind is _Kind.OTHER:
        return _characters(run)
    words = [word for word in segmenter(run) if word]
    if "".join(words) != run:
        raise ValueError(f"the segmenter makes {words} of {run!r}; its words must be the same characters")
    parts: list[str] = []
    for word in words:
        if parts and _kind(word[0]) is _Kind.JOINED:
            parts[-1] += word
        else:
            parts.append(word)
    return parts


def _characters(run: str) -> list[str]:
    """As they are seen: with what is joined to them, emoji by U+200D, and two letters of a flag as one."""
    seen: list[str] = []
    for char in run:
        last = seen[-1] if seen else ""
        of_emoji = last.endswith(_JOINER) and unicodedata.category(char) == "So"
        of_flag = len(last) == 1 and last in _FLAG_LETTERS and char in _FLAG_LETTERS
        if last and (_kind(char) is _Kind.JOINED or of_emoji or of_flag):
            seen[-1] += char
        else:
            seen.append(char)
    return seen


def _cut(
    text: str, numbers: Sequence[int], offsets: Offsets, segmenter: Segmenter | None, word_ids: WordIds
) -> Iterator[tuple[int, int]]:
    """Spans of neighbouring tokens that are of one of the tokenizer's words, and of two of these."""
    apart = (_Kind.HAN,) if segmenter is None else (_Kind.HAN, _Kind.UNSPACED)
    before = None
    for (start, end), word in zip(offsets, word_ids, strict=True):
        if start == end:
            before = None
            continue
        if before is not None and before[2] == word is not None and numbers[before[1] - 1] != numbers[start]:
            sides = text[before[1] - 1], text[start]
            if not any(_kind(side) in apart for side in sides):
                yield before[0], end
        before = start, end, word
