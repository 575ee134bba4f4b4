"""Dynamic masking for Transformers: masks that follow the data, no padding computed, exactness anyone can audit."""

import typing

from .batch import PackedBatch
from .errors import ConfigError, DataError, Unsupported, YanmaError
from .models import PackedCollator, Scored, explain, restore, scored_loss, unpad

if typing.TYPE_CHECKING:  # of the first two, that they can be called is what a type checker should know
    from .attention import attention
    from .audit import audit
    from .engine import Engine
    from .runs.pretrain import pretrain
    from .runs.train import train
else:  # packages, which can be called: callable_package.py says why
    from . import attention, audit

__all__ = [
    "ConfigError",
    "DataError",
    "Engine",
    "PackedBatch",
    "PackedCollator",
    "Scored",
    "Unsupported",
    "YanmaError",
    "attention",
    "audit",
    "explain",
    "pretrain",
    "restore",
    "scored_loss",
    "train",
    "unpad",
]

_LATER = {"Engine": "engine", "pretrain": "runs.pretrain", "train": "runs.train"}
"""Where the names stand that need more than torch: imported when they are asked for."""


def __getattr__(name: str) -> typing.Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)
