"""Collocations of a corpus: word n-grams that occur together more often than any way to cut them explains.

PMI-Masking (Levine et al. 2021): for n-grams of 2 to 5 words, PMI_n is the least, over all ways to cut the n-gram into
shorter ones, of log p(n-gram) - sum of log p(part). Half of the vocabulary are bigrams, a quarter trigrams and an
eighth each the longer ones, the best of each length first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .phrases import Phrases, words_of
from .words import Segmenter

Ngram = tuple[str, ...]
SHARES = {2: 0.5, 3: 0.25, 4: 0.125, 5: 0.125}
"""How much of a vocabulary each length is."""


@dataclass(frozen=True)
class Collocation:
    """An n-gram, its PMI_n in nats, and how often it stands in the corpus."""

    words: Ngram
    pmi: float
    count: int


def collocations(
    texts: Callable[[], Iterable[str]],
    size: int,
    *,
    min_count: int = 11,
    segmenter: Segmenter | None = None,
) -> list[Collocation]:
    """At most `size` collocations of the texts, which are read once for each length of n-gram, best first by length.

    An n-gram is words with at least one letter or digit each, without punctuation between them. Rarer ones than
    `min_count` are left out. A corpus can be larger than memory: only n-grams whose parts are frequent are counted.

    >>> texts = ["new york is big", "new york is old", "the new york times"] * 4
    >>> [(c.words, c.count) for c in collocations(lambda: texts, 2)]
    [(('new', 'york'), 12)]

    Raises ValueError for impossible sizes.
    """
    if size < 1 or min_count < 1:
        raise ValueError(f"size is {size}, min_count {min_count}; both must be 1 or more")
    counts: dict[Ngram, int] = {}
    totals: dict[int, int] = {}
    for length in range(1, max(SHARES) + 1):
        found, totals[length] = _counted(texts(), length, counts, segmenter)
        counts |= {ngram: count for ngram, count in found.items() if count >= min_count}
    log_p = {ngram: math.log(count / totals[len(ngram)]) for ngram, count in counts.items()}
    best: list[Collocation] = []
    for length, share in SHARES.items():
        scored = [
            Collocation(ngram, pmi(ngram, log_p), count)
            for ngram, count in counts.items()
            if len(ngram) == length
        ]
        scored.sort(key=lambda found: (-found.pmi, -found.count, found.words))
        best += [found for found in scored[: round(size * share)] if found.pmi > 0]
    return best


def pmi(ngram: Ngram, log_p: Mapping[Ngram, float]) -> float:
    """PMI_n: log p(n-gram) less the log-probability of its likeliest cut into two parts or more.

    >>> log_p = {("a",): -1.0, ("b",): -2.0, ("c",): -3.0, ("a", "b"): -1.5, ("b", "c"): -4.5}
    >>> pmi(("a", "b", "c"), {**log_p, ("a", "b", "c"): -2.0})
    2.5
    """
    likeliest: dict[tuple[int, int], float] = {}  # way to write words start to end, cut or not

    def cut(start: int, end: int) -> float:
        ways = (likeliest[start, middle] + likeliest[middle, end] for middle in range(start + 1, end))
        return max(ways, default=-math.inf)

    for size in range(1, len(ngram)):
        for start in range(len(ngram) - size + 1):
            end = start + size
            likeliest[start, end] = max(cut(start, end), log_p[ngram[start:end]])
    return log_p[ngram] - cut(0, len(ngram))


def save(found: Iterable[Collocation], path: Path) -> None:
    """A line a collocation: PMI_n, count and words, with tabs between."""
    lines = (f"{c.pmi:.4f}\t{c.count}\t{' '.join(c.words)}\n" for c in found)
    path.write_text("".join(lines), encoding="utf-8")


def load(path: Path) -> Phrases:
    """The phrases of a file that `save` wrote.

    Raises DataError that names the line, and for a file without a collocation.
    """
    phrases = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split("\t")
        if len(fields) != 3 or len(words := tuple(fields[2].split(" "))) < 2:
            raise DataError(f"{path}:{number}: no collocation in {line!r}; write the file with yanma pmi")
        phrases.add(words)
    if not phrases:
        raise DataError(f"{path}: no collocation in it; give yanma pmi more text, or a lower `min_count`")
    return Phrases(frozenset(phrases))


def _counted(
    texts: Iterable[str], length: int, frequent: Mapping[Ngram, int], segmenter: Segmenter | None
) -> tuple[Counter[Ngram], int]:
    """N-grams of one length whose parts are frequent, and how many n-grams of that length there are in all."""
    counts: Counter[Ngram] = Counter()
    total = 0
    for text in texts:
        words = [word for word, _ in words_of(text, segmenter)]
        for start in range(len(words) - length + 1):
            ngram = tuple(words[start : start + length])
            if not all(word[0].isalnum() for word in ngram):
                continue
            total += 1
            if length == 1 or (ngram[1:] in frequent and ngram[:-1] in frequent):
                counts[ngram] += 1
    return counts, total
