"""How much of an example is hidden: a fixed share, one drawn for each example, or one that decays over training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..keyed import Site
from .draws import drawn, share

# N examples


@dataclass(frozen=True)
class Between:
    """A share drawn evenly for each example anew."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high <= 1:
            raise ValueError(
                f"a rate between {self.low:g} and {self.high:g}: both above 0 and at most 1, the lower one first"
            )


@dataclass(frozen=True)
class Decay:
    """A share that goes from `start` to `end` over training, as `progress` goes from 0 to 1.

    "linear" and "cosine" decay are those of Yang, Zhang and Zhao 2023, "Learning Better Masking for Better Language
    Model Pre-training"; "step" holds each of `num_steps` equally spaced shares equally long.

    >>> [round(Decay(0.3, 0.15).at(progress), 4) for progress in (0, 0.5, 1)]
    [0.3, 0.225, 0.15]
    >>> [Decay(0.3, 0.1, "step", num_steps=2).at(progress) for progress in (0, 0.49, 0.5, 1)]
    [0.3, 0.3, 0.1, 0.1]
    """

    start: float
    end: float
    kind: Literal["linear", "cosine", "step"] = "linear"
    num_steps: int = 4
    """Of "step" alone."""

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if not 0 < value <= 1:
                raise ValueError(f"Decay: {name} is {value}; a rate is more than 0 and at most 1")
        if self.kind not in ("linear", "cosine", "step"):
            raise ValueError(f"Decay: kind is {self.kind!r}; there are 'linear', 'cosine' and 'step'")
        if self.num_steps < 2:
            raise ValueError(f"Decay: num_steps is {self.num_steps}; give 2 or more")

    def at(self, progress: float) -> float:
        """The share when `progress` of the training is done.

        Raises ValueError unless 0 <= progress <= 1.
        """
        if not 0 <= progress <= 1:
            raise ValueError(f"progress is {progress}; it goes from 0, at the start of training, to 1")
        match self.kind:
            case "linear":
                gone = progress
            case "cosine":
                gone = (1 - math.cos(math.pi * progress)) / 2
            case "step":
                gone = min(int(progress * self.num_steps), self.num_steps - 1) / (self.num_steps - 1)
        return self.start * (1 - gone) + self.end * gone


Rate = float | Between | Decay


def check_rate(rate: Rate) -> None:
    """Raise ValueError for a share that is none."""
    if not isinstance(rate, Between | Decay) and not 0 < rate <= 1:
        raise ValueError(f"rate is {rate}; it must be more than 0 and at most 1")


def highest(rate: Rate) -> float:
    """The largest share that there may be."""
    match rate:
        case Between():
            return rate.high
        case Decay():
            return max(rate.start, rate.end)
    return rate


def rates(rate: Rate, keys: Tensor, progress: float | None) -> Tensor:
    """(N,) float64: the share of each example.

    Raises ValueError where a decaying rate is not told the progress.
    """
    match rate:
        case Between():
            return rate.low + share(drawn(keys, Site.RATE)) * (rate.high - rate.low)
        case Decay():
            if progress is None:
                raise ValueError("the rate decays over training: say progress, from 0 to 1")
            rate = rate.at(progress)
    return torch.full(keys.shape, rate, dtype=torch.float64, device=keys.device)
