"""Which examples move the weights together: a pure function of (seed, epoch), the same for every kind of masking.

A step is one move of the weights. Its examples are shared among the ranks, and each rank computes its share in packs
that fit the memory; neither cut changes the gradient, because the loss is a sum divided once by what the step scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from ..packing import shuffled

Step = tuple[int, ...]
"""Indices of the examples of one step."""


def cut_epoch(
    lengths: Sequence[int], *, seed: int, epoch: int, batch_size: int | None, batch_tokens: int | None
) -> list[Step]:
    """All examples, shuffled, cut after `batch_size` examples, or before they would exceed `batch_tokens` tokens.

    `lengths` are the examples' tokens. An example longer than `batch_tokens` makes a step of its own.

    >>> [len(step) for step in cut_epoch([3, 9, 2, 2], seed=0, epoch=0, batch_size=3, batch_tokens=None)]
    [3, 1]
    """
    steps: list[list[int]] = [[]]
    tokens = 0
    for index in shuffled(len(lengths), seed=seed, epoch=epoch):
        full_of_examples = batch_size is not None and len(steps[-1]) == batch_size
        full_of_tokens = batch_tokens is not None and tokens + lengths[index] > batch_tokens
        if steps[-1] and (full_of_examples or full_of_tokens):
            steps.append([])
            tokens = 0
        steps[-1].append(index)
        tokens += lengths[index]
    return [tuple(step) for step in steps if step]


def share(step: Step, lengths: Sequence[int], *, rank: int, num_ranks: int) -> Step:
    """The examples of a step that one rank computes: every `num_ranks`-th from the longest down.

    >>> share((0, 1, 2), [5, 9, 7], rank=0, num_ranks=2), share((0, 1, 2), [5, 9, 7], rank=1, num_ranks=2)
    ((1, 0), (2,))
    """
    longest_first = sorted(step, key=lambda index: (-lengths[index], index))
    return tuple(longest_first[rank::num_ranks])


def dropout_seed(seed: int, epoch: int) -> int:
    """63 bits that follow from the run's seed and the epoch: with the example's id they key its dropout."""
    return int.from_bytes(blake2b(f"dropout/{seed}/{epoch}".encode(), digest_size=8).digest()) >> 1
