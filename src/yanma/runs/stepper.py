"""One move of the weights: gradients summed over packs and ranks, divided by what the whole step scores, applied."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from ..corruption import RunningLoss
from ..data.order import Step
from ..data.steps import dropout_seed, share
from ..objectives.language import Objective, Prepared, Terms
from .train_stepper import Moved, refuse_nonsense


@dataclass(frozen=True)
class Place:
    """Where in a run a step is."""

    epoch: int
    """From 0."""
    progress: float
    """Share of all steps that is done: 0 in the first, 1 in the last."""


class Stepper:
    """Moves a model's weights; every rank calls `move` with the same steps.

    Gradients are summed over the ranks after a step's last pack. No wrapper is put round the model: a rank without
    blocks adds zeros.
    """

    def __init__(
        self,
        objective: Objective,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        *,
        seed: int,
        max_batch_tokens: int,
        clip_norm: float,
        bf16: bool,
        losses: RunningLoss | None = None,
    ) -> None:
        """`losses`, if given, make hard tokens likelier to be hidden, and are updated by every step."""
        self.losses = losses
        self._objective, self._model, self._optimizer = objective, model, optimizer
        self._accelerator, self._seed = accelerator, seed
        self._max_batch_tokens, self._clip_norm, self._bf16 = max_batch_tokens, clip_norm, bf16
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def move(self, step: Step, place: Place, *, learning_rate: float) -> Moved:
        """Move once. Raises ConfigError, and moves nothing, where loss or gradient is no number."""
        begin = time.perf_counter()
        lengths = tuple(len(block.ids) for block in step)
        self._model.train()
        loss = self.gradient(step, place)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        refuse_nonsense(float(loss), float(norm))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        return Moved(float(loss), float(norm), lengths, sum(lengths), time.perf_counter() - begin)

    def gradient(self, step: Step, place: Place) -> Tensor:
        """Leave the step's gradient in the parameters; returns its loss, () float64, the same on every rank."""
        prepared = self._prepared(step, place)
        counts = self._summed(torch.tensor(prepared.counts, dtype=torch.float64)).tolist()
        weights = [w / max(1, count) for w, count in zip(self._objective.weights, counts, strict=True)]
        total = torch.zeros((), dtype=torch.float64)
        scored: list[Terms] = []
        for pack in prepared.packs(self._max_batch_tokens):
            with torch.autocast(self._accelerator.device.type, torch.bfloat16, enabled=self._bf16):
                terms = self._objective.terms(
                    pack, epoch=place.epoch, dropout_seed=dropout_seed(self._seed, place.epoch)
                )
            loss = sum(w * term for w, term in zip(weights, terms.sums, strict=True))
            assert isinstance(loss, Tensor)  # there is a term
            loss.backward()
            total += loss.detach().double().cpu()
            if self.losses is not None:
                scored.append(terms)
        self._sum_gradients()
        if self.losses is not None:
            self.losses = self._updated(self.losses, scored)
        return self._summed(total)

    def _prepared(self, step: Step, place: Place) -> Prepared:
        """This rank's share."""
        mine = share(
            tuple(range(len(step))),
            [len(block.ids) for block in step],
            rank=self._accelerator.process_index,
            num_ranks=self._accelerator.num_processes,
        )
        if not mine:
            return Prepared((), (), (0,) * len(self._objective.weights))
        blocks = [step[index] for index in mine]
        return self._objective.prepare(blocks, epoch=place.epoch, progress=place.progress, losses=self.losses)

    def _summed(self, numbers: Tensor) -> Tensor:
        """Over all ranks."""
        if self._accelerator.num_processes > 1:
            numbers = numbers.to(self._accelerator.device)
            torch.distributed.all_reduce(numbers)
        return numbers.cpu()

    def _sum_gradients(self) -> None:
        for parameter in self._parameters:
            if parameter.grad is None:  # no pack here, or nothing of it that reaches this weight
                parameter.grad = torch.zeros_like(parameter)
            if self._accelerator.num_processes > 1:
                torch.distributed.all_reduce(parameter.grad)

    def _updated(self, losses: RunningLoss, scored: Sequence[Terms]) -> RunningLoss:
        """With what all ranks found, in the ranks' order, so that all hide the same tokens afterwards."""
        mine = [(terms.tokens.cpu(), terms.losses.float().cpu()) for terms in scored]
        found = gather_object(mine)
        if not found:
            return losses
        return losses.updated(torch.cat([t for t, _ in found]), torch.cat([x for _, x in found]))
