"""Texts are what their description says."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from yanma.bench import workloads
from yanma.errors import ConfigError

from .conftest import MAX_LENGTH


def test_drawn_texts_have_the_lengths_that_were_drawn(models):
    found = workloads.drawn(models.tokenizer, 200, MAX_LENGTH)
    lengths = np.exp(np.random.default_rng(0).normal(3.116, 0.6, 200)).round().clip(3, MAX_LENGTH)
    assert found.lengths == tuple(lengths.astype(int)), "each word is one token"
    assert found.truncated == 0
    assert found == workloads.drawn(models.tokenizer, 200, MAX_LENGTH), "seeded"
    encoded = models.tokenizer(list(found.texts))["input_ids"]
    assert [tuple(ids) for ids in encoded] == list(found.sequences), "text and token ids are the same"


def test_only_words_that_are_one_token_on_their_own_are_drawn():
    class BytePairs:
        def get_vocab(self):
            return {"the": 0, "Ġcard": 1, "##ing": 2, "Big": 3, "7": 4}

        def num_special_tokens_to_add(self):
            return 2

        def __call__(self, words):
            return {"input_ids": [[8, 5, 6, 9] if word == "card" else [8, 5, 9] for word in words]}

    assert workloads._words(BytePairs()) == ["the"], "without the space before it, card is two tokens"


def test_the_stated_distribution_is_the_one_of_the_numbers_known(models):
    lengths = np.exp(np.random.default_rng(workloads.SEED).normal(workloads.MU, workloads.SIGMA, 512))
    lengths = lengths.round().clip(workloads.SHORTEST, workloads.LONGEST)
    assert int(lengths.sum()) == 13598 and int(lengths.max()) == 128


def test_real_texts_are_a_seeded_draw_and_are_cut_with_a_count(models, data):
    found = workloads.from_file(str(data), "said", models.tokenizer, 40, MAX_LENGTH)
    assert len(found.sequences) == len(found.texts) == 40
    assert max(found.lengths) == MAX_LENGTH
    assert found.truncated == sum(len(text.split()) + 2 > MAX_LENGTH for text in found.texts) > 0
    lines = data.read_text().splitlines()[1:]
    assert list(found.texts) != lines[:40], "not in the file's order"
    assert found == workloads.from_file(str(data), "said", models.tokenizer, 40, MAX_LENGTH)


def test_a_missing_corpus_is_told_with_what_to_do(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "chatterbot_corpus.corpus", None)
    with pytest.raises(ConfigError, match=r"chatterbot-corpus.*yanma\[demo\].*`data` FILE"):
        workloads.from_corpus(models.tokenizer, 10, MAX_LENGTH)


def test_a_part_of_a_workload_keeps_texts_and_tokens_together(models):
    whole = workloads.drawn(models.tokenizer, 10, MAX_LENGTH)
    part = whole.take([7, 2])
    assert part.sequences == (whole.sequences[7], whole.sequences[2])
    assert part.texts == (whole.texts[7], whole.texts[2])
    labels = tuple(range(10))
    assert replace(whole, labels=labels).take([7, 2]).labels == (7, 2)
