"""Blocks of tokens end to end, as corruption takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import Block

# T tokens of N blocks


@dataclass(frozen=True, eq=False)
class Texts:
    """N blocks of text, on the host."""

    ids: Tensor
    """(T,) int64."""
    lengths: tuple[int, ...]
    words: Tensor | None
    """(T,) int64: the word of each token; None where the objective does not ask."""
    numbers: tuple[int, ...]
    """By which corruption and dropout know each block."""

    @classmethod
    def of(cls, blocks: Sequence[Block]) -> Texts:
        """End to end."""
        words = [block.words for block in blocks if block.words is not None]
        return cls(
            torch.cat([torch.zeros(0, dtype=torch.int64), *(block.ids for block in blocks)]),
            tuple(len(block.ids) for block in blocks),
            torch.cat(words).long() if words else None,
            tuple(block.number for block in blocks),
        )
