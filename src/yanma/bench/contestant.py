"""Those who take part: one dataclass a way of computing, each with a name and a `run` that is timed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

from torch import Tensor

from .batching import Batching, share_of_padding
from .workloads import Workload

Sequences = Sequence[Sequence[int]]
Compute = Callable[[Sequences], list[Tensor]]
"""One batch, collation included: a float32 tensor on the host for each text, in the batch's order."""


class Contestant(Protocol):
    """What is asked of each."""

    @property
    def name(self) -> str:
        """As it stands in the table."""

    @property
    def precision(self) -> str:
        """`fp32`, which must be exact, or `bf16` or `int8`, of which the cosine is told."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes to try; the fastest is measured."""

    @property
    def unit(self) -> str:
        """What a size counts: `texts` or `tokens`."""

    def with_sizes(self, sizes: tuple[int, ...]) -> Self:
        """The same with other sizes to try."""

    def run(self, workload: Workload, size: int) -> list[Tensor]:
        """What is timed: the whole workload, from token ids (or texts) to one output a text, in its order."""

    def padding(self, workload: Workload, size: int) -> float | None:
        """Share of padding among the places computed; None = not known."""


@dataclass(frozen=True)
class InBatches(ABC):
    """What all have that compute token ids in batches."""

    name: str
    batching: Batching
    sizes: tuple[int, ...]
    precision: str = field(default="fp32", kw_only=True)

    @property
    def unit(self) -> str:
        return self.batching.unit

    def with_sizes(self, sizes: tuple[int, ...]) -> Self:
        return replace(self, sizes=sizes)

    @abstractmethod
    def run(self, workload: Workload, size: int) -> list[Tensor]:
        """As a Contestant's."""

    def padding(self, workload: Workload, size: int) -> float | None:
        return share_of_padding(self.batching, workload.lengths, size)


@dataclass(frozen=True)
class Batched(InBatches):
    """An output for each text."""

    compute: Compute

    def run(self, workload: Workload, size: int) -> list[Tensor]:
        groups = self.batching.groups(workload.lengths, size)
        outputs: dict[int, Tensor] = {}
        for group in groups:
            outputs.update(
                zip(group, self.compute([workload.sequences[index] for index in group]), strict=True)
            )
        return [outputs[index] for index in range(len(workload.sequences))]
