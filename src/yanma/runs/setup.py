"""What a run is made of, whatever it learns: what set-up gives the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..corruption import RunningLoss
from ..data.order import Order
from ..errors import ConfigError
from ..loading import pretrained
from ..loading.special_tokens import add_special_tokens
from ..masks import Mask
from ..objectives import Batching, Objective, Packed, Padded
from ..report.tables import Table
from .config import Run, RunConfig, with_max_length

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


def check_model(config: RunConfig, note: Note) -> None:
    """Refuse a model that cannot be loaded, before anything is read."""
    name = config.model.path
    if name is None:
        return
    if pretrained.is_elsewhere(name):
        note(f"{name}: no such folder here; the hub is asked for it")
    pretrained.check_place(name)


def tokenizer_of(
    config: RunConfig, begun: Path | None, learn: Callable[[], PreTrainedTokenizerBase]
) -> PreTrainedTokenizerBase:
    """That of a run that goes on (`begun` is its folder), the model's, the one that is given, or what `learn` makes."""
    given = begun or config.model.path or config.model.tokenizer
    tokenizer = learn() if given is None else pretrained.load_tokenizer(str(given))
    if config.model.add_special_tokens and begun is None:  # what the run saved has them
        add_special_tokens(tokenizer)
    return tokenizer


def with_length(
    config: Run,
    max_length: int,
    limit: int | None,
    budgets: Sequence[str] = ("max_batch_tokens",),
    *,
    what: str = "text",
) -> Run:
    """The config with its `max_length` resolved.

    Raises ConfigError where the model reads less (`limit`; None where it does not say), or a budget is less than it.
    """
    if limit is not None and max_length > limit:
        raise ConfigError(f"`max_length`: the model reads at most {limit} tokens; got {max_length}")
    for key in budgets:
        budget = getattr(config.optim, key)
        if max_length > budget:
            raise ConfigError(
                f"`{key}`: {budget} is less than one {what} of {max_length} tokens (`max_length`)"
            )
    return with_max_length(config, max_length)


def batching_of(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    *,
    asks_end: bool,
    mask: Mask | None = None,
) -> Batching:
    """As the config says. `asks_end`: by its padding token the model's head finds where a text ends."""
    budget = config.optim.max_batch_tokens
    if config.batching == "packed":
        return Packed(budget, mask)
    padding = _pad_token(tokenizer, model, asks_end=asks_end)
    return Padded(budget, cast(int, config.model.max_length), padding)


def some(names: tuple[str, ...]) -> str:
    """The first few of them."""
    shown = ", ".join(names[:4]) or "none"
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"


def _pad_token(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, *, asks_end: bool) -> int:
    """The id that rows are padded with; with `asks_end`, by the model's own the head finds where a text ends.

    Raises ConfigError where there is none, or the model takes it for a word.
    """
    own, padding = model.config.pad_token_id, cast(int | None, tokenizer.pad_token_id)
    if padding is None:
        raise ConfigError(
            "`batching`: padded needs a padding token, and this tokenizer has none; packed needs none, or "
            "give it one, in a copy of the model: tokenizer.pad_token = tokenizer.eos_token is usual"
        )
    # Decoders that score a text look for the last token of its row that is no padding.
    if own != padding and asks_end and hasattr(model, "score"):
        raise ConfigError(
            f"`batching`: padded: the tokenizer pads with id {padding}, and the model's config has "
            f"pad_token_id {own}, by which it finds where a text ends; make them one, or take packed"
        )
    return padding
