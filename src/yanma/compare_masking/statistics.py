"""Means over seeds with their intervals: a bootstrap over seeds, and Student's t beside it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .arms import BASELINE
from .outcome import Metric, Pairs

LEVEL = 0.95
RESAMPLES = 9_999
_BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and two intervals for it at the level of 95 %."""

    values: tuple[float, ...]
    mean: float
    bootstrap: Interval
    """Percentiles of the means of samples drawn from the values with replacement (Efron 1979)."""
    student: Interval
    """Mean and t times its standard error: exact where values are normal, and the wider one for few seeds."""


@dataclass(frozen=True)
class Line:
    """One arm under one metric."""

    arm: str
    metric: Metric
    plain: Estimate
    difference: Estimate | None
    """From the baseline, seed by seed; None for the baseline itself."""


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value a seed; the same values always give the same intervals.

    Of differences within pairs this is the paired bootstrap: to draw pairs is to draw their differences. With n values
    the bootstrap's interval is about sqrt((n - 1) / n) * 1.96 standard errors to either side: for 5 normal values it
    holds the truth in 84 of 100 cases, not 95. Student's holds it in 95.

    >>> found = estimate([1.0, 2.0, 3.0])
    >>> found.mean, found.bootstrap, round(found.student.low, 3), round(found.student.high, 3)
    (2.0, Interval(low=1.0, high=3.0), -0.484, 4.484)

    Raises ValueError for fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} value: an interval needs two or more")
    import numpy as np
    from scipy.stats import bootstrap, t

    mean = math.fsum(values) / len(values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    drawn = bootstrap(
        (np.asarray(values),), np.mean, vectorized=True, n_resamples=RESAMPLES, confidence_level=LEVEL,
        method="percentile", rng=np.random.default_rng(_BOOTSTRAP_SEED),
    ).confidence_interval  # fmt: skip
    return Estimate(
        tuple(values), mean, Interval(float(drawn.low), float(drawn.high)), Interval(mean - half, mean + half)
    )


def lines(pairs: Pairs, metric: Metric) -> list[Line]:
    """Each arm's mean, and its difference from the baseline."""
    return [
        Line(
            arm,
            metric,
            estimate(pairs.values(arm, metric)),
            None if arm == BASELINE else estimate(pairs.differences(arm, BASELINE, metric)),
        )
        for arm in pairs.arms
    ]
