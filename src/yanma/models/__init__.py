"""Hugging Face models without padding."""

from .api import is_unpadded, restore, unpad
from .collator import PackedCollator
from .explain import explain

__all__ = ["PackedCollator", "explain", "is_unpadded", "restore", "unpad"]
