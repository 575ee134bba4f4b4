"""Draws of code that knows torch's own generator only (fresh weights, stock dropout), apart from the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, torch draws on the CPU as after `torch.manual_seed(seed)`; afterwards it goes on as before.

    Generators of other devices are left alone, which `torch.manual_seed` would seed too.

    >>> state = torch.get_rng_state()
    >>> with seeded(3):
    ...     drawn = torch.rand(2)
    >>> torch.equal(torch.get_rng_state(), state)
    True
    >>> torch.equal(drawn, torch.rand(2, generator=torch.Generator().manual_seed(3)))
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
