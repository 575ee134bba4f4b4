"""Fixtures of all tests of objectives."""

from data.samples import pieces, tokenizer

__all__ = ["pieces", "tokenizer"]
