"""One move of the weights: gradients summed over packs and ranks, divided by what the whole step scores, applied."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from ..corruption import RunningLoss
from ..data.examples import Example
from ..data.order import Step, share
from ..errors import ConfigError
from ..objectives import Batching, Compute, Objective, Prepared, Task, Terms, TwoPhase

# N examples of a step, D width of what a two-phase objective makes of each

REMEDY = "a lower learning_rate or more warmup may help"


class NoNumberError(ConfigError):
    """A loss, a gradient or a weight became infinite or NaN."""


@dataclass(frozen=True)
class Place:
    """Where in a run a step is."""

    epoch: int
    """From 0."""
    progress: float
    """Share of all steps that is done: 0 in the first, 1 in the last."""


@dataclass(frozen=True)
class Moved:
    """What one step did."""

    loss: float
    """Mean over everything that the step scores, on all ranks."""
    gradient_norm: float
    """Length of the gradient before it was clipped."""
    lengths: tuple[int, ...]
    """Tokens of each example."""
    slots: int
    """Places computed, tokens and padding."""
    seconds: float


class Stepper:
    """Moves a model's weights; every rank calls `move` with the same steps.

    Gradients are summed over the ranks after a step's last pack. No wrapper is put round the model: a rank without
    items adds zeros.
    """

    def __init__(
        self,
        objective: Objective,
        model: nn.Module,
        batching: Batching,
        accelerator: Accelerator,
        *,
        seed: int,
        bf16: bool,
        losses: RunningLoss | None = None,
    ) -> None:
        """`losses`, if given, make hard tokens likelier to be hidden, and are updated by every step."""
        if isinstance(objective, TwoPhase) and len(objective.weights) != 1:
            raise ValueError(
                f"{type(objective).__name__} makes one loss of a step, and has {len(objective.weights)} weights"
            )
        self.losses = losses
        self._objective, self._model, self._batching = objective, model, batching
        self._accelerator, self._seed, self._bf16 = accelerator, seed, bf16
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def move(
        self,
        step: Step,
        place: Place,
        *,
        optimizer: torch.optim.Optimizer,
        learning_rate: float,
        clip_norm: float,
    ) -> Moved:
        """Move once. Raises ConfigError, and moves nothing, where loss or gradient is no number."""
        begin = time.perf_counter()
        lengths = tuple(item.num_tokens for item in step)
        self._model.train()
        loss = float(self.gradient(step, place))
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, clip_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NoNumberError(f"the loss became {loss}, the length of its gradient {norm}; {REMEDY}")
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad()
        return Moved(loss, norm, lengths, self._batching.slots(lengths), time.perf_counter() - begin)

    def gradient(self, step: Step, place: Place) -> Tensor:
        """Leave the step's gradient in the parameters; returns its loss, () float64, the same on every rank."""
        prepared = self._prepared(step, place)
        counts = self._summed(torch.tensor(prepared.counts, dtype=torch.float64)).tolist()
        weights = [w / max(1, count) for w, count in zip(self._objective.weights, counts, strict=True)]
        # Fine-tuning has always counted epochs from 1 here: the draws of a seed stay what they were.
        dropout = dropout_seed(self._seed, place.epoch + isinstance(self._objective, Task))
        compute = Compute(self._model, self._batching, dropout, place.epoch)
        if isinstance(self._objective, TwoPhase):
            total = self._two_phases(self._objective, compute, prepared, weights[0])
        else:
            total = self._summed(self._pack_by_pack(compute, prepared, weights))
        self._sum_gradients()
        return total

    def _pack_by_pack(self, compute: Compute, prepared: Prepared, weights: Sequence[float]) -> Tensor:
        """Backward of every pack of this rank; their loss, () float64."""
        total = torch.zeros((), dtype=torch.float64)
        scored: list[Terms] = []
        for pack in prepared.packs(self._batching):
            with self._autocast():
                terms = self._objective.terms(compute, pack)
            loss = torch.stack([w * term for w, term in zip(weights, terms.sums, strict=True)]).sum()
            loss.backward()
            total += loss.detach().double().cpu()
            scored.append(terms)
        if self.losses is not None:
            self.losses = self._updated(self.losses, scored)
        return total

    def _two_phases(self, objective: TwoPhase, compute: Compute, prepared: Prepared, weight: float) -> Tensor:
        """The loss of all examples at once, then its gradient pack by pack: dropout, keyed, is the same both times."""
        packs = list(prepared.packs(self._batching))
        rows: dict[int, Tensor] = {}
        with torch.no_grad(), self._autocast():
            for pack in packs:
                rows |= zip((e.key for e in pack), objective.outputs(compute, pack).float(), strict=True)
        examples, outputs = self._all_ranks(prepared.examples, rows)
        leaf = outputs.to(compute.device).requires_grad_()
        loss = objective.step_loss(leaf, examples) * weight
        loss.backward()
        if not self._accelerator.is_main_process:
            self._model.zero_grad()  # all ranks made this loss: what it learns itself counts once
        assert leaf.grad is not None  # the loss is of the outputs
        gradients = dict(zip((e.key for e in examples), leaf.grad, strict=True))
        for pack in packs:
            with self._autocast():
                again = objective.outputs(compute, pack).float()
            again.backward(torch.stack([gradients[e.key] for e in pack]))
        return loss.detach().double().cpu()

    def _all_ranks(self, mine: Sequence[Example], rows: dict[int, Tensor]) -> tuple[list[Example], Tensor]:
        """The examples of all ranks by their keys, and (N, D) the rows made of them."""
        own = (
            torch.stack([rows[example.key] for example in mine]).cpu() if mine else None
        )  # not so many views
        parts: list[Any] = gather_object([(tuple(mine), own)])
        examples = [example for some, _ in parts for example in some]
        order = sorted(range(len(examples)), key=lambda place: examples[place].key)
        keys = [examples[place].key for place in order]
        if len(set(keys)) < len(keys):
            raise ValueError(f"each of the examples of a step needs a key of its own; the keys are {keys}")
        return [examples[place] for place in order], torch.cat([own for _, own in parts if own is not None])[
            order
        ]

    def _prepared(self, step: Step, place: Place) -> Prepared:
        """This rank's share."""
        accelerator = self._accelerator
        mine = share(step, rank=accelerator.process_index, num_ranks=accelerator.num_processes)
        if not mine:
            return Prepared((), (0,) * len(self._objective.weights))
        return self._objective.prepare(mine, epoch=place.epoch, progress=place.progress, losses=self.losses)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._accelerator.device.type, torch.bfloat16, enabled=self._bf16)

    def _summed(self, numbers: Tensor) -> Tensor:
        """Over all ranks."""
        if self._accelerator.num_processes > 1:
            numbers = numbers.to(self._accelerator.device)
            torch.distributed.all_reduce(numbers)
        return numbers.cpu()

    def _sum_gradients(self) -> None:
        """Over all ranks. What has no gradient on any rank is left without one, as in a process alone."""
        if self._accelerator.num_processes == 1:
            return
        has = torch.tensor([float(p.grad is not None) for p in self._parameters])
        for parameter, ranks in zip(self._parameters, self._summed(has).tolist(), strict=True):
            if ranks:
                if parameter.grad is None:  # no pack here, or nothing of it that reaches this weight
                    parameter.grad = torch.zeros_like(parameter)
                torch.distributed.all_reduce(parameter.grad)

    def _updated(self, losses: RunningLoss, scored: Sequence[Terms]) -> RunningLoss:
        """With what all ranks found, in the ranks' order, so that all hide the same tokens afterwards."""
        mine = [
            (terms.tokens.cpu(), terms.losses.float().cpu())
            for terms in scored
            if terms.tokens is not None and terms.losses is not None
        ]
        found = gather_object(mine)
        if not found:
            return losses
        return losses.updated(torch.cat([t for t, _ in found]), torch.cat([x for _, x in found]))


def dropout_seed(seed: int, epoch: int) -> int:
    """63 bits that follow from the run's seed and the epoch: with the example's key they make its dropout."""
    return int.from_bytes(blake2b(f"dropout/{seed}/{epoch}".encode(), digest_size=8).digest()) >> 1
