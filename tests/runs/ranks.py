"""Several processes that learn together, as a launcher starts them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join(str(ROOT / name) for name in ("src", "tests"))


def launch(code: str, argument: str, num_processes: int) -> list[str]:
    """What torchrun does: one process a rank, told by environment variables who it is; returns what each printed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    shared |= {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(num_processes)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    ranks = []
    for rank in map(str, range(num_processes)):
        own = {"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": str(num_processes)}
        command = [sys.executable, "-c", code, argument]
        ranks.append(subprocess.Popen(command, env={**os.environ, **shared, **own}, **pipes))
    try:
        printed = [rank.communicate(timeout=300)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * num_processes, "\n".join(printed)
    return printed


def gradient_norms(run: Path) -> list[float]:
    """Of every step of a run, from its curves."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars("train/gradient_norm")]
