"""Replaced-token detection: tokens are drawn from the generator, and labelled by whether they are the true ones."""

import math

import pytest
import torch

from corruption.packs import texts
from yanma.corruption import ALL_MASK, IGNORE, Corrupted, Plan, electra, replaced_tokens


def hidden(vocabulary, some, examples):
    lengths = [len(text) for text in some]
    ids = [token for text in some for token in text]
    plan = Plan(vocabulary, rate=0.3, replacement=ALL_MASK)
    return plan.flat(ids, lengths, seed=0, epoch=0, examples=examples), ids, lengths


def test_labels_say_whether_a_token_is_the_true_one(vocabulary):
    corrupted, ids, lengths = hidden(vocabulary, texts(), range(9))
    at = corrupted.labels != IGNORE
    logits = torch.zeros(int(at.sum()), 1000).scatter_(1, corrupted.labels[at][:, None], 6.0)
    made = replaced_tokens(corrupted, logits, lengths, vocabulary, seed=0, epoch=0, examples=range(9))
    original = torch.tensor(ids)
    special = vocabulary.is_special[original]
    assert bool((made.labels[special] == IGNORE).all()) and bool(
        (made.input_ids[special] == original[special]).all()
    )
    assert torch.equal(made.labels[~special], (made.input_ids != original)[~special].long())
    assert bool((made.labels[~at & ~special] == 0).all()), "what was not hidden is true"
    share = made.labels[at].double().mean().item()
    wanted = 1 - math.exp(6) / (math.exp(6) + 994)
    assert abs(share - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / int(at.sum())), (
        "drawn from the softmax"
    )
    assert not bool(vocabulary.is_special[made.input_ids[at]].any()), "no special token is drawn"


def test_a_text_is_the_same_alone_and_in_company(vocabulary):
    some = texts()
    corrupted, _, lengths = hidden(vocabulary, some, range(9))
    at = corrupted.labels != IGNORE
    logits = torch.randn(int(at.sum()), 1000, generator=torch.Generator().manual_seed(0))
    made = replaced_tokens(corrupted, logits, lengths, vocabulary, seed=0, epoch=0, examples=range(9))
    start = sum(lengths[:5])
    part = slice(start, start + lengths[5])
    first = int(at[:start].sum())
    alone = replaced_tokens(
        Corrupted(corrupted.input_ids[part], corrupted.labels[part]),
        logits[first : first + int(at[part].sum())],
        [lengths[5]], vocabulary, seed=0, epoch=0, examples=[5],
    )  # fmt: skip
    assert torch.equal(alone.input_ids, made.input_ids[part]) and torch.equal(alone.labels, made.labels[part])


def test_rows_that_are_made_a_few_at_a_time_give_the_same_tokens(vocabulary, monkeypatch):
    corrupted, _, lengths = hidden(vocabulary, texts(), range(9))
    count = int((corrupted.labels != IGNORE).sum())
    logits = torch.randn(count, 1000, generator=torch.Generator().manual_seed(0))
    how = {"seed": 0, "epoch": 0, "examples": range(9)}
    whole = replaced_tokens(corrupted, logits, lengths, vocabulary, **how)
    monkeypatch.setattr(electra, "_BLOCK_NUMBERS", 7 * vocabulary.size)
    monkeypatch.setattr(electra, "_LEAST_ROWS", 1)
    asked = []

    def few(rows):
        asked.append(rows)
        return logits[rows]

    made = replaced_tokens(corrupted, few, lengths, vocabulary, **how)
    assert torch.equal(made.input_ids, whole.input_ids) and torch.equal(made.labels, whole.labels)
    assert [row for rows in asked for row in range(rows.start, rows.stop)] == list(range(count))
    assert len(asked) > 1 and max(rows.stop - rows.start for rows in asked) == 7
    with pytest.raises(
        ValueError, match=r"logits of 7 rows were asked for, and of 1000 tokens; got \(7, 999\)"
    ):
        replaced_tokens(corrupted, lambda rows: logits[rows, 1:], lengths, vocabulary, **how)


def test_logits_that_do_not_fit_are_refused(vocabulary):
    corrupted, _, lengths = hidden(vocabulary, texts([10]), [0])
    with pytest.raises(ValueError, match=r"logits are \(2, 1000\); 3 hidden tokens"):
        replaced_tokens(corrupted, torch.zeros(2, 1000), lengths, vocabulary, seed=0, epoch=0, examples=[0])


def test_the_last_token_of_the_vocabulary_can_be_drawn(vocabulary):
    corrupted, _, lengths = hidden(vocabulary, texts(), range(9))
    at = corrupted.labels != IGNORE
    logits = torch.full((int(at.sum()), 1000), -50.0).index_fill(1, torch.tensor([999]), 50.0)
    made = replaced_tokens(corrupted, logits, lengths, vocabulary, seed=0, epoch=0, examples=range(9))
    assert bool((made.input_ids[at] == 999).all()), "the generator is sure of it"
