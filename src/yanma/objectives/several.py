"""Several objectives over one trunk, weighted: one objective whose terms are those of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import nn

from ..corruption import RunningLoss
from ..errors import Unsupported
from .objective import Compute, Objective, Pack, Prepared, Terms, TwoPhase


class Of(NamedTuple):
    """An item, and by its name the objective that it is of."""

    objective: str
    item: Any

    @property
    def key(self) -> int:
        """The item's."""
        return int(self.item.key)

    @property
    def num_tokens(self) -> int:
        """The item's."""
        return int(self.item.num_tokens)


@dataclass(frozen=True)
class Several:
    """Objectives by name, each with its weight; items are `Of`.

    The model is an `nn.ModuleDict` of one model an objective, whose trunks are the same module: unpad each, then let
    them share (`one.bert = other.bert`). A pack is of one
    objective; a step divides each objective's sums by what all its packs score of it, so the share of an objective in
    the gradient does not depend on how many of a step's items are its own.
    """

    objectives: Mapping[str, Objective]
    shares: Mapping[str, float]
    """Weights by name."""

    def __post_init__(self) -> None:
        if set(self.objectives) != set(self.shares) or not self.objectives:
            raise ValueError(
                f"each objective needs its weight: objectives are {', '.join(self.objectives) or 'none'}; "
                f"weights are given for {', '.join(self.shares) or 'none'}"
            )
        for name, share in self.shares.items():
            if not 0 <= share < math.inf:
                raise ValueError(f"the weight of {name} is {share}; it must be a number from 0 on")
        for name, own in self.objectives.items():
            if isinstance(own, TwoPhase):
                raise Unsupported(
                    f"{name} has a loss of all examples of a step at once, which is learned by itself alone: "
                    f"{type(own).__name__} is no sum over packs"
                )

    @property
    def weights(self) -> tuple[float, ...]:
        """See Objective."""
        parts = self.objectives.items()
        return tuple(self.shares[name] * weight for name, own in parts for weight in own.weights)

    @property
    def names(self) -> tuple[str, ...]:
        """See Objective."""
        return tuple(f"{name}: {term}" for name, own in self.objectives.items() for term in own.names)

    def prepare(
        self, items: Sequence[Of], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        """See Objective."""
        for each in items:
            if each.objective not in self.objectives:
                raise ValueError(
                    f"item {each.key} is of {each.objective!r}; the objectives are {', '.join(self.objectives)}"
                )
        examples, counts = [], []
        for name, own in self.objectives.items():
            mine = [each.item for each in items if each.objective == name]
            if not mine:
                counts += [0] * len(own.weights)
                continue
            prepared = own.prepare(mine, epoch=epoch, progress=progress, losses=losses)
            examples += [replace(example, objective=name) for example in prepared.examples]
            counts += prepared.counts
        return Prepared(tuple(examples), tuple(counts))

    def terms(self, compute: Compute, pack: Pack) -> Terms:
        """See Objective."""
        models = compute.model
        assert isinstance(models, nn.ModuleDict)  # as the class says
        name = pack[0].objective
        found = self.objectives[name].terms(replace(compute, model=models[name]), pack)
        zero = found.sums[0].detach() * 0
        sums = [
            term
            for other, own in self.objectives.items()
            for term in (found.sums if other == name else [zero] * len(own.weights))
        ]
        return replace(found, sums=tuple(sums))
