"""Which examples move the weights together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yanma.data.examples import Example, Tokens
from yanma.data.order import Shuffled, StepSize, share


def cut_epoch(lengths, *, seed, epoch, batch_size=None, batch_tokens=None):
    order = Shuffled(range(len(lengths)), lengths, seed, StepSize(batch_size, batch_tokens))
    return [tuple(step) for step in order.steps(epoch)]


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@given(LENGTHS, st.integers(0, 3), st.integers(0, 3), st.integers(1, 9))
def test_every_example_moves_the_weights_once_an_epoch(lengths, seed, epoch, batch_size):
    steps = cut_epoch(lengths, seed=seed, epoch=epoch, batch_size=batch_size)
    assert sorted(index for step in steps for index in step) == list(range(len(lengths)))
    assert all(len(step) == batch_size for step in steps[:-1]) and 0 < len(steps[-1]) <= batch_size


@given(LENGTHS, st.integers(0, 3), st.integers(1, 100))
def test_a_step_by_tokens_is_as_full_as_it_can_be_and_no_fuller(lengths, seed, batch_tokens):
    steps = cut_epoch(lengths, seed=seed, epoch=0, batch_tokens=batch_tokens)
    assert sorted(index for step in steps for index in step) == list(range(len(lengths)))
    sizes = [sum(lengths[index] for index in step) for step in steps]
    for step, size, following in zip(steps, sizes, [*steps[1:], None], strict=True):
        assert size <= batch_tokens or len(step) == 1, f"{size} tokens in a step of {batch_tokens}"
        if following is not None:
            assert size + lengths[following[0]] > batch_tokens, "the next example would have fitted"


def test_the_order_differs_from_epoch_to_epoch_and_not_from_run_to_run():
    first, again, second, other = (
        cut_epoch([1] * 50, seed=seed, epoch=epoch, batch_size=50)
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert first == again
    assert first != second and first != other


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 7])
def test_ranks_share_a_step_without_loss_and_evenly(num_ranks):
    lengths = [5, 40, 3, 3, 17, 8, 1, 90, 2, 2]
    step = [Example(key, (Tokens(range(lengths[key])),), None) for key in (9, 0, 1, 4, 7, 5)]
    shares = [share(step, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    assert sorted(e.key for part in shares for e in part) == sorted(e.key for e in step)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
