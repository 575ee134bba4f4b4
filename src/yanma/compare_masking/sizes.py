"""How long a run is and of what, which all arms have alike."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import cast

import torch

from ..data.order import Shuffled
from ..errors import ConfigError
from ..runs.pretrain_setup import set_up
from .arms import ARMS, BASELINE
from .config import ComparisonConfig
from .prepare import Shared
from .run import pretrain_config


@dataclass(frozen=True)
class Sizes:
    """How much text there is, and how long a run is."""

    train_texts: int
    train_tokens: int
    validation_tokens: int
    vocabulary: int
    parameters: int
    steps: int
    epochs: int
    """That are begun."""


def measured(config: ComparisonConfig, shared: Shared) -> Sizes:
    """How long a run is, and of what: all arms have that alike, so it is seen in one that is set up and not begun."""
    one = pretrain_config(config, shared, ARMS[BASELINE], 0, shared.folder)
    setup = set_up(one, torch.device("cpu"), lambda said: None)
    train, order = setup.about["data"]["train"], cast(Shuffled, setup.order)
    return Sizes(
        shared.train.read_bytes().count(b"\n"),
        train["tokens"],
        setup.about["data"]["validation"]["tokens"],
        setup.about["vocabulary"],
        sum(weight.numel() for weight in setup.model.parameters()),
        setup.num_steps,
        config.budget.epochs or next(n for n in count(1) if order.count(n) >= setup.num_steps),
    )


def check_copies(config: ComparisonConfig, sizes: Sizes) -> None:
    """Raise ConfigError for an arm whose masks would not come twice: it would be dynamic under another name."""
    for name in config.arms:
        copies = ARMS[name].copies
        if copies is not None and copies >= sizes.epochs:
            raise ConfigError(
                f"arm {name} has {counted(copies, 'copy', 'copies')} of each text and a run has "
                f"{counted(sizes.epochs, 'epoch', 'epochs')}: no mask would come "
                f"twice, as in dynamic. Give more `epochs` (or `steps`), or leave it out of `arms`"
            )


def counted(number: int, one: str, more: str) -> str:
    """A number with its noun.

    >>> counted(1, "copy", "copies"), counted(1000, "copy", "copies")
    ('1 copy', '1,000 copies')
    """
    return f"{number:,} {one if number == 1 else more}"
