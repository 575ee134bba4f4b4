"""Packing: every example in exactly one group, the budget kept, orders that are pure functions of their seeds."""

import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yanma.packing import plan, shuffled

lengths_lists = st.lists(st.integers(0, 40), max_size=30)
budgets = st.integers(1, 50)
rules = st.sampled_from(["alone", "truncate"])


def tokens(plan_, group):
    return sum(plan_.lengths[i] for i in group)


@given(lengths_lists, budgets, rules)
def test_no_example_is_lost_or_repeated(lengths, budget, too_long):
    groups = plan(lengths, budget, too_long=too_long).groups
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(groups), "a group without examples is no group"


@given(lengths_lists, budgets, st.randoms(use_true_random=False))
def test_the_budget_is_kept_except_by_examples_alone(lengths, budget, draw):
    order = draw.sample(range(len(lengths)), len(lengths))
    made = plan(lengths, budget, order=order, too_long="alone")
    for group in made.groups:
        assert tokens(made, group) <= budget or len(group) == 1
    assert made.lengths == tuple(lengths) and made.truncated == 0


@given(lengths_lists, budgets)
def test_truncated_examples_are_counted_and_fit(lengths, budget):
    made = plan(lengths, budget, too_long="truncate")
    assert made.lengths == tuple(min(n, budget) for n in lengths)
    assert made.truncated == sum(n > budget for n in lengths)
    assert all(tokens(made, group) <= budget for group in made.groups)


@given(lengths_lists, budgets)
def test_too_long_examples_are_refused_by_default(lengths, budget):
    too_long = [i for i, n in enumerate(lengths) if n > budget]
    if not too_long:
        made = plan(lengths, budget)
        assert all(tokens(made, group) <= budget for group in made.groups)
        return
    with pytest.raises(
        ValueError, match=rf"example {too_long[0]} has {lengths[too_long[0]]} tokens.*is {budget};"
    ):
        plan(lengths, budget)


@given(lengths_lists, budgets, st.randoms(use_true_random=False))
def test_examples_are_taken_in_the_order_given(lengths, budget, draw):
    order = draw.sample(range(len(lengths)), len(lengths))
    made = plan(lengths, budget, order=iter(order), too_long="truncate")
    assert [i for group in made.groups for i in group] == order
    for earlier, later in zip(made.groups, made.groups[1:], strict=False):
        assert tokens(made, earlier) + made.lengths[later[0]] > budget, (
            "a group ends only where the next does not fit"
        )


@given(lengths_lists, budgets)
def test_longest_first_by_default_and_equal_lengths_in_place(lengths, budget):
    made = plan(lengths, budget, too_long="truncate")
    taken = [i for group in made.groups for i in group]
    assert taken == sorted(taken, key=lambda i: (-made.lengths[i], i))


def test_an_example_alone_is_the_only_one_of_its_group_wherever_it_stands():
    for order in ([0, 1, 2], [1, 0, 2], [0, 2, 1]):
        assert (1,) in plan([2, 9, 2], 5, order=order, too_long="alone").groups
    assert plan([2, 9, 2], 5, order=[0, 1, 2], too_long="alone").groups == ((0,), (1,), (2,))


def test_nothing_to_pack_gives_no_groups():
    assert plan([], 5).groups == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_batch_tokens": 0}, "max_batch_tokens is 0; it must be 1 or more"),
        ({"max_batch_tokens": -4}, "max_batch_tokens is -4"),
        (
            {"max_batch_tokens": 5, "too_long": "drop"},
            "too_long is 'drop'; it must be 'refuse', 'alone' or 'truncate'",
        ),
        ({"max_batch_tokens": 5, "order": [0]}, "order must name each of the 2 examples once"),
        ({"max_batch_tokens": 5, "order": [0, 0]}, "order must name each of the 2 examples once"),
        ({"max_batch_tokens": 5, "order": [0, 1, 1]}, "order must name each of the 2 examples once"),
        ({"max_batch_tokens": 5, "order": [1, 2]}, "order must name each of the 2 examples once"),
    ],
)
def test_an_impossible_plan_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan([1, 2], **arguments)


@given(st.integers(0, 60), st.integers(-(2**63), 2**63), st.integers(0, 1000))
def test_shuffled_is_a_permutation_and_a_pure_function(count, seed, epoch):
    random.seed(seed)
    first = shuffled(count, seed=seed, epoch=epoch)
    random.seed(0)
    assert sorted(first) == list(range(count))
    assert shuffled(count, seed=seed, epoch=epoch) == first


def test_shuffled_is_the_same_in_every_process():
    program = "from yanma.packing import shuffled; print(shuffled(20, seed=3, epoch=1))"
    runs = {subprocess.check_output([sys.executable, "-c", program], text=True).strip() for _ in range(2)}
    assert runs == {str(shuffled(20, seed=3, epoch=1))}


def test_each_epoch_and_each_seed_has_its_own_order():
    orders = {tuple(shuffled(50, seed=seed, epoch=epoch)) for seed in range(30) for epoch in range(30)}
    assert len(orders) == 900
    assert shuffled(50, seed=1, epoch=23) != shuffled(50, seed=12, epoch=3), (
        "seed and epoch are not run together"
    )


def test_shuffled_puts_every_example_everywhere():
    # 4,000 orders of 5: each example is expected 800 times in each place, with a standard deviation of 25.
    places = [[0] * 5 for _ in range(5)]
    for epoch in range(4000):
        for place, example in enumerate(shuffled(5, seed=0, epoch=epoch)):
            places[example][place] += 1
    assert all(abs(count - 800) < 5 * 25 for row in places for count in row), places


@settings(max_examples=30)
@given(st.integers(1, 200), st.integers(0, 5))
def test_a_shuffled_plan_is_a_plan(count, epoch):
    lengths = [1 + i % 17 for i in range(count)]
    made = plan(lengths, 20, order=shuffled(count, seed=0, epoch=epoch))
    assert sorted(i for group in made.groups for i in group) == list(range(count))
