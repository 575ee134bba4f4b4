"""Outcomes that are no pairs are refused, with what they do not share."""

import re
from dataclasses import replace

import pytest

from yanma.compare_masking.outcome import METRICS, Outcome, paired
from yanma.errors import DataError

ARMS = ("dynamic", "word")
OUTCOMES = [
    Outcome(
        arm, seed, 10, 100, {"validation loss": seed + 0.5}, {"initial weights": f"w{seed}"}, {"all": 1.0}
    )
    for arm in ARMS
    for seed in range(2)
]


def changed(**fields):
    """The last outcome, word with seed 1, changed."""
    return [*OUTCOMES[:-1], replace(OUTCOMES[-1], **fields)]


def test_pairs_are_looked_up_by_arm_and_seed_in_any_order():
    pairs = paired(OUTCOMES[::-1], ARMS)
    assert pairs.seeds == (0, 1)
    assert pairs.values("word", METRICS[0]) == (0.5, 1.5)
    assert pairs.differences("word", "dynamic", METRICS[0]) == (0.0, 0.0)
    assert [metric.name for metric in pairs.metrics] == ["validation loss"]


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        (changed(shared={"initial weights": "w0"}), "do not have the same initial weights: w1 and w0"),
        (changed(shared={}), "do not have the same initial weights: w1 and None"),
        (changed(steps=9), "do not have the same number of steps: 10 and 9"),
        (changed(tokens=99), "do not have the same number of tokens: 100 and 99"),
        (changed(figures={"probe accuracy": 1.0}), "do not have the same names of figures"),
        (OUTCOMES[:-1], "seed 1 has no outcome of word; every arm needs every seed"),
        ([*OUTCOMES, OUTCOMES[0]], "dynamic, seed 0: there are two outcomes"),
    ],
)
def test_broken_pairs_are_refused(outcomes, told):
    with pytest.raises(DataError, match=re.escape(told)):
        paired(outcomes, ARMS)
