"""Those who take part, and how they group texts into batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from ..data.examples import Example
from .workloads import Workload

Compute = Callable[[Sequence[Example]], Sequence[Tensor]]
"""One batch, collation included: a float32 tensor on the host for each text, in the batch's order."""
Run = Callable[[Workload, int], list[Tensor]]


class Cut(Protocol):
    """Which texts are computed together; a `Batching` of objectives is one."""

    def groups(self, lengths: Sequence[int]) -> Sequence[Sequence[int]]:
        """Indices of texts, given the lengths of all; every text stands in exactly one group."""

    def slots(self, lengths: Sequence[int]) -> int:
        """Places computed for one group of these lengths, be they tokens or padding."""


Cuts = Callable[[int], Cut]
"""Into batches of a size."""


@dataclass(frozen=True)
class Rows:
    """Rectangles of `size` texts, in the order of arrival or of length, padded to the longest or to `width`."""

    size: int
    by_length: bool = False
    width: int | None = None

    def groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """Neighbours in arrival, or in length with the longest first.

        >>> Rows(2, by_length=True).groups([3, 9, 4])
        [[1, 2], [0]]
        """
        order = list(range(len(lengths)))
        if self.by_length:
            order.sort(key=lambda index: -lengths[index])
        return [order[start : start + self.size] for start in range(0, len(order), self.size)]

    def slots(self, lengths: Sequence[int]) -> int:
        """See Cut."""
        return len(lengths) * (self.width or max(lengths))


@dataclass(frozen=True)
class Contestant:
    """One way to compute a workload."""

    name: str
    """As it stands in the table."""
    run: Run
    """What is timed: a workload in batches of a size, from token ids (or texts) to one output a text, in its order.

    Of training the only output is the mean loss; its gradient is left in the parameters of `model`.
    """
    sizes: tuple[int, ...]
    """Batch sizes to try; the fastest is measured."""
    cuts: Cuts | None = None
    """None = not known."""
    unit: str = "texts"
    """What a size counts: `texts` or `tokens`."""
    precision: str = "fp32"
    """`fp32`, which must be exact, or `bf16` or `int8`, of which the cosine is told."""
    model: nn.Module | None = None
    """What is trained."""

    def padding(self, workload: Workload, size: int) -> float | None:
        """Share of padding among the places computed, 0 to 1; None = not known."""
        return None if self.cuts is None else share_of_padding(self.cuts(size), workload.lengths)


def batched(
    name: str, compute: Compute, sizes: tuple[int, ...], cuts: Cuts, precision: str = "fp32"
) -> Contestant:
    """A contestant that computes a batch at a time, and puts the outputs back into the order of the texts."""

    def run(workload: Workload, size: int) -> list[Tensor]:
        outputs: dict[int, Tensor] = {}
        for group in cuts(size).groups(workload.lengths):
            outputs |= zip(group, compute([workload.examples[index] for index in group]), strict=True)
        return [outputs[index] for index in range(len(outputs))]

    return Contestant(name, run, sizes, cuts, precision=precision)


def share_of_padding(cut: Cut, lengths: Sequence[int]) -> float:
    """Padding among the places that are computed, 0 to 1.

    >>> share_of_padding(Rows(2), [1, 3, 1, 1])
    0.25
    """
    slots = sum(cut.slots([lengths[index] for index in group]) for group in cut.groups(lengths))
    return 1 - sum(lengths) / slots
