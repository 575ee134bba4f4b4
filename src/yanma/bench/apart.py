"""Contestants in a process of their own: a runtime's pool of threads slows down whoever shares the process with it.

With CTranslate2 in the same process, everything of torch took 15 to 35 % longer for as long as its model lived.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Self

import torch
from torch import Tensor

from ..errors import YanmaError
from ..machine import bound_kernel_caches, keep_buffers
from .contestant import Batched, Sequences
from .workloads import Workload


@dataclass(frozen=True)
class Apart:
    """One contestant that lives elsewhere; texts and outputs travel, which takes 1 to 2 ms for 512 texts."""

    there: Batched
    """What it is called and how it batches; it computes nothing here."""
    place: int
    """Its place among those of its process."""
    line: Connection

    @property
    def name(self) -> str:
        return self.there.name

    @property
    def precision(self) -> str:
        return self.there.precision

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.there.sizes

    @property
    def unit(self) -> str:
        return self.there.unit

    def with_sizes(self, sizes: tuple[int, ...]) -> Self:
        return replace(self, there=self.there.with_sizes(sizes))

    def run(self, workload: Workload, size: int) -> list[Tensor]:
        self.line.send((self.place, workload.sequences, size))
        return list(torch.from_numpy(_answer(self.line)).unbind())

    def padding(self, workload: Workload, size: int) -> float | None:
        return self.there.padding(workload, size)


def apart(make: Callable[[], Sequence[Batched]], threads: int) -> list[Apart]:
    """Those whom `make` makes, in a new process with as many threads of torch; it ends with this one.

    `make` is pickled. What it raises there is raised here.
    """
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    context.Process(target=_serve, args=(there, make, threads), daemon=True).start()
    there.close()  # so that the end of the process is noticed
    return [Apart(contestant, place, here) for place, contestant in enumerate(_answer(here))]


def _answer(line: Connection) -> Any:
    try:
        answer = line.recv()
    except EOFError:
        raise YanmaError(
            "a contestant's process ended before it answered; was there enough memory?"
        ) from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _serve(line: Connection, make: Callable[[], Sequence[Batched]], threads: int) -> None:
    """Make, tell who is there, then compute whatever is asked for until the other side is gone."""
    keep_buffers()
    bound_kernel_caches()
    torch.set_num_threads(threads)
    contestants: list[Batched] = []

    def introduce() -> list[Batched]:
        contestants.extend(make())
        return [replace(each, compute=_elsewhere) for each in contestants]

    line.send(_tried(introduce))
    while True:
        try:
            place, sequences, size = line.recv()
        except EOFError:
            return
        line.send(_tried(partial(_outputs, contestants[place], sequences, size)))


def _outputs(contestant: Batched, sequences: tuple[tuple[int, ...], ...], size: int) -> Any:
    return torch.stack(contestant.run(Workload("", "", sequences), size)).numpy()


def _tried(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:  # told to the other side, which raises it
        return error


def _elsewhere(sequences: Sequences) -> list[Tensor]:
    raise AssertionError("this contestant computes in another process")
