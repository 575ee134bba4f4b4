"""Two processes learn what one learns."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from yanma.training.config import load
from yanma.training.loop import train

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
TASKS = ("sequence-classification", "token-classification")
TRAIN_ALL = """
import json, sys
from yanma.training.config import load
from yanma.training.loop import train
for flags in json.loads(sys.argv[1]):
    train(load(flags=flags))
"""


@pytest.mark.slow
def test_one_and_two_processes_learn_the_same(settings, tmp_path):
    """89 examples in steps of 8: the last step has one, so a rank has none; packs of two or three texts."""
    wanted = {n: [short(settings(task), tmp_path, f"{task}-{n}") for task in TASKS] for n in (1, 2)}
    for flags in wanted[1]:
        train(load(flags=flags))
    launch(wanted[2], num_processes=2)
    for flags in zip(wanted[1], wanted[2], strict=True):
        told = [json.loads((Path(own["out"]) / "metrics.json").read_text()) for own in flags]
        assert [run["processes"] for run in told] == [1, 2], "two processes worked together"
        one, two = (run["epochs"][0]["loss_per_step"] for run in told)
        assert len(one) == 12 and max(one) - min(one) > 0.05, f"a short or flat curve shows nothing: {one}"
        assert two == pytest.approx(one, abs=1e-5)
        norms = [gradient_norms(Path(own["out"])) for own in flags]
        assert norms[1] == pytest.approx(norms[0], rel=1e-4), (
            "AdamW forgives gradients of the wrong size; we do not"
        )
        assert told[1]["test"]["loss"] == pytest.approx(told[0]["test"]["loss"], abs=1e-5)
        assert told[1]["test"]["classes"] == told[0]["test"]["classes"]


def gradient_norms(run: Path) -> list[float]:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars("train/gradient_norm")]


def short(flags: dict, folder: Path, name: str) -> dict:
    rows = Path(flags["train"]).read_text().splitlines(keepends=True)[:89]
    (folder / f"{name}.jsonl").write_text("".join(rows))
    paths = {"out": str(folder / name), "train": str(folder / f"{name}.jsonl")}
    return flags | paths | {"batch_size": 8, "max_batch_tokens": 60}


def launch(runs: list[dict], num_processes: int) -> None:
    """What torchrun does: one process a rank, told by environment variables who it is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    shared |= {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(num_processes)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    ranks = []
    for rank in map(str, range(num_processes)):
        own = {"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": str(num_processes)}
        command = [sys.executable, "-c", TRAIN_ALL, json.dumps(runs)]
        ranks.append(subprocess.Popen(command, env={**os.environ, **shared, **own}, **pipes))
    try:
        printed = [rank.communicate(timeout=300)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * num_processes, "\n".join(printed)
    assert "validation" in printed[0] and "validation" not in printed[1], "only the first rank speaks"
