"""Every text is computed once, whatever the batching, and padding is counted as it is computed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yanma.bench.batching import PackedRows, Packs, Rows, rectangle, share_of_padding

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=40)


@pytest.mark.parametrize("batching", [Rows(), Rows(by_length=True), Packs(), PackedRows()], ids=repr)
@given(lengths=LENGTHS, size=st.integers(1, 30))
def test_every_text_stands_in_one_group(batching, lengths, size):
    groups = batching.groups(lengths, size)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))


@given(lengths=LENGTHS, size=st.integers(1, 8))
def test_rows_hold_at_most_their_size_and_packs_at_most_their_tokens(lengths, size):
    assert all(len(group) <= size for group in Rows(by_length=True).groups(lengths, size))
    for group in Packs().groups(lengths, 3 * size):
        assert sum(lengths[index] for index in group) <= 3 * size or len(group) == 1


@given(lengths=LENGTHS, size=st.integers(1, 8))
def test_a_rectangle_has_the_places_that_are_counted_for_it(lengths, size):
    sequences = [[7] * length for length in lengths]
    for batching in (Rows(), Rows(by_length=True), Rows(width=20)):
        for group in batching.groups(lengths, size):
            ids, valid = rectangle([sequences[index] for index in group], 0, batching.width)
            assert ids.numel() == batching.slots([lengths[index] for index in group])
            assert (ids == 7).equal(valid == 1), "valid marks exactly the places that hold a token"


def test_sorting_avoids_padding_and_packing_has_none():
    lengths = [1, 9, 1, 9, 1, 9]
    assert share_of_padding(Rows(), lengths, 2) == pytest.approx(24 / 54)
    assert share_of_padding(Rows(by_length=True), lengths, 3) == 0
    assert share_of_padding(Packs(), lengths, 10) == share_of_padding(PackedRows(), lengths, 2) == 0
    assert share_of_padding(Rows(width=10), lengths, 2) == 0.5
