"""What a run came to, and what it shares with the other arms of its seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import DataError


@dataclass(frozen=True)
class Metric:
    """A figure of an outcome, and how it is told."""

    name: str
    """Its key in `Outcome.figures`."""
    title: str
    better: Literal["lower", "higher"]
    percent: bool = False
    """Whether it is a share that is told in percent."""

    @property
    def heading(self) -> str:
        """The title, as a line begins."""
        return self.title[0].upper() + self.title[1:]

    def told(self, value: float, *, signed: bool = False) -> str:
        """As text: 4 significant decimals of a loss, a hundredth of a percent of a share.

        >>> Metric("a", "accuracy", "higher", percent=True).told(0.25, signed=True)
        '+25.00'
        """
        scaled, decimals = (value * 100, 2) if self.percent else (value, 4)
        rounded = round(scaled, decimals) + 0.0  # no "-0.00"
        return f"{rounded:{'+' if signed else ''}.{decimals}f}"


METRICS: tuple[Metric, ...] = (
    Metric("validation loss", "validation loss, nats a hidden token", "lower"),
    Metric("validation accuracy", "validation accuracy, % of hidden tokens", "higher", percent=True),
    Metric("word accuracy", "accuracy where whole words are hidden, %", "higher", percent=True),
    Metric("span accuracy", "accuracy where spans are hidden, %", "higher", percent=True),
    Metric("probe accuracy", "probe: accuracy, %", "higher", percent=True),
    Metric("probe macro F1", "probe: macro F1, %", "higher", percent=True),
)
"""All that may be in an outcome; without a probe the last two are not."""
MAIN = ("validation loss", "validation accuracy", "probe accuracy")
"""Those that are drawn."""


@dataclass(frozen=True)
class Outcome:
    """One run: an arm with a seed."""

    arm: str
    seed: int
    steps: int
    tokens: int
    """Read in pre-training, all epochs together."""
    figures: Mapping[str, float]
    """By name of the metric."""
    shared: Mapping[str, str]
    """Fingerprints of what every arm of a seed must share. The order of blocks and dropout's keys are functions of the
    seed and of these."""
    seconds: Mapping[str, float]
    """By part of the run; on one thread."""

    @property
    def name(self) -> str:
        """What a message calls it."""
        return f"{self.arm}, seed {self.seed}"

    def told(self) -> str:
        """Its figures, as a line."""
        shown = [metric for metric in METRICS if metric.name in self.figures]
        figures = ", ".join(f"{one.name} {one.told(self.figures[one.name])}" for one in shown)
        return f"{self.name}: {figures} ({sum(self.seconds.values()):.0f} s)"


@dataclass(frozen=True)
class Pairs:
    """Outcomes of the same arms for every seed."""

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    outcomes: Mapping[tuple[str, int], Outcome]
    """By arm and seed."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those that the outcomes have."""
        some = next(iter(self.outcomes.values())).figures
        return tuple(metric for metric in METRICS if metric.name in some)

    def values(self, arm: str, metric: Metric) -> tuple[float, ...]:
        """One value a seed."""
        return tuple(self.outcomes[arm, seed].figures[metric.name] for seed in self.seeds)

    def differences(self, arm: str, baseline: str, metric: Metric) -> tuple[float, ...]:
        """One a seed: the arm's value less the baseline's."""
        both = zip(self.values(arm, metric), self.values(baseline, metric), strict=True)
        return tuple(value - base for value, base in both)


def paired(outcomes: Sequence[Outcome], arms: Sequence[str]) -> Pairs:
    """The outcomes by arm and seed.

    Raises DataError unless every seed has every arm once, with the same steps, tokens and figures, and everything that
    arms must share is the same.
    """
    found: dict[tuple[str, int], Outcome] = {}
    for outcome in outcomes:
        if (outcome.arm, outcome.seed) in found:
            raise DataError(f"{outcome.name}: there are two outcomes of it; a pair has one of each arm")
        found[outcome.arm, outcome.seed] = outcome
    seeds = tuple(sorted({outcome.seed for outcome in outcomes}))
    for seed in seeds:
        missing = [arm for arm in arms if (arm, seed) not in found]
        if missing:
            raise DataError(f"seed {seed} has no outcome of {', '.join(missing)}; every arm needs every seed")
        first = found[arms[0], seed]
        for arm in arms[1:]:
            _check_alike(first, found[arm, seed])
    return Pairs(tuple(arms), seeds, found)


def _check_alike(one: Outcome, other: Outcome) -> None:
    """Raise DataError for the first thing that the two should share and do not."""
    what = [
        *((name, one.shared.get(name), other.shared.get(name)) for name in {**one.shared, **other.shared}),
        ("number of steps", one.steps, other.steps),
        ("number of tokens", one.tokens, other.tokens),
        ("names of figures", sorted(one.figures), sorted(other.figures)),
    ]
    for name, here, there in what:
        if here != there:
            raise DataError(
                f"{one.arm} and {other.arm}, seed {one.seed}, do not have the same {name}: {here} and {there}; "
                f"they cannot be compared as a pair"
            )
