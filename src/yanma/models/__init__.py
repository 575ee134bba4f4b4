"""Hugging Face models without padding."""

from .api import is_unpadded, restore, unpad
from .collator import PackedCollator
from .explain import explain
from .scored import scored_loss
from .scoring import Scored

__all__ = ["PackedCollator", "Scored", "explain", "is_unpadded", "restore", "scored_loss", "unpad"]
