"""Hugging Face models without padding."""

from .unpad import is_unpadded, restore, unpad

__all__ = ["is_unpadded", "restore", "unpad"]
