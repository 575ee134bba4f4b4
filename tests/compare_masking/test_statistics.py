"""Means and intervals, against enumeration, tables of t and simulation."""

import itertools
import random

import numpy as np
import pytest

from yanma.compare_masking.arms import BASELINE
from yanma.compare_masking.outcome import METRICS, Outcome, paired
from yanma.compare_masking.statistics import estimate, lines

FIVE = (0.31, -0.12, 0.05, 0.44, 0.02)


def outcome(arm, seed, loss, **other):
    given = {"steps": 10, "tokens": 100, "shared": {"weights": f"w{seed}"}, "seconds": {}} | other
    return Outcome(arm=arm, seed=seed, figures={"validation loss": loss}, **given)


def test_the_bootstrap_is_that_of_all_samples_there_are():
    """3,125 samples of 5 values: every one is equally likely, so that the true percentiles can be enumerated."""
    means = sorted(sum(sample) / 5 for sample in itertools.product(FIVE, repeat=5))
    found = estimate(FIVE)
    ranks = np.searchsorted(means, [found.bootstrap.low, found.bootstrap.high]) / len(means)
    assert found.mean == pytest.approx(0.14)
    assert abs(ranks - [0.025, 0.975]).max() < 0.006, f"95 % of all samples lie between; ranks are {ranks}"


def test_students_interval_is_the_textbooks():
    """t(0.975, 4) = 2.776445; the squares of the distances from the mean, 0.14, add up to 0.209."""
    found = estimate(FIVE)
    half = 2.776445 * (0.209 / 4 / 5) ** 0.5
    assert (found.student.low, found.student.high) == pytest.approx((0.14 - half, 0.14 + half), abs=1e-5)


def test_the_same_values_give_the_same_interval_and_one_value_is_refused():
    assert estimate(FIVE) == estimate(FIVE)
    with pytest.raises(ValueError, match="two or more"):
        estimate([1.0])


def test_values_that_are_all_the_same_have_an_interval_without_width():
    found = estimate([0.5, 0.5, 0.5])
    assert (
        (found.bootstrap.low, found.bootstrap.high) == (found.student.low, found.student.high) == (0.5, 0.5)
    )


def test_how_often_the_intervals_hold_the_truth_is_what_the_docstring_says():
    """600 comparisons of 5 seeds without a difference; binomial bounds of 4 standard deviations."""
    drawn = random.Random(0)
    found = [estimate([drawn.gauss(0, 1) for _ in range(5)]) for _ in range(600)]
    student = sum(0 in one.student for one in found) / len(found)
    bootstrap = sum(0 in one.bootstrap for one in found) / len(found)
    assert abs(student - 0.95) < 0.036, f"Student's interval holds the truth in {student:.1%}"
    assert abs(bootstrap - 0.84) < 0.06, f"the bootstrap's interval holds the truth in {bootstrap:.1%}"


def test_what_seeds_share_cancels_in_differences():
    """Seeds differ by 1, arms by 0.1: the plain interval is wide, that of the difference is not."""
    outcomes = [
        outcome(arm, seed, seed + extra)
        for arm, extra in ((BASELINE, 0.0), ("word", 0.1))
        for seed in range(5)
    ]
    base, word = lines(paired(outcomes, (BASELINE, "word")), METRICS[0])
    assert base.difference is None
    assert word.plain.mean == pytest.approx(2.1) and word.plain.student.high - word.plain.student.low > 3
    assert word.difference.mean == pytest.approx(0.1)
    assert word.difference.values == pytest.approx([0.1] * 5)
    assert word.difference.student.high - word.difference.student.low < 1e-12
