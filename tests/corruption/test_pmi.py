"""Collocations: counted by hand, and PMI_n as its definition says."""

import itertools
import math
import random

import pytest

from yanma.corruption import Phrases, collocations
from yanma.corruption.pmi import load, pmi, save
from yanma.errors import DataError


def definition(ngram, log_p):
    """The least, over all ways to cut an n-gram, of log p less the sum over its parts."""
    n = len(ngram)
    found = []
    for cuts in itertools.product([False, True], repeat=n - 1):
        if any(cuts):
            edges = [0, *(place + 1 for place, cut in enumerate(cuts) if cut), n]
            parts = [ngram[a:b] for a, b in itertools.pairwise(edges)]
            found.append(log_p[ngram] - sum(log_p[part] for part in parts))
    return min(found)


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_pmi_is_the_least_over_all_ways_to_cut(length):
    draw = random.Random(length)
    ngram = tuple("abcde"[:length])
    for _ in range(50):
        parts = [ngram[a:b] for a, b in itertools.combinations(range(length + 1), 2)]
        log_p = {part: -draw.random() * 10 for part in parts}
        assert pmi(ngram, log_p) == pytest.approx(definition(ngram, log_p))


def test_counts_and_scores_by_hand():
    texts = ["new york is big", "old york is big", "new york, old"] * 10
    found = {c.words: c for c in collocations(lambda: texts, 100, min_count=10)}
    assert found["new", "york"].count == 20 and found["york", "is"].count == 20
    assert found["york", "is", "big"].count == 20
    # 11 words in three texts, without the comma; 7 pairs: no pair reaches over it.
    expected = math.log(20 / 70) - math.log(20 / 110) - math.log(30 / 110)
    assert found["new", "york"].pmi == pytest.approx(expected)
    assert ("york", "old") not in found, "no n-gram reaches over punctuation"
    assert not collocations(lambda: texts, 100, min_count=31)
    enough = {c.words for c in collocations(lambda: texts, 100, min_count=20)}
    assert ("new", "york") in enough, "20 times are 20 times"
    assert collocations(lambda: texts, 2, min_count=1), "the least that can be asked for"


def test_half_are_bigrams_a_quarter_trigrams_and_the_best_come_first():
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcdefgh", k=30)) for _ in range(300)]
    found = collocations(lambda: texts, 16, min_count=2)
    lengths = [len(c.words) for c in found]
    assert lengths == [2] * 8 + [3] * 4 + [4] * 2 + [5] * 2
    for length in (2, 3, 4, 5):
        scores = [c.pmi for c in found if len(c.words) == length]
        assert scores == sorted(scores, reverse=True)


def test_a_file_of_collocations_is_read_back(tmp_path):
    texts = ["new york is big and new york is old"] * 10
    found = collocations(lambda: texts, 10)
    assert found
    save(found, tmp_path / "a.tsv")
    assert load(tmp_path / "a.tsv") == Phrases(frozenset(c.words for c in found))
    (tmp_path / "b.tsv").write_text("1.0\t3\tnew york\nnew york\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.tsv:2: no collocation in 'new york'"):
        load(tmp_path / "b.tsv")


@pytest.mark.parametrize("wrong", [{"size": 0}, {"min_count": 0}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="must be 1 or more"):
        collocations(list, **{"size": 1, **wrong})
