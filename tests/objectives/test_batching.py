"""The two kinds of batching, each on its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from yanma.data.examples import Example, Tokens
from yanma.objectives import Packed, Padded

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=50)
PACKED, PADDED = Packed(100), Padded(100, max_length=40, pad_token_id=0)


@given(LENGTHS)
def test_no_group_exceeds_the_memory_bound_and_every_example_is_in_one(lengths):
    for batching in (PACKED, PADDED):
        groups = batching.groups(lengths)
        assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
        slots = [batching.slots([lengths[index] for index in group]) for group in groups]
        assert max(slots) <= 100, f"{batching} computes {max(slots)} places at once"


def test_packs_compute_tokens_and_rectangles_compute_rows():
    assert PACKED.slots([3, 5]) == 8
    assert PADDED.slots([3, 5]) == 80


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    rates = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    return BertForSequenceClassification(BertConfig(vocab_size=20, **sizes, **rates))


@pytest.mark.parametrize("batching", [PACKED, PADDED], ids=["packed", "padded"])
def test_dropout_follows_from_seed_and_example_alone(batching, model):
    """The same text three times: what tells two examples apart is their key."""
    model = batching.prepare(model).train()
    first, second = (Example(number, (Tokens((2, 5, 6, 7, 3)),), 0, "a.jsonl:1") for number in (1, 2))

    def logits(example, seed):
        torch.rand(3)  # whatever else draws from the global generator
        return batching.logits(model, [example], seed=seed)

    assert torch.equal(logits(first, 7), logits(first, 7)), "it can be repeated"
    assert not torch.equal(logits(first, 7), logits(first, 8)), "every step draws anew"
    assert not torch.equal(logits(first, 7), logits(second, 7)), "every group draws anew"
