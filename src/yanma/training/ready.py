"""What training, evaluation and prediction all need: a task, a tokenizer, a model and a masking that belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ConfigError, DataError
from ..tasks.examples import Encoded, Example
from ..tasks.task import Prediction, Task
from . import scratch
from .config import Config
from .folder import RunFolder
from .freeze import freeze
from .masking import Dynamic, Masking, Static
from .pretrained import (
    Loaded,
    check_place,
    check_vocabulary,
    fresh_model,
    load_model,
    load_tokenizer,
    longest_text,
)


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
        """(T, C) or (N, C) float32 of one group of examples; `model` is the model where something is wrapped round it."""
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.optim.bf16):
            return self.masking.logits(model or self.model, examples, seed=seed, device=device).float()
