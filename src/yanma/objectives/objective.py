"""What every objective gives the loop: what is scored, and sums of losses that no cut into packs or ranks changes.

The loss of a step is the sum over terms of weight * sum / count, both over all packs and ranks. So counts must be known
before the first pack is computed: `prepare` makes the examples of a whole share, `terms` computes one pack of them.

A loss over all examples of a step at once (as where each text is told from all others) is no sum over packs. It has two
phases: `outputs` of every pack, one `step_loss` of all of them, whose gradient then goes back pack by pack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..corruption import RunningLoss
from ..data.examples import Example
from ..models.scoring import Scored
from .batching import Batching

# T tokens of a pack, N examples, C classes, D width, K of T scored

Pack = Sequence[Example]
"""Examples that are computed together."""


@dataclass(frozen=True)
class Compute:
    """How packs are computed: by which model, packed or padded, and under which dropout."""

    model: nn.Module
    batching: Batching
    seed: int = 0
    """Dropout's: the same for all packs of an epoch, as each example has draws of its own."""
    epoch: int = 0

    def logits(self, pack: Pack) -> Tensor:
        """(T, C) of a head that scores tokens, (N, C) of one that scores texts."""
        return self.batching.logits(self.model, pack, seed=self.seed)

    def scored(self, pack: Pack, labels: Tensor) -> Scored:
        """The losses of the tokens whose label (T,) is not IGNORE."""
        return self.batching.scored(self.model, pack, labels, seed=self.seed)

    @property
    def device(self) -> torch.device:
        """The model's."""
        return next(self.model.parameters()).device


@dataclass(frozen=True, eq=False)
class Prepared:
    """A rank's share of one step."""

    examples: tuple[Example, ...]
    counts: tuple[int, ...]
    """Of each term of the loss: how many items it scores."""

    def packs(self, batching: Batching) -> Iterator[tuple[Example, ...]]:
        """All examples, those of one objective at a time, as many at once as the memory allows."""
        for name in dict.fromkeys(example.objective for example in self.examples):
            own = [example for example in self.examples if example.objective == name]
            for group in batching.groups([example.num_tokens for example in own]):
                yield tuple(own[index] for index in group)


@dataclass(frozen=True, eq=False)
class Terms:
    """What one pack gives."""

    sums: tuple[Tensor, ...]
    """() float32 each, with a gradient."""
    outputs: Tensor | None = None
    """What the objective's `decode` reads."""
    tokens: Tensor | None = None
    """(K,) int64: the true tokens where a vocabulary was scored."""
    losses: Tensor | None = None
    """(K,) float32, without a gradient: the loss of each."""


class Objective(Protocol):
    """What can be learned."""

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the terms of the loss."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the terms."""

    def prepare(
        self, items: Sequence[Any], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        """Make examples of items, by (seed, epoch, key) and `progress`, the share of training that is done."""

    def terms(self, compute: Compute, pack: Pack) -> Terms:
        """Compute one pack."""


@runtime_checkable
class TwoPhase(Protocol):
    """An objective whose loss is one of all examples of a step."""

    def outputs(self, compute: Compute, pack: Pack) -> Tensor:
        """(N, D): a row an example, of which the loss is made."""

    def step_loss(self, outputs: Tensor, examples: Sequence[Example]) -> Tensor:
        """() float32: the loss of a step, of the rows (N, D) of all its examples on all ranks, in order of their keys.

        It is a sum; the step divides it by what `prepare` counts. Every rank makes it.
        """


@contextmanager
def evaluating(model: nn.Module) -> Iterator[torch.device]:
    """Without dropout and gradients; the model's device. Afterwards each module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield next(model.parameters()).device
    finally:
        for module, mode in modes:
            module.training = mode
