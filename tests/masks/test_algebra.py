"""The laws of `&`, `|` and `~`, and that simplification never changes what a mask means."""

import operator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from masks.expressions import expressions, packs
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
    window,
)

reaches = st.none() | st.integers(0, 4)


@dataclass(frozen=True)
class Few:
    """Expressions over the same documents."""

    masks: tuple[Mask, ...]
    frame: Mask

    def seen(self, mask: Mask) -> torch.Tensor:
        """What a mask allows in this frame, whether or not it names the documents itself."""
        nothing = self.frame & ~self.frame
        return (mask | nothing).dense()

    def same(self, a: Mask, b: Mask) -> bool:
        return torch.equal(self.seen(a), self.seen(b))


@st.composite
def few(draw, count):
    lengths, kv_lengths = draw(packs(most=12))
    each = expressions(lengths, kv_lengths, depth=3)
    return Few(tuple(draw(st.tuples(*[each] * count))), documents(lengths, kv_lengths))


@given(few(2))
def test_and_or_not_mean_what_they_mean_on_the_grid(case):
    a, b = case.masks
    left, right = case.seen(a), case.seen(b)
    assert torch.equal(case.seen(a & b), left & right), f"{a} & {b} became {a & b}"
    assert torch.equal(case.seen(a | b), left | right), f"{a} | {b} became {a | b}"
    assert torch.equal(case.seen(a - b), left & ~right), f"{a} - {b} became {a - b}"
    assert torch.equal(case.seen(~a), ~left), f"~({a}) became {~a}"


@given(few(2))
def test_de_morgan(case):
    a, b = case.masks
    assert case.same(~(a & b), ~a | ~b)
    assert case.same(~(a | b), ~a & ~b)


@given(few(1))
def test_double_negation(case):
    (a,) = case.masks
    assert case.same(~~a, a)
    assert ~~a == a, "double negation gives the very expression back"


@given(few(2))
def test_absorption(case):
    a, b = case.masks
    assert case.same(a & (a | b), a)
    assert case.same(a | (a & b), a)


@given(few(3))
def test_associativity_and_distribution(case):
    a, b, c = case.masks
    assert case.same((a & b) & c, a & (b & c))
    assert case.same((a | b) | c, a | (b | c))
    assert case.same(a & (b | c), (a & b) | (a & c))
    assert case.same(a | (b & c), (a | b) & (a | c))


@given(few(2))
def test_commutativity(case):
    a, b = case.masks
    assert case.same(a & b, b & a)
    assert case.same(a | b, b | a)


@given(few(1))
def test_full_is_the_neutral_and_its_negation_the_absorbing_one(case):
    (a,) = case.masks
    nothing = ~full()
    assert case.same(a & full(), a) and case.same(a | nothing, a)
    assert case.same(a | full(), full()) and case.same(a & nothing, nothing)
    assert case.same(a & ~a, nothing) and case.same(a | ~a, full())


@given(few(2))
def test_a_combination_covers_the_tokens_that_its_parts_cover(case):
    a, b = case.masks
    assert (a & b & case.frame).shape == (a | b | case.frame).shape == case.frame.shape
    assert (a & b & case.frame).frame == (a | b | case.frame).frame == case.frame
    assert (~a).shape == a.shape and (~a).frame == a.frame


@given(few(2))
def test_the_terms_of_an_and_are_flat_and_all_must_allow(case):
    a, b = case.masks
    both = a & b
    assert not any(isinstance(term, And) for term in both.terms())
    assert sum(isinstance(term, Window) for term in both.terms()) <= 1, (
        "windows of one intersection merge into one"
    )
    together = torch.stack([case.seen(term) for term in both.terms()]).all(0)
    assert torch.equal(together, case.seen(both))


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


@given(few(1))
def test_equal_expressions_hash_alike(case):
    (a,) = case.masks
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
