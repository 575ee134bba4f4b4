"""What a run is made of, whatever it learns: what set-up gives the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..corruption import RunningLoss
from ..data.order import Order
from ..objectives import Batching, Objective
from ..report.tables import Table
from .config import RunConfig

Note = Callable[[str], None]
"""Takes a line that the user should read."""


class Validation(Protocol):
    """How well a model does on what was held back, at one moment of a run."""

    @property
    def loss(self) -> float:
        """Mean over everything that is scored."""

    @property
    def rank(self) -> float | None:
        """The higher, the better; None where no figure says which of two models is better: the later one is kept."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""

    def points(self) -> dict[str, float]:
        """Of curves, by name."""

    def describe(self) -> str:
        """Part of a line."""

    def table(self, title: str) -> Table | None:
        """More of it, to look at."""


class Judge(Protocol):
    """Measures a run's model."""

    def validate(self, accelerator: Accelerator) -> Validation:
        """Now, on what was held back; the same on every rank."""

    def finish(self, model: Path, accelerator: Accelerator, note: Note) -> dict[str, Any]:
        """Figures after the last step, by name; `model` is the folder of the best one."""


@dataclass(frozen=True)
class Setup:
    """Ready to train."""

    config: RunConfig
    """With `max_length` set."""
    objective: Objective
    batching: Batching
    tokenizer: PreTrainedTokenizerBase
    model: nn.Module
    """All that is trained, on its device."""
    saved: PreTrainedModel
    """What model/ holds: itself, or of ELECTRA the discriminator."""
    order: Order
    num_steps: int
    judge: Judge
    about: dict[str, Any]
    """What metrics.json says from the start."""
    fingerprint: Mapping[str, str]
    """Of the texts of train and of validation; a run that goes on must find them as they were."""
    within: Mapping[str, PreTrainedModel] = field(default_factory=dict)
    """What stands in model/ beside it."""
    losses: RunningLoss | None = None
    """What is known of tokens' losses before the first step; None where nobody asks."""
    card: str | None = None
    """README.md of the model's folder."""


def some(names: tuple[str, ...]) -> str:
    """The first few of them."""
    shown = ", ".join(names[:4]) or "none"
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
