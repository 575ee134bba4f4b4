"""Contestants in a process of their own: a runtime's pool of threads slows down whoever shares the process with it.

With CTranslate2 in the same process, everything of torch took 15 to 35 % longer for as long as its model lived.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from ..errors import YanmaError
from ..machine import bound_kernel_caches, keep_buffers
from .contestant import Contestant
from .workloads import Workload

Sequences = tuple[tuple[int, ...], ...]


def apart(make: Callable[[], Sequence[Contestant]], threads: int) -> list[Contestant]:
    """Those whom `make` makes, in a new process with as many threads of torch; it ends with this one.

    `make` is pickled. What it raises there is raised here. Texts and outputs travel: 1 to 2 ms for 512 texts.
    """
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    context.Process(target=_serve, args=(there, make, threads), daemon=True).start()
    there.close()  # so that the end of the process is noticed
    return [replace(each, run=partial(_asked, here, place)) for place, each in enumerate(_answer(here))]


def _asked(line: Connection, place: int, workload: Workload, size: int) -> list[Tensor]:
    """`run` of the contestant of this place among those of the process."""
    line.send((place, workload.sequences, size))
    return list(torch.from_numpy(_answer(line)).unbind())


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


def _serve(line: Connection, make: Callable[[], Sequence[Contestant]], threads: int) -> None:
    """Make, tell who is there, then compute whatever is asked for until the other side is gone."""
    keep_buffers()
    bound_kernel_caches()
    torch.set_num_threads(threads)
    contestants: list[Contestant] = []

    def introduce() -> list[Contestant]:
        contestants.extend(make())
        return [replace(each, run=_elsewhere) for each in contestants]

    line.send(_tried(introduce))
    while True:
        try:
            place, sequences, size = line.recv()
        except EOFError:
            return
        line.send(_tried(partial(_outputs, contestants[place], sequences, size)))


def _outputs(contestant: Contestant, sequences: Sequences, size: int) -> Any:
    return torch.stack(contestant.run(_workload(sequences), size)).numpy()


@lru_cache(1)
def _workload(sequences: Sequences) -> Workload:
    """The same texts are asked for many times."""
    return Workload("", "", sequences)


def _tried(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:  # told to the other side, which raises it
        return error


def _elsewhere(workload: Workload, size: int) -> list[Tensor]:
    raise AssertionError("this contestant computes in another process")
