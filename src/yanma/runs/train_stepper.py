"""One move of the weights: gradients summed over packs and ranks, divided once, clipped, applied."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from ..data.collate import flat_labels
from ..data.examples import Example
from ..data.steps import Step, share
from ..errors import ConfigError
from .ready import Ready


class NoNumberError(ConfigError):
    """A loss, a gradient or a weight became infinite or NaN."""


REMEDY = "a lower learning_rate or more warmup may help"


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
    """Moves a model's weights; every rank calls `move` with the same steps."""

    def __init__(
        self,
        ready: Ready,
        examples: Sequence[Example],
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
    ) -> None:
        self._ready, self._examples, self._accelerator = ready, examples, accelerator
        self._model, self._optimizer = accelerator.prepare(ready.model, optimizer)
        self._lengths = [len(example.input_ids) for example in examples]

    def move(self, step: Step, *, learning_rate: float, seed: int) -> Moved:
        """Move once on the examples of `step`; `seed` is dropout's.

        Raises ConfigError, and moves nothing, where loss or gradient is no number.
        """
        begin = time.perf_counter()
        self._model.train()
        loss = self._gradient(step, seed)
        parameters = [p for p in self._model.parameters() if p.requires_grad]
        norm = self._accelerator.clip_grad_norm_(parameters, self._ready.config.optim.clip_norm)
        refuse_nonsense(float(loss), float(norm))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        lengths = tuple(self._lengths[index] for index in step)
        slots = self._ready.masking.slots(lengths)
        return Moved(loss.item(), float(norm), lengths, slots, time.perf_counter() - begin)

    def _gradient(self, step: Step, seed: int) -> Tensor:
        """Leave the step's gradient in the parameters; returns its loss, (), the same on every rank.

        Both are a sum over all items that are scored, divided once by their number: how the step is cut into packs and
        ranks cancels out. A rank without examples computes one of the others' with weight 0, since every rank must
        take part when gradients are summed.
        """
        ranks = self._accelerator.num_processes
        mine = share(step, self._lengths, rank=self._accelerator.process_index, num_ranks=ranks)
        weight = 1 / max(1, sum(self._ready.task.num_scored(self._examples[index]) for index in step))
        if not mine:
            mine, weight = step[:1], 0.0
        groups = self._ready.masking.groups([self._lengths[index] for index in mine])
        total = torch.zeros((), device=self._accelerator.device)
        for group in groups:
            pack = [self._examples[mine[index]] for index in group]
            with nullcontext() if group is groups[-1] else self._accelerator.no_sync(self._model):
                logits = self._ready.logits(pack, seed=seed, model=self._model)
                loss = self._ready.task.loss(logits, flat_labels(pack).to(logits.device)) * weight
                self._accelerator.backward(
                    loss * ranks
                )  # gradients are averaged over the ranks, and must be summed
            total += loss.detach()
        loss_of_all: Tensor = self._accelerator.reduce(total, reduction="sum")
        return loss_of_all


def refuse_nonsense(loss: float, gradient_norm: float) -> None:
    """Raise NoNumberError where a loss or a gradient is no number."""
    if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
        raise NoNumberError(f"the loss became {loss}, the length of its gradient {gradient_norm}; {REMEDY}")
