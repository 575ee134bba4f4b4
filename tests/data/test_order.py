"""Steps have every block once, in an order that follows from seed and epoch; a stream is shuffled part by part."""

from itertools import chain

import pytest
import torch

from yanma.data.blocks import Block, Blocks
from yanma.data.order import Shuffled, StepSize, Streamed

LENGTHS = [3, 9, 2, 30, 4, 4, 7, 1, 5, 8, 6, 2, 9, 3, 5, 5, 2, 8, 1, 6]
BUDGET = 16


def blocks():
    return Blocks(torch.arange(sum(LENGTHS), dtype=torch.int32), None, LENGTHS, len(LENGTHS), 0, 0, 0)


def numbers(steps):
    return [[block.key for block in step] for step in steps]


def in_memory():
    return Shuffled(blocks(), LENGTHS, 0, StepSize(batch_tokens=BUDGET))


def streamed(window, seed=0):
    return Streamed(lambda: iter(blocks()), seed, StepSize(batch_tokens=BUDGET), window)


@pytest.mark.parametrize("window", [len(LENGTHS), 1000])
def test_a_stream_that_fits_the_window_has_the_steps_of_blocks_in_memory(window):
    for epoch in range(3):
        kept = numbers(in_memory().steps(epoch))
        assert numbers(streamed(window).steps(epoch)) == kept and len(kept) > 5


@pytest.mark.parametrize("window", [1, 3, 7, 19])
def test_a_longer_stream_is_shuffled_a_window_at_a_time(window):
    orders = {
        tuple(chain(*numbers(streamed(window, seed).steps(epoch)))) for seed in (0, 1) for epoch in range(3)
    }
    assert len(orders) == (1 if window == 1 else 6), "seed and epoch make the order"
    for order in orders:
        for start in range(0, len(order), window):
            part = order[start : start + window]
            assert sorted(part) == list(range(start, start + len(part))), "no block leaves its window"


@pytest.mark.parametrize("order", [in_memory(), streamed(7)])
def test_steps_hold_their_budget_and_can_begin_anywhere(order):
    steps = numbers(order.steps(1))
    assert sorted(chain(*steps)) == list(range(len(LENGTHS)))
    sizes = [sum(LENGTHS[number] for number in step) for step in steps]
    assert all(size <= BUDGET or step == [3] for size, step in zip(sizes, steps, strict=True)), sizes
    assert all(sizes[i] + LENGTHS[steps[i + 1][0]] > BUDGET for i in range(len(steps) - 1)), (
        "none is cut early"
    )
    for begin in range(len(steps) + 1):
        assert numbers(order.steps(1, begin)) == steps[begin:]


def test_a_block_of_a_stream_is_the_block_in_memory():
    by_number = {block.key: block for step in streamed(7).steps(0) for block in step}
    for block in blocks():
        assert isinstance(block, Block) and torch.equal(by_number[block.key].input_ids, block.input_ids)
