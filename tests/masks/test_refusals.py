"""What no mask can be is refused by a message that names it."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from yanma.masks import (
    blocks,
    causal,
    chunked,
    dilated,
    documents,
    from_dense,
    full,
    global_tokens,
    padding,
    prefix,
    random_blocks,
    random_drop,
    strided,
    tree,
    window,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: window(-1, 0), r"window: left is -1"),
        (lambda: window(0, -2), r"window: right is -2"),
        (lambda: window(None, -1), r"window: right is -1"),
        (lambda: documents([2, -1]), r"documents: lengths has a negative length: \[2, -1\]"),
        (lambda: documents([2], kv_lengths=[-3]), r"documents: kv_lengths has a negative length: \[-3\]"),
        (lambda: documents([2, 1], kv_lengths=[3]), r"documents: 2 lengths but 1 kv_lengths"),
        (lambda: padding([1, 3], 2), r"padding: row 1 has length 3; max_length is 2"),
        (lambda: padding([1, -1], 2), r"padding: row 1 has length -1"),
        (lambda: from_dense(torch.ones(2, 2)), r"from_dense: needs a bool tensor.*torch.float32 \(2, 2\)"),
        (
            lambda: from_dense(torch.ones(2, 2, dtype=torch.int64)),
            r"from_dense: needs a bool tensor.*torch.int64",
        ),
        (lambda: from_dense(torch.ones(4, dtype=torch.bool)), r"from_dense: needs a bool tensor.*\(4,\)"),
        (lambda: from_dense(torch.ones(1, 2, 2, dtype=torch.bool)), r"from_dense: .*\(1, 2, 2\)"),
    ],
)
def test_an_impossible_mask_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: window(1.0, 0), "window: left is 1.0; give a whole number"),
        (lambda: window(0, "1"), "window: right is '1'; give a whole number"),
        (lambda: documents([2.5, 1]), "documents: one of lengths is 2.5; give a whole number"),
        (lambda: documents(5), "documents: lengths is 5; give a list of whole numbers"),
        (lambda: documents([5], 5), "documents: kv_lengths is 5; give a list"),
        (lambda: padding("12", 2), "padding: lengths is '12'; give a list"),
        (lambda: prefix(1.5), "prefix: lengths is 1.5; give a whole number"),
        (lambda: global_tokens(3), "global_tokens: positions is 3; give a list"),
        (lambda: global_tokens(first=0.5), "global_tokens: first is 0.5"),
        (lambda: chunked(1.5), "chunked: size is 1.5"),
        (lambda: dilated(1, 1.5, 0), "dilated: left is 1.5"),
        (lambda: strided(None), "strided: step is None"),
        (lambda: blocks("#", 1.5), "blocks: size is 1.5"),
        (lambda: random_blocks(1, 1, 0.5), "random_blocks: seed is 0.5"),
        (lambda: random_drop(0.5, None), "random_drop: seed is None"),
        (lambda: tree([-1.0]), "tree: one of parents is -1.0"),
    ],
)
def test_what_is_no_whole_number_is_refused_by_name(make, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        make()


def test_numbers_of_torch_are_numbers():
    ones = torch.ones(2, dtype=torch.int64)
    assert documents(ones) == documents([1, 1]) and prefix(ones) == prefix([1, 1])
    assert window(ones[0], None) == window(1, None) and type(window(True, None).left) is int


@pytest.mark.parametrize(
    "combine", [lambda a, b: a & b, lambda a, b: a | b, lambda a, b: a & ~b, lambda a, b: ~a | b]
)
def test_masks_over_different_tokens_do_not_combine(combine):
    with pytest.raises(ValueError, match=r"documents\(\[3\]\).*is \(3, 3\).*documents\(\[2\]\).*is \(2, 2\)"):
        combine(documents([3]), documents([2]))


def test_a_clash_hidden_in_a_nested_expression_is_found():
    nested = causal() | (window(1, 1) & documents([3]))
    with pytest.raises(ValueError, match="two different sets of documents"):
        nested & documents([1, 2])
    with pytest.raises(ValueError, match="must cover the same tokens"):
        nested & documents([2, 2])
    with pytest.raises(ValueError, match="must cover the same tokens"):
        full() & documents([2, 2]) & ~nested


@pytest.mark.parametrize("mask", [full(), causal(), window(1, 0) | causal(), ~causal()])
def test_a_mask_that_fits_any_size_needs_one(mask):
    with pytest.raises(ValueError, match="fits any size; say which"):
        mask.dense()
    with pytest.raises(ValueError, match="fits any size; say which"):
        mask.show()


@pytest.mark.parametrize("size", [3, (4, 5), (5, 4)])
def test_a_size_that_contradicts_the_mask_is_refused(size):
    with pytest.raises(ValueError, match=r"documents\(\[4\]\) is 4 x 4, not"):
        documents([4]).dense(size)


@pytest.mark.parametrize("size", [-1, (2, -1)])
def test_a_negative_size_is_refused(size):
    for call in (causal().dense, causal().intervals, causal().show):
        with pytest.raises(ValueError, match=r"causal\(\) cannot be .*-1; a size is 0 or more"):
            call(size)


@pytest.mark.parametrize("other", [torch.ones(2, 2, dtype=torch.bool), True, None, [1]])
def test_a_mask_combines_with_masks_only(other):
    with pytest.raises(TypeError, match=f"not with {type(other).__name__}; wrap a tensor in from_dense"):
        documents([2]) & other
    with pytest.raises(TypeError, match=f"not with {type(other).__name__}"):
        documents([2]) | other


def test_a_mask_is_frozen():
    with pytest.raises(FrozenInstanceError, match="'left'"):
        causal().left = 3
