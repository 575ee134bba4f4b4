"""PackedBatch: what goes in comes out, on either side of padding; what cannot be one is refused."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yanma import PackedBatch
from yanma.masks import documents

documents_lists = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=8)


def rectangle(sequences, side="right", pad=0):
    """The sequences as (N, S), padded on one side, with the mask of what is valid."""
    width = max(map(len, sequences))
    fill = [[pad] * (width - len(s)) for s in sequences]
    ones = [[1] * len(s) for s in sequences]
    zeros = [[0] * (width - len(s)) for s in sequences]
    if side == "left":
        return torch.tensor([f + s for f, s in zip(fill, sequences, strict=True)]), torch.tensor(
            [z + o for z, o in zip(zeros, ones, strict=True)]
        )
    return torch.tensor([s + f for f, s in zip(fill, sequences, strict=True)]), torch.tensor(
        [o + z for z, o in zip(zeros, ones, strict=True)]
    )


@given(documents_lists)
def test_what_is_packed_is_unpacked(sequences):
    batch = PackedBatch.from_sequences(sequences)
    assert [t.tolist() for t in batch.unpack(batch.input_ids)] == sequences
    assert batch.input_ids.dtype == torch.int64 and batch.input_ids.dim() == 1
    assert batch.lengths == tuple(map(len, sequences)) and len(batch) == len(sequences)
    assert batch.max_seqlen == max(map(len, sequences))


@given(documents_lists)
def test_positions_and_boundaries_follow_the_lengths(sequences):
    batch = PackedBatch.from_sequences(sequences)
    assert batch.position_ids.tolist() == [place for s in sequences for place in range(len(s))]
    assert batch.position_ids.dtype == torch.int64
    assert batch.cu_seqlens.dtype == torch.int32
    ends = batch.cu_seqlens.tolist()
    assert ends[0] == 0 and [b - a for a, b in pairwise(ends)] == list(batch.lengths)
    assert batch.mask == documents(batch.lengths)


@given(
    documents_lists,
    st.sampled_from(["left", "right"]),
    st.integers(0, 99),
    st.sampled_from([torch.int64, torch.bool]),
)
def test_a_padded_rectangle_and_the_sequences_make_the_same_batch(sequences, side, pad, dtype):
    input_ids, valid = rectangle(sequences, side, pad)
    batch = PackedBatch.from_padded(input_ids, valid.to(dtype), input_ids + 1)
    assert batch.input_ids.tolist() == [token for s in sequences for token in s]
    assert batch.lengths == tuple(map(len, sequences))
    assert torch.equal(batch.token_type_ids, batch.input_ids + 1)


@given(documents_lists, st.integers(-5, 5))
def test_pad_lays_out_what_from_padded_packed(sequences, value):
    input_ids, valid = rectangle(sequences, pad=value)
    batch = PackedBatch.from_padded(input_ids, valid)
    assert torch.equal(batch.pad(batch.input_ids, value), input_ids)
    again = PackedBatch.from_padded(batch.pad(batch.input_ids), valid)
    assert torch.equal(again.input_ids, batch.input_ids) and again.lengths == batch.lengths


def test_holes_in_a_row_are_left_out():
    batch = PackedBatch.from_padded(
        torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor([[1, 0, 1, 0], [0, 1, 1, 1]])
    )
    assert batch.input_ids.tolist() == [1, 3, 6, 7, 8] and batch.lengths == (2, 3)
    assert batch.position_ids.tolist() == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_pad_and_unpack_keep_trailing_sizes_and_dtype(shape, dtype):
    batch = PackedBatch.from_sequences([[1, 2, 3], [4]])
    flat = torch.arange(4 * torch.Size(shape).numel()).view(4, *shape).to(dtype)
    padded = batch.pad(flat)
    assert padded.shape == (2, 3, *shape) and padded.dtype == dtype
    assert torch.equal(padded[0], flat[:3]) and torch.equal(padded[1, 0], flat[3])
    assert not padded[1, 1:].any(), "padding is 0 unless told otherwise"
    assert torch.equal(torch.cat(batch.unpack(flat)), flat)


def test_unpack_gives_views_and_pad_passes_gradients():
    batch = PackedBatch.from_sequences([[1, 2, 3], [4]])
    flat = torch.zeros(4, 2, requires_grad=True)
    assert batch.unpack(flat)[1].untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()
    batch.pad(flat, value=9.0).sum().backward()
    assert torch.equal(flat.grad, torch.ones(4, 2))


def test_sequences_may_be_tensors_and_have_types_and_ids():
    batch = PackedBatch.from_sequences(
        [torch.tensor([1, 2], dtype=torch.int32), (3,)], token_type_ids=[[0, 1], [0]], ids=[40, 7]
    )
    assert batch.input_ids.tolist() == [1, 2, 3] and batch.input_ids.dtype == torch.int64
    assert batch.token_type_ids.tolist() == [0, 1, 0] and batch.ids == (40, 7)


def test_moving_a_batch_keeps_all_of_it():
    batch = PackedBatch.from_sequences([[1, 2], [3]], token_type_ids=[[0, 1], [0]], ids=[4, 5])
    moved = batch.to("meta")
    assert moved.input_ids.device.type == moved.token_type_ids.device.type == "meta"
    assert moved.position_ids.device.type == moved.cu_seqlens.device.type == "meta"
    assert (moved.lengths, moved.ids) == (batch.lengths, batch.ids)
    assert batch.input_ids.device.type == "cpu", "the batch itself stays where it was"


def test_a_batch_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PackedBatch.from_sequences([[1]]).lengths = (2,)


FLAT = torch.arange(3)
SQUARE = torch.arange(4).view(2, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PackedBatch(SQUARE, (2, 2)), r"input_ids must be flat, \(T,\); got \(2, 2\)"),
        (lambda: PackedBatch(FLAT, (2, 2)), r"lengths add up to 4, input_ids has 3 tokens"),
        (lambda: PackedBatch(FLAT, (3, 0)), r"document 1 is empty; leave it out"),
        (lambda: PackedBatch(FLAT, (4, -1)), r"document 1 has a negative length"),
        (lambda: PackedBatch(FLAT, (3,), FLAT[:2]), r"token_type_ids is \(2,\), input_ids \(3,\)"),
        (lambda: PackedBatch(FLAT, (1, 2), None, (1, 2, 3)), r"3 ids for 2 documents"),
        (lambda: PackedBatch([1, 2], (2,)), r"input_ids is a list, not a tensor \(T,\)"),
        (lambda: PackedBatch(FLAT.float(), (3,)), r"input_ids is torch.float32; token ids are torch.int64"),
        (lambda: PackedBatch.from_sequences([]), r"no documents to pack"),
        (lambda: PackedBatch.from_sequences("a text"), r"input_ids is a str; give a list of documents"),
        (lambda: PackedBatch.from_sequences({"input_ids": [[1]]}), r"input_ids is a dict; give a list of"),
        (lambda: PackedBatch.from_sequences(iter([[1]])), r"input_ids is a list_iterator; give a list of"),
        (lambda: PackedBatch.from_sequences(["a", "text"]), r"document 0 is a text; tokenise it first"),
        (lambda: PackedBatch.from_sequences([1, 2]), r"input_ids: document 0 is a int; each document is a"),
        (lambda: PackedBatch.from_sequences(FLAT), r"document 0 is a Tensor; each document is a sequence"),
        (lambda: PackedBatch.from_sequences([SQUARE]), r"document 0 is a Tensor \(2, 2\); each document is"),
        (
            lambda: PackedBatch.from_sequences([[1], [[2]]]),
            r"document 1 is no flat sequence of whole numbers",
        ),
        (lambda: PackedBatch.from_sequences([[1], [2, [3]]]), r"document 1 is no flat sequence of whole"),
        (lambda: PackedBatch.from_sequences([[1.5]]), r"document 0 is torch.float32; token ids are integers"),
        (lambda: PackedBatch.from_sequences(SQUARE), r"is a rectangle \(2, 2\).*PackedBatch.from_padded"),
        (lambda: PackedBatch.from_sequences(SQUARE.numpy()), r"is a rectangle \(2, 2\).*from_padded"),
        (lambda: PackedBatch.from_sequences([[1, 2]], [0, 1]), r"token_type_ids: document 0 is a int"),
        (lambda: PackedBatch.from_padded([[1]], SQUARE), r"input_ids is a list, not a tensor \(N, S\)"),
        (lambda: PackedBatch.from_padded(SQUARE, [[1]]), r"attention_mask is a list, not a tensor \(N, S\)"),
        (lambda: PackedBatch.from_sequences([[1], []]), r"document 1 is empty; leave it out"),
        (lambda: PackedBatch.from_sequences([[1], [2]], ids=[1]), r"1 ids for 2 documents"),
        (lambda: PackedBatch.from_sequences([[1, 2], [3]], [[0], [0]]), r"token_type_ids"),
        (lambda: PackedBatch.from_sequences([[1, 2], [3]], [[0], [0, 0]]), r"token_type_ids of document 0"),
        (lambda: PackedBatch.from_padded(FLAT, FLAT), r"must both be \(N, S\); got \(3,\) and \(3,\)"),
        (
            lambda: PackedBatch.from_padded(SQUARE, SQUARE[:1]),
            r"must both be \(N, S\); got \(2, 2\) and \(1, 2\)",
        ),
        (
            lambda: PackedBatch.from_padded(SQUARE, torch.tensor([[1, 1], [0, 0]])),
            r"document 1 is empty; leave it out",
        ),
        (lambda: PackedBatch.from_padded(SQUARE, SQUARE > -1, SQUARE[:, :1]), r"token_type_ids is \(2, 1\)"),
        (
            lambda: PackedBatch.from_sequences([[1, 2]]).pad(FLAT),
            r"the pack has 2 tokens, this tensor 3 rows",
        ),
        (
            lambda: PackedBatch.from_sequences([[1, 2]]).unpack(FLAT),
            r"the pack has 2 tokens, this tensor 3 rows",
        ),
    ],
)
def test_an_impossible_batch_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
