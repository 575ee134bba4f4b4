"""Examples end to end: which example each token is of, and where it stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# T tokens, N examples


@dataclass(frozen=True, eq=False)
class Layout:
    """N runs of items (tokens, words) end to end; a run may be empty."""

    lengths: Tensor
    """(N,) int64."""

    @classmethod
    def of(cls, lengths: Sequence[int] | Tensor, num_tokens: int, device: torch.device) -> Layout:
        """Checked against the number of tokens.

        Raises ValueError where the lengths are negative or do not add up.
        """
        as_tensor = torch.as_tensor(lengths, dtype=torch.int64)
        if as_tensor.dim() != 1 or bool((as_tensor < 0).any()):
            raise ValueError(f"lengths is {lengths}; give the number of tokens of each example")
        if int(as_tensor.sum()) != num_tokens:
            raise ValueError(f"lengths add up to {int(as_tensor.sum())}, ids has {num_tokens} tokens")
        return cls(as_tensor.to(device))

    @cached_property
    def starts(self) -> Tensor:
        """(N,) int64: where each example begins."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def example(self) -> Tensor:
        """(T,) int64: which example each token is of, from 0."""
        return torch.repeat_interleave(self.lengths)

    @cached_property
    def place(self) -> Tensor:
        """(T,) int64: where each token stands in its example, from 0."""
        total = len(self.example)
        return torch.arange(total, device=self.lengths.device) - self.starts[self.example]

    def summed(self, values: Tensor) -> Tensor:
        """(N,) int64: the sum of (T,) whole numbers over each example."""
        upto = torch.cat([values.new_zeros(1, dtype=torch.int64), values.cumsum(0)])
        return upto[self.starts + self.lengths] - upto[self.starts]

    def before(self, values: Tensor) -> Tensor:
        """(T,) int64: the sum of what stands before each token in its own example."""
        total = values.cumsum(0)
        upto = torch.cat([total.new_zeros(1), total])
        return total - values - upto[self.starts][self.example]
