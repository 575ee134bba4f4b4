"""Dynamic masking for Transformers: masks that follow the data, no padding computed, exactness anyone can audit."""

from .attention import attention
from .audit import audit
from .batch import PackedBatch
from .errors import ConfigError, DataError, Unsupported, YanmaError
from .models import PackedCollator, Scored, explain, restore, scored_loss, unpad

__all__ = [
    "ConfigError",
    "DataError",
    "PackedBatch",
    "PackedCollator",
    "Scored",
    "Unsupported",
    "YanmaError",
    "attention",
    "audit",
    "explain",
    "restore",
    "scored_loss",
    "unpad",
]
