"""Texts of which a tokenizer makes no token, as one without special tokens does of an empty text.

There is nothing to compute in a pack for them. A stock model computes slots of padding for them in company, of which
poolings make a vector, of zeros for the most part; so they are computed as it does, with padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .bounds import BOUNDS
from .collator import Example, PackedCollator
from .interface import passed_through


class KeepsTokenless(PackedCollator):
    """A collator whose documents may have no token: they begin where they end."""

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        lengths = [len(example["input_ids"]) for example in examples]
        held = [example for example, length in zip(examples, lengths, strict=True) if length]
        names = ("input_ids", "token_type_ids")
        nothing = {
            name: torch.zeros(1, 0, dtype=torch.long)
            for name in names
            if any(name in example for example in examples)
        }
        bounds = torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32)
        return {**(super().__call__(held) if held else nothing), BOUNDS: bounds}


@contextmanager
def with_padding_for(features: Mapping[str, Any]) -> Iterator[None]:
    """While it is entered, these features are computed as by the stock model, if one of their rows has no token."""
    mask = features.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2 or bool(mask.any(1).all()):
        yield
        return
    with passed_through():
        yield
