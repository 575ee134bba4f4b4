"""Spans: the budget is kept, none overlaps or reaches over special tokens, lengths are as stated."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yanma.corruption import ALL_MASK, IGNORE, Plan, Spans, Vocabulary
from yanma.corruption.draws import example_keys, top
from yanma.corruption.layout import Layout
from yanma.corruption.units import unit_starts

VOCABULARY = Vocabulary(size=100, special_ids=(0,), mask_id=1)
tokens = st.lists(st.one_of(st.just(0), st.integers(2, 99)), max_size=80)
weights = st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda w: sum(w) > 0.01).map(tuple)


@given(
    st.lists(tokens, min_size=1, max_size=5),
    weights,
    st.sampled_from(["token", "word"]),
    st.floats(0.01, 0.8),
    st.integers(0, 2**64),
)
def test_the_budget_is_kept_and_special_tokens_stay(texts, lengths, of, rate, seed):
    plan = Plan(VOCABULARY, Spans(lengths, of), rate, ALL_MASK)
    for number, text in enumerate(texts):
        words = [place // 2 for place in range(len(text))]
        ids, labels = plan(text, seed=seed, epoch=0, example=number, words=words)
        original = torch.tensor(text, dtype=torch.int64)
        hidden, hideable = labels != IGNORE, original != 0
        assert not bool((hidden & ~hideable).any()), "special tokens are untouched"
        assert torch.equal(labels[hidden], original[hidden]) and torch.equal(ids[~hidden], original[~hidden])
        assert bool((ids[hidden] == 1).all())
        count = int(hideable.sum())
        assert min(1, count) <= int(hidden.sum()) <= max(min(1, count), int(count * 0.8))
        longest = len(lengths) * (2 if of == "word" else 1)
        assert int(hidden.sum()) <= rate * count + longest, "no more than a span above the budget"


@given(st.lists(tokens, min_size=1, max_size=5), weights, st.integers(0, 2**64))
def test_spans_cover_every_token_once_and_reach_over_no_special_token(texts, lengths, seed):
    ids = torch.tensor([token for text in texts for token in text], dtype=torch.int64)
    layout = Layout(torch.tensor([len(text) for text in texts]))
    hideable = ids != 0
    keys = example_keys(seed, 0, range(len(texts)), ids.device)
    starts = unit_starts(Spans(lengths, "token"), layout, hideable, None, keys).starts.tolist()
    assert starts == sorted(set(starts)) and all(hideable[start] for start in starts)
    begins = set(starts)
    run = 0
    for place, token in enumerate(ids.tolist()):
        new_text = place == 0 or layout.example[place] != layout.example[place - 1]
        if token == 0:
            run = 0
            continue
        if new_text or ids[place - 1] == 0:
            assert place in begins, "a span begins after a special token, and with a text"
        run = 1 if place in begins else run + 1
        assert run <= len(lengths), "no span is longer than the longest"


def test_lengths_are_distributed_as_stated():
    spans = Spans.geometric(p=0.2, longest=10, of="token")
    layout = Layout(torch.tensor([500_000]))
    keys = example_keys(0, 0, [0], torch.device("cpu"))
    starts = unit_starts(spans, layout, torch.ones(500_000, dtype=torch.bool), None, keys).starts
    counts = torch.bincount(starts.diff(), minlength=11)[1:].double()
    expected = torch.tensor(spans.weights, dtype=torch.float64)
    expected = expected / expected.sum() * counts.sum()
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_square < 9 + 4 * (2 * 9) ** 0.5, f"chi-square {chi_square:.1f} of 9"
    mean = (counts * torch.arange(1, 11)).sum() / counts.sum()
    assert abs(mean - 3.797) < 0.03, "SpanBERT's 3.8"


def test_the_top_of_a_number_is_of_all_its_bits():
    assert top(torch.tensor([-1]), 8).item() == 255, "all bits count"


@pytest.mark.parametrize("weights", [(), (1.0, -0.5), (0.0, 0.0)])
def test_spans_of_no_length_are_refused(weights):
    with pytest.raises(ValueError, match="give a weight of 0 or more"):
        Spans(weights)


def test_lengths_of_spans_end_where_they_are_told():
    assert len(Spans.geometric().weights) == 10 and len(Spans.geometric(longest=1).weights) == 1
