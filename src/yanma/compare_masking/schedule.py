"""Runs one after the other or several at a time; what is finished is kept, so that a second call goes on.

A run is a file: OUT/outcomes/ARM-SEED.json, written whole when the run is over.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import DataError, YanmaError
from ..files import write
from ..report.progress import ProgressReporter
from .outcome import Outcome

Run = Callable[[str, int], Outcome]
"""Computes an arm with a seed."""


@dataclass(frozen=True)
class Wanted:
    """A run that is to be there."""

    arm: str
    seed: int

    @property
    def name(self) -> str:
        """What a message calls it."""
        return f"{self.arm}, seed {self.seed}"

    def place(self, folder: Path) -> Path:
        """The file of its outcome."""
        return folder / "outcomes" / f"{self.arm}-{self.seed}.json"


def wanted(arms: Sequence[str], num_seeds: int) -> list[Wanted]:
    """Every arm with seeds from 0, seed by seed: wherever it is cut off, whole pairs are there."""
    return [Wanted(arm, seed) for seed in range(num_seeds) for arm in arms]


def finished(runs: Sequence[Wanted], folder: Path) -> dict[Wanted, Outcome]:
    """Those whose outcome is there.

    Raises DataError for a file that is none.
    """
    return {run: _read(run.place(folder), run) for run in runs if run.place(folder).exists()}


def complete(
    runs: Sequence[Wanted], run: Run, folder: Path, executor: Executor, reporter: ProgressReporter
) -> list[Outcome]:
    """The outcomes of all runs; only those are computed that are not there. `run` and what it raises are pickled.

    A run that fails keeps no other from going on. Raises DataError in the end that names those that failed.
    """
    done = finished(runs, folder)
    left = [one for one in runs if one not in done]
    if done:
        reporter.note(f"{len(done)} of {len(runs)} runs are there already")
    failures: dict[Wanted, str] = {}
    with reporter.counting(len(left)):
        futures = {executor.submit(_computed, run, one, folder): one for one in left}
        for future in as_completed(futures):
            one = futures[future]
            try:
                done[one] = future.result()
            except BrokenProcessPool:
                begun = [run.name for run in left if run not in done and run not in failures]
                raise DataError(
                    f"a process ended in the midst of a run, {begun[0]} or one soon after it; was there enough memory? "
                    f"What was finished is kept: the same command goes on"
                ) from None
            except (YanmaError, OSError) as error:
                failures[one] = f"{one.name}: {error}"
                reporter.one_more(f"failed: {failures[one]}")
            else:
                reporter.one_more(done[one].told())
    if failures:
        first = next(failures[one] for one in runs if one in failures)
        raise DataError(
            f"{len(failures)} of {len(runs)} runs failed, the others are kept; first {first} "
            f"(the same command again computes only what is missing)"
        )
    return [done[one] for one in runs]


def _computed(run: Run, one: Wanted, folder: Path) -> Outcome:
    """Where it is computed it is also kept, so that whoever waits for it may be gone."""
    outcome = run(one.arm, one.seed)
    place = one.place(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    write(place, json.dumps(asdict(outcome), indent=2) + "\n")
    return outcome


@contextmanager
def processes(jobs: int) -> Iterator[Executor]:
    """An executor of that many processes, one thread each, whatever the number: it moves no result.

    Left by an exception, Ctrl-C too, it ends them at once.
    """
    others = set(multiprocessing.active_children())
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))  # inherited, and read before torch is imported there
    context = multiprocessing.get_context("spawn")
    # A process a run: what a run leaves in memory is gone with it.
    executor = ProcessPoolExecutor(jobs, context, _one_thread, max_tasks_per_child=1)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        for name, before in threads.items():
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
    executor.shutdown()


def _one_thread() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback of its own
    import torch

    from ..machine import bound_kernel_caches, keep_buffers

    keep_buffers()
    bound_kernel_caches()
    torch.set_num_threads(1)


def _read(path: Path, run: Wanted) -> Outcome:
    try:
        found = Outcome(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: no outcome of a run ({error}); delete it to have it computed anew"
        ) from None
    if (found.arm, found.seed) != (run.arm, run.seed):
        raise DataError(f"{path}: holds the outcome of {found.name}; delete it to have it computed anew")
    return found
