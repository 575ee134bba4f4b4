"""Tokens that are hard to predict are hidden more often: a running mean of the loss of each token of the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .choice import WEIGHT_ONE

# V tokens in the vocabulary, K scored tokens

_WIDEST = 16.0
"""The hardest token is at most so many times as likely to be hidden as the easiest."""


@dataclass(frozen=True, eq=False)
class RunningLoss:
    """The mean loss of each token so far, older losses counting less. It is a value: `updated` gives another.

    Time-variant masking by what is hard (after Yang, Zhang and Zhao 2023, who weigh parts of speech). What is drawn is
    a function of (seed, epoch, example) and of these numbers, and no longer of the first three alone: keep them with a
    checkpoint, and where ranks share the texts of a step, give all ranks the losses of all.

    >>> losses = RunningLoss.start(4).updated(torch.tensor([2, 2, 3]), torch.tensor([6.0, 2.0, 1.0]))
    >>> losses.values.tolist()
    [0.0, 0.0, 4.0, 1.0]
    """

    values: Tensor
    """(V,) float64."""
    seen: Tensor
    """(V,) bool: which tokens have been scored; the others count as average."""
    decay: float = 0.9
    """How much of the value stays when new losses come."""

    @classmethod
    def start(cls, size: int, decay: float = 0.9) -> RunningLoss:
        """Nothing is known of any of the `size` tokens."""
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; it must be at least 0 and less than 1")
        return cls(torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.bool), decay)

    def updated(self, tokens: Tensor, losses: Tensor) -> RunningLoss:
        """With the (K,) losses of one step; `tokens` (K,) are the true tokens, the labels that were scored."""
        tokens, losses = tokens.flatten().cpu(), losses.detach().flatten().double().cpu()
        if tokens.shape != losses.shape:
            raise ValueError(f"{len(tokens)} tokens and {len(losses)} losses; give one loss a token")
        count = torch.bincount(tokens, minlength=len(self.values))
        mean = torch.bincount(tokens, losses, minlength=len(self.values)) / count.clamp(min=1)
        mixed = torch.where(self.seen, self.decay * self.values + (1 - self.decay) * mean, mean)
        return RunningLoss(torch.where(count > 0, mixed, self.values), self.seen | (count > 0), self.decay)

    @property
    def weights(self) -> Tensor:
        """(V,) int64: how likely each token is hidden, in parts of WEIGHT_ONE, the least; all alike at first."""
        if not bool(self.seen.any()):
            return torch.full(self.values.shape, WEIGHT_ONE, dtype=torch.int64)
        mean = self.values[self.seen].mean()
        relative = torch.where(self.seen, self.values / mean.clamp(min=1e-12), 1.0)
        weights: Tensor = (relative * _WIDEST**0.5).clamp(1, _WIDEST)
        return weights.mul(WEIGHT_ONE).round().long()
