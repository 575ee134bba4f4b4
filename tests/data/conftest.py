"""Fixtures of all tests of data."""

from data.samples import pieces, tokenizer

__all__ = ["pieces", "tokenizer"]
