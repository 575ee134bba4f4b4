"""Random numbers of a corruption: pure functions of (seed, epoch, example, what is drawn, place).

64-bit keys, integers throughout: the same on any device, in any batch and after any restart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..keyed import Site, derived, document_keys, numbers

# N examples; shapes of places and keys broadcast


def example_keys(seed: int, epoch: int, examples: Sequence[int] | Tensor, device: torch.device) -> Tensor:
    """(N,) int64: one key an example.

    >>> cpu = torch.device("cpu")
    >>> bool(example_keys(0, 5, [3, 8], cpu)[1] == example_keys(0, 5, [8], cpu)[0])
    True
    """
    keys = document_keys(seed, torch.as_tensor(examples, dtype=torch.int64).cpu()).to(device)
    return derived(derived(keys, Site.CORRUPTION), epoch)


def drawn(keys: Tensor, what: Site, places: Tensor | None = None) -> Tensor:
    """int64, every value equally likely: one number a key and place, or one a key. Each `what` has its own."""
    own = derived(keys, what)
    return own if places is None else numbers(own, places)


def top(number: Tensor, bits: int) -> Tensor:
    """The highest `bits` of each number, as a whole number from 0 to 2**bits - 1; at most 63."""
    return (number >> (64 - bits)) & ((1 << bits) - 1)


def share(number: Tensor) -> Tensor:
    """float64 in [0, 1), from the highest 53 bits: exact, so that no device rounds it otherwise."""
    return top(number, 53).double() / 2**53


def below(number: Tensor, count: int | Tensor) -> Tensor:
    """int64 from 0 to count - 1, from the highest 32 bits; count is at most 2**31.

    No value is more likely than another by more than a share of count / 2**32.
    """
    return (top(number, 32) * count) >> 32
