"""Dynamic masking for Transformers: masks that follow the data, no padding computed, exactness anyone can audit."""

from .attention import attention
from .audit import audit
from .batch import PackedBatch
from .errors import ConfigError, DataError, Unsupported, YanmaError
from .models import PackedCollator, explain, restore, unpad

__all__ = [
    "ConfigError",
    "DataError",
    "PackedBatch",
    "PackedCollator",
    "Unsupported",
    "YanmaError",
    "attention",
    "audit",
    "explain",
    "restore",
    "unpad",
]
