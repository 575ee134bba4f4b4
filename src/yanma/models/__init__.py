"""Hugging Face models without padding."""

from .api import is_unpadded, restore, unpad
from .by_document import by_document
from .collator import PackedCollator
from .explain import explain
from .scored import scored_loss
from .scoring import Scored

__all__ = [
    "PackedCollator",
    "Scored",
    "by_document",
    "explain",
    "is_unpadded",
    "restore",
    "scored_loss",
    "unpad",
]
