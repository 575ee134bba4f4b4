"""Each kind of mask against its definition, written out pair by pair."""

import pytest
import torch

from yanma import attention
from yanma.masks import causal, documents, from_dense, full, padding, window

REACHES = [None, 0, 1, 2, 7]
SIZES = [(1, 1), (5, 5), (4, 7), (7, 4)]


def spelled_out(num_q, num_kv, may_read):
    return torch.tensor([[may_read(q, k) for k in range(num_kv)] for q in range(num_q)])


def document_of(lengths):
    return [document for document, length in enumerate(lengths) for _ in range(length)]


@pytest.mark.parametrize("size", SIZES)
def test_full_shows_every_pair(size):
    assert torch.equal(full().dense(size), torch.ones(size, dtype=torch.bool))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("right", REACHES)
@pytest.mark.parametrize("left", REACHES)
def test_a_window_counts_the_tokens_beside_the_query(left, right, size):
    def may_read(q, k):
        return (left is None or k >= q - left) and (right is None or k <= q + right)

    assert torch.equal(window(left, right).dense(size), spelled_out(*size, may_read))


@pytest.mark.parametrize("size", SIZES)
def test_causal_reads_itself_and_what_stands_before(size):
    assert torch.equal(causal().dense(size), spelled_out(*size, lambda q, k: k <= q))
    assert causal() == window(None, 0), (
        "causal() is the window with no limit on the left and none to the right"
    )


@pytest.mark.parametrize(
    "lengths", [(1,), (3, 2), (1, 1, 1), (5, 1, 7, 3), (0, 2), (2, 0, 0, 3), (2, 0), (0, 0), ()]
)
def test_a_document_reads_itself_alone(lengths):
    owner = document_of(lengths)
    expected = spelled_out(len(owner), len(owner), lambda q, k: owner[q] == owner[k])
    assert torch.equal(documents(lengths).dense(), expected.bool().view(len(owner), len(owner)))


@pytest.mark.parametrize(
    ("lengths", "kv_lengths"),
    [((1, 2), (3, 1)), ((2, 0, 1), (1, 4, 2)), ((2, 1), (0, 3)), ((0, 2), (0, 2)), ((1, 1), (0, 0))],
)
def test_a_document_reads_its_own_keys_across(lengths, kv_lengths):
    own, theirs = document_of(lengths), document_of(kv_lengths)
    mask = documents(lengths, kv_lengths=kv_lengths)
    assert mask.shape == (len(own), len(theirs))
    expected = spelled_out(len(own), len(theirs), lambda q, k: own[q] == theirs[k])
    assert torch.equal(mask.dense(), expected.bool().view(mask.shape))


@pytest.mark.parametrize(
    ("lengths", "max_length"), [((1, 2), 2), ((0, 3, 1), 4), ((4,), 4), ((0, 0), 2), ((2, 2), 2), ((), 3)]
)
def test_padding_hides_keys_after_each_rows_length(lengths, max_length):
    slots = len(lengths) * max_length

    def may_read(q, k):
        row, place = divmod(k, max_length)
        return q // max_length == row and place < lengths[row]

    mask = padding(lengths, max_length)
    assert mask.shape == (slots, slots)
    assert torch.equal(mask.dense(), spelled_out(slots, slots, may_read).bool().view(slots, slots))


def test_from_dense_is_the_tensor():
    tensor = torch.rand(3, 5) < 0.5
    assert torch.equal(from_dense(tensor).dense(), tensor)
    assert from_dense(tensor).shape == (3, 5)


def test_a_tensor_that_changes_later_does_not_change_its_mask():
    tensor = torch.eye(6, dtype=torch.bool)
    mask, q = from_dense(tensor), torch.randn(6, 1, 4)
    before = attention(q, q, q, mask)
    tensor.fill_(True)
    assert torch.equal(mask.dense(), torch.eye(6, dtype=torch.bool))
    for backend in ("segments", "sdpa", "reference"):
        assert torch.allclose(attention(q, q, q, mask, backend=backend), before)


def test_masks_that_fit_any_size_take_a_number_or_a_pair():
    assert causal().dense(3).shape == (3, 3)
    assert causal().dense((2, 5)).shape == (2, 5)
    assert documents([2, 1]).dense(3).shape == documents([2, 1]).dense((3, 3)).shape == (3, 3)


def test_dense_does_not_share_memory_with_the_tensor_it_came_from():
    tensor = torch.zeros(2, 2, dtype=torch.bool)
    mask = from_dense(tensor)
    mask.dense()[0, 0] = True
    assert not tensor.any(), "writing into dense() must not change the mask"


def test_the_picture_shows_the_pairs():
    assert (documents([3, 2]) & causal()).show() == "#....\n##...\n###..\n...#.\n...##"
    assert window(0, 1).show((2, 3)) == "##.\n.##"


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (full(), "full()"),
        (causal(), "causal()"),
        (window(2, None), "window(2, None)"),
        (documents([1, 2]), "documents([1, 2])"),
        (documents([1, 2], kv_lengths=[3, 1]), "documents([1, 2], kv_lengths=[3, 1])"),
        (documents(range(1, 9)), "documents([1, 2, 3, ... 8 in all])"),
        (padding([1, 2], 2), "padding([1, 2], 2)"),
        (from_dense(torch.ones(2, 3, dtype=torch.bool)), "from_dense(2 x 3)"),
        (documents([1, 2]) & window(1, 0), "documents([1, 2]) & window(1, 0)"),
        (
            documents([2]) & ~(causal() & padding([1, 1], 1)),
            "documents([2]) & ~(padding([1, 1], 1) & causal())",
        ),
        ((causal() | window(0, 1)) & documents([2]), "(causal() | window(0, 1)) & documents([2])"),
        ((causal() & documents([2])) | window(0, 1), "(documents([2]) & causal()) | window(0, 1)"),
        (~causal(), "~causal()"),
    ],
)
def test_a_mask_describes_itself_as_one_would_write_it(mask, text):
    assert mask.describe() == repr(mask) == text


def test_descriptions_of_short_masks_can_be_read_back():
    names = {"documents": documents, "causal": causal, "window": window, "full": full, "padding": padding}
    for mask in [
        (documents([2, 1]) | window(0, 1)) & ~causal(),
        documents([1, 2]) & causal() | full() & padding([1], 3),
        ~(window(1, 1) | documents([2, 1])) & documents([2, 1]),
    ]:
        assert torch.equal(eval(mask.describe(), names).dense(3), mask.dense(3)), mask.describe()
