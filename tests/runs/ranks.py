"""Processes that learn, alone or together, as a launcher starts them; they end by themselves or are killed."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from yanma.runs.checkpoint import Checkpoints

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join(str(ROOT / name) for name in ("src", "tests"))


def started(code: str, arguments: list[str], num_processes: int, log: Path) -> list[subprocess.Popen]:
    """What torchrun does: one process a rank, told by environment variables who it is; what they say is in `log`.*."""
    # As many threads as here, so that a process has the bits of this one.
    shared = {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    if num_processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        shared |= {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
    ranks = []
    for rank in map(str, range(num_processes)):
        own = {"RANK": rank, "LOCAL_RANK": rank} if num_processes > 1 else {}
        with Path(f"{log}.{rank}").open("w") as told:
            command, environment = [sys.executable, "-c", code, *arguments], {**os.environ, **shared, **own}
            ranks.append(subprocess.Popen(command, env=environment, stdout=told, stderr=subprocess.STDOUT))
    return ranks


def launch(code: str, arguments: list[str], num_processes: int, log: Path) -> list[str]:
    """Start, wait for the end; returns what each rank said."""
    ranks = started(code, arguments, num_processes, log)
    try:
        for rank in ranks:
            rank.wait(timeout=300)
    finally:
        for rank in ranks:
            rank.kill()
    said = [Path(f"{log}.{rank}").read_text() for rank in range(num_processes)]
    assert [rank.returncode for rank in ranks] == [0] * num_processes, "\n".join(said)
    return said


def killed(
    code: str, arguments: list[str], checkpoints: Checkpoints, last: int, log: Path, num_processes: int = 1
) -> str:
    """Start, and kill all ranks by SIGKILL at a random moment before step `last`; returns the newest checkpoint."""
    draw, newest = random.SystemRandom(), checkpoints.newest()
    target = draw.randrange(1 if newest is None else int(newest.name.removeprefix("step-")) + 1, last)
    ranks = started(code, arguments, num_processes, log)
    try:
        begin = time.monotonic()
        while (newest := checkpoints.newest()) is None or newest.name < f"step-{target:08}":
            stopped = [rank.poll() for rank in ranks] != [None] * num_processes
            assert not stopped and time.monotonic() - begin < 300, Path(f"{log}.0").read_text()
            time.sleep(0.002)
        time.sleep(draw.random() * 0.05)
    finally:
        for rank in draw.sample(ranks, num_processes):
            rank.send_signal(signal.SIGKILL)
        for rank in ranks:
            rank.wait()
    assert [rank.returncode for rank in ranks] == [-signal.SIGKILL] * num_processes, (
        "they were killed while they ran"
    )
    return checkpoints.newest().name


def gradient_norms(run: Path) -> list[float]:
    """Of every step of a run, from its curves."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars("train/gradient_norm")]
