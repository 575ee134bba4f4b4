"""Every text is computed once, whatever the batching, and padding is counted as it is computed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertModel

from yanma.bench.contestant import Rows, share_of_padding
from yanma.bench.hf import rectangle
from yanma.bench.ours import PackedRows
from yanma.data.examples import Example, Tokens
from yanma.objectives import Packed

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=40)
CUTS = {
    "rows": Rows,
    "sorted": lambda size: Rows(size, by_length=True),
    "packs": Packed,
    "packed rows": lambda size: PackedRows(rows=size),
}
MODEL = BertModel(
    BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
)


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
@given(lengths=LENGTHS, size=st.integers(1, 30))
def test_every_text_stands_in_one_group(cuts, lengths, size):
    groups = cuts(size).groups(lengths)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))


@given(lengths=LENGTHS, size=st.integers(1, 8))
def test_rows_hold_at_most_their_size_and_packs_at_most_their_tokens(lengths, size):
    assert all(len(group) <= size for group in Rows(size, by_length=True).groups(lengths))
    for group in Packed(3 * size).groups(lengths):
        assert sum(lengths[index] for index in group) <= 3 * size or len(group) == 1


@given(lengths=LENGTHS, size=st.integers(1, 8))
def test_packed_rows_are_the_batches_of_the_padded_baseline(lengths, size):
    assert list(map(list, PackedRows(rows=size).groups(lengths))) == Rows(size).groups(lengths)


@given(lengths=LENGTHS, size=st.integers(1, 8))
def test_a_rectangle_has_the_places_that_are_counted_for_it(lengths, size):
    examples = [Example(key, (Tokens([7] * length),), None) for key, length in enumerate(lengths)]
    for cut in (Rows(size), Rows(size, by_length=True), Rows(size, width=20)):
        for group in cut.groups(lengths):
            found = rectangle(MODEL, [examples[index] for index in group], cut.width)
            assert found["input_ids"].numel() == cut.slots([lengths[index] for index in group])
            assert torch.equal(found["input_ids"] == 7, found["attention_mask"] == 1), (
                "exactly the places that hold a token are marked"
            )


def test_sorting_avoids_padding_and_packing_has_none():
    lengths = [1, 9, 1, 9, 1, 9]
    assert share_of_padding(Rows(2), lengths) == pytest.approx(24 / 54)
    assert share_of_padding(Rows(3, by_length=True), lengths) == 0
    assert share_of_padding(Packed(10), lengths) == share_of_padding(PackedRows(rows=2), lengths) == 0
    assert share_of_padding(Rows(2, width=10), lengths) == 0.5
