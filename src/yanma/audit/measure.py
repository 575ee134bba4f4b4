"""How two outputs differ: in bits, by how much, and whether that is more than rounding."""

from __future__ import annotations

import torch
from torch import Tensor

# R rows of an output: its tokens, or 1


def rows(output: Tensor, per_token: bool) -> Tensor:
    """The output as (R, everything else)."""
    return output.reshape(len(output) if per_token else 1, -1)


def differing(before: Tensor, after: Tensor) -> Tensor:
    """(R,) bool: which rows differ in any bit.

    >>> differing(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [2.5]])).tolist()
    [False, True]
    """
    return (_bytes(before) != _bytes(after)).any(1)


def _bytes(output: Tensor) -> Tensor:
    # A clone, as contiguous() leaves the odd strides of a single number.
    return output.detach().clone(memory_format=torch.contiguous_format).view(torch.uint8)


def change(before: Tensor, after: Tensor) -> Tensor:
    """(R,) float64: the largest difference of each row; what is not a number counts as infinite."""
    apart = (before.detach().double() - after.detach().double()).abs()
    return apart.nan_to_num(nan=torch.inf, posinf=torch.inf).amax(1)


def rounding(dtype: torch.dtype) -> float:
    """The relative difference that two ways to compute the same may have: half of the digits must agree.

    >>> round(rounding(torch.float32), 6)
    0.000345
    """
    return float(torch.finfo(dtype).eps ** 0.5) if dtype.is_floating_point else 0.0


def tolerance(output: Tensor) -> float:
    """The absolute difference that rounding may make of an output of this size and precision."""
    return rounding(output.dtype) * float(output.detach().double().abs().max())
