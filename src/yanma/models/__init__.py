"""Hugging Face models without padding."""

from .explain import explain
from .unpad import is_unpadded, restore, unpad

__all__ = ["explain", "is_unpadded", "restore", "unpad"]
