"""Turns are taken in turns, and numbers are what they are called."""

import pytest

from yanma.bench.measure import Timing, in_turns, timed


def test_contestants_take_turns():
    order = []

    def turn(name, seconds):
        def take():
            order.append(name)
            return seconds

        return take

    told = []
    timings = in_turns({"a": turn("a", 1.0), "b": turn("b", 2.0)}, 3, told=told.append)
    assert order == told == ["a", "b"] * 3, "A B A B ..., not A A B B"
    assert timings["b"] == Timing((2.0, 2.0, 2.0))


def test_a_timed_turn_does_the_work_once():
    calls = []
    assert timed(lambda: calls.append(1))() >= 0
    assert calls == [1]


def test_a_ratio_is_taken_round_by_round():
    ours, theirs = Timing((1.0, 10.0, 2.0)), Timing((3.0, 20.0, 2.0))
    assert theirs.over(ours) == 2.0, "the median of 3, 2 and 1; that of the times would be 3 / 2"


def test_percentiles_of_rounds():
    timing = Timing((5.0, 1.0, 3.0, 2.0, 4.0))
    assert (timing.best, timing.median) == (1.0, 3.0)
    assert timing.percentile(0.2) == pytest.approx(1.8)
    assert timing.percentile(0.8) == pytest.approx(4.2)
    assert Timing((7.0,)).percentile(0.8) == 7.0
