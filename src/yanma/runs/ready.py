"""What training, evaluation and prediction need: task, tokenizer, model and masking that belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.examples import Example
from ..objectives import Prediction, Task
from .masking import Masking
from .train_config import Config


@dataclass(frozen=True)
class Ready:
    """Ready to compute."""

    config: Config
    """With `max_length` set."""
    task: Task
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    masking: Masking

    def logits(self, examples: Sequence[Example], *, seed: int = 0, model: nn.Module | None = None) -> Tensor:
        """(T, C) or (N, C) float32 of one group of examples.

        `seed` is dropout's; `model` is the model where something (DDP) is wrapped round it.
        """
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.optim.bf16):
            return self.masking.logits(model or self.model, examples, seed=seed, device=device).float()

    def groups(self, examples: Sequence[Example]) -> tuple[tuple[int, ...], ...]:
        """Indices of the examples that are computed together."""
        return self.masking.groups([len(example.input_ids) for example in examples])

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """A prediction for each example, in their order."""
        predictions: dict[int, Prediction] = {}
        self.model.eval()
        with torch.inference_mode():
            for group in self.groups(examples):
                some = [examples[index] for index in group]
                predictions |= zip(group, self.task.decode(self.logits(some), some), strict=True)
        return [predictions[index] for index in range(len(examples))]


@dataclass(frozen=True)
class Data:
    """The examples of a run."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    """Empty where the config names none."""

    def parts(self) -> Iterator[tuple[str, tuple[Example, ...]]]:
        """Name and examples of each part."""
        yield from (("train", self.train), ("validation", self.validation), ("test", self.test))
