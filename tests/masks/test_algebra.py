"""The laws of `&`, `|` and `~`, and that simplification never changes what a mask means."""

import operator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yanma.masks import (
    And,
    Documents,
    Full,
    Mask,
    Not,
    Or,
    Window,
    causal,
    documents,
    from_dense,
    full,
    padding,
    window,
)

SIDE = 4
SIZE = (SIDE, SIDE)

reaches = st.none() | st.integers(0, SIDE)
splits = st.sampled_from([(4,), (1, 3), (2, 2), (0, 4), (1, 1, 2), (3, 0, 1), (1, 1, 1, 1)])


@st.composite
def crossings(draw):
    lengths = draw(splits)
    return documents(lengths, kv_lengths=draw(splits.filter(lambda other: len(other) == len(lengths))))


dense_grids = st.lists(st.booleans(), min_size=SIDE**2, max_size=SIDE**2).map(
    lambda bits: from_dense(torch.tensor(bits).view(SIZE))
)
leaves = st.one_of(
    st.just(full()),
    st.builds(window, reaches, reaches),
    splits.map(documents),
    crossings(),
    st.sampled_from([padding([2, 1], 2), padding([3], 4), padding([0, 2], 2), padding([1, 0, 1, 1], 1)]),
    dense_grids,
)


def _grow(children):
    pairs = st.tuples(children, children)
    return st.one_of(
        children.map(lambda a: ~a), pairs.map(lambda p: p[0] & p[1]), pairs.map(lambda p: p[0] | p[1])
    )


masks = st.recursive(leaves, _grow, max_leaves=6)


def same(a: Mask, b: Mask) -> bool:
    return torch.equal(a.dense(SIZE), b.dense(SIZE))


@given(masks, masks)
def test_and_or_not_mean_what_they_mean_on_the_grid(a, b):
    left, right = a.dense(SIZE), b.dense(SIZE)
    assert torch.equal((a & b).dense(SIZE), left & right), f"{a} & {b} became {a & b}"
    assert torch.equal((a | b).dense(SIZE), left | right), f"{a} | {b} became {a | b}"
    assert torch.equal((~a).dense(SIZE), ~left), f"~({a}) became {~a}"


@given(masks, masks)
def test_de_morgan(a, b):
    assert same(~(a & b), ~a | ~b)
    assert same(~(a | b), ~a & ~b)


@given(masks)
def test_double_negation(a):
    assert same(~~a, a)
    assert ~~a == a, "double negation gives the very expression back"


@given(masks, masks)
def test_absorption(a, b):
    assert same(a & (a | b), a)
    assert same(a | (a & b), a)


@given(masks, masks, masks)
def test_associativity_and_distribution(a, b, c):
    assert same((a & b) & c, a & (b & c))
    assert same((a | b) | c, a | (b | c))
    assert same(a & (b | c), (a & b) | (a & c))
    assert same(a | (b & c), (a | b) & (a | c))


@given(masks, masks)
def test_commutativity(a, b):
    assert same(a & b, b & a)
    assert same(a | b, b | a)


@given(masks)
def test_full_is_the_neutral_and_its_negation_the_absorbing_one(a):
    nothing = ~full()
    assert same(a & full(), a) and same(a | nothing, a)
    assert same(a | full(), full()) and same(a & nothing, nothing)
    assert same(a & ~a, nothing) and same(a | ~a, full())


@given(masks, masks)
def test_a_combination_covers_the_tokens_that_its_parts_cover(a, b):
    fixed = {mask.shape for mask in (a, b)} - {None}
    expected = fixed.pop() if fixed else None
    assert (a & b).shape == (a | b).shape == expected
    assert (~a).shape == a.shape


@given(masks, masks)
def test_the_terms_of_an_and_are_flat_and_all_must_allow(a, b):
    both = a & b
    assert not any(isinstance(term, And) for term in both.terms())
    assert sum(isinstance(term, Window) for term in both.terms()) <= 1, (
        "windows of one intersection merge into one"
    )
    together = torch.stack([term.dense(SIZE) for term in both.terms()]).all(0)
    assert torch.equal(together, both.dense(SIZE))


@given(st.lists(st.tuples(reaches, reaches), min_size=1, max_size=4))
def test_windows_intersect_to_the_tighter_one(pairs):
    mask = full()
    for left, right in pairs:
        mask = mask & window(left, right)
    lefts = [left for left, _ in pairs if left is not None]
    rights = [right for _, right in pairs if right is not None]
    assert mask == window(min(lefts, default=None), min(rights, default=None))


def test_expressions_become_as_simple_as_they_can():
    pack = documents([2, 2])
    assert pack & full() == pack and full() & pack == pack
    assert pack & pack == pack and pack | pack == pack
    assert causal() & window(1, 4) == window(1, 0)
    assert full() & full() == full() and full() | causal() == full()
    assert isinstance(pack | full(), Or), "full() | documents still says how many tokens there are"
    assert (pack | full()).shape == (4, 4)
    assert (pack & causal() & window(1, None) & pack).terms() == (pack, window(1, 0))
    assert isinstance(~causal(), Not) and isinstance(~~full(), Full)
    assert isinstance((pack & causal()).terms()[0], Documents)


@given(masks)
def test_equal_expressions_hash_alike(a):
    twin = ~~a
    assert hash(twin) == hash(a) and {a: 1}[twin] == 1


def test_dense_masks_are_equal_only_to_themselves():
    grid = torch.eye(2, dtype=torch.bool)
    one, other = from_dense(grid), from_dense(grid.clone())
    assert one == one and one != other
    assert (one & one) is one and isinstance(one & other, And)


@pytest.mark.parametrize("combine", [operator.and_, operator.or_])
def test_hundreds_of_parts_stay_flat(combine):
    mask = from_dense(torch.eye(2, dtype=torch.bool))
    for _ in range(300):
        mask = combine(mask, from_dense(torch.eye(2, dtype=torch.bool)))
    assert len(mask.masks) == 301 and mask.dense().tolist() == [[True, False], [False, True]]
