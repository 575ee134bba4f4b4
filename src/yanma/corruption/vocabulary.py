"""What a corruption must know of a tokenizer: the mask, what is special, and what a random token may be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# V tokens in the vocabulary, O of them ordinary


@dataclass(frozen=True)
class Vocabulary:
    """Token ids 0 to size - 1.

    >>> vocabulary = Vocabulary(size=6, special_ids=(0, 2, 5), mask_id=5)
    >>> vocabulary.ordinary.tolist()
    [1, 3, 4]
    """

    size: int
    special_ids: tuple[int, ...] = ()
    """Never hidden, and never drawn as a random token."""
    mask_id: int | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; a vocabulary has one token or more")
        special = (*self.special_ids, *(() if self.mask_id is None else (self.mask_id,)))
        for token in special:
            if not 0 <= token < self.size:
                raise ValueError(f"special token {token} is not in a vocabulary of {self.size}")

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
        """That of a Hugging Face tokenizer; special are its special tokens (also [UNK]) and ids without a token."""
        ids = set(tokenizer.get_vocab().values())
        size = max(max(ids) + 1, len(tokenizer))
        special = set(tokenizer.all_special_ids) | (set(range(size)) - ids)
        return cls(size, tuple(sorted(special)), tokenizer.mask_token_id)

    @cached_property
    def is_special(self) -> Tensor:
        """(V,) bool; the mask is special too."""
        special = torch.zeros(self.size, dtype=torch.bool)
        special[list(self.special_ids)] = True
        if self.mask_id is not None:
            special[self.mask_id] = True
        return special

    @cached_property
    def ordinary(self) -> Tensor:
        """(O,) int64: the ids that are not special."""
        return (~self.is_special).nonzero().flatten()

    def hideable(self, ids: Tensor) -> Tensor:
        """(T,) bool: which of the tokens may be hidden.

        Raises ValueError for an id that is not in the vocabulary.
        """
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < self.size:
            wrong = int(ids.max()) if int(ids.max()) >= self.size else int(ids.min())
            raise ValueError(f"ids has the token {wrong}; the vocabulary has 0 to {self.size - 1}")
        return ~self.is_special.to(ids.device)[ids]
