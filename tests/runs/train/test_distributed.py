"""Two processes learn what one learns."""

import json
from pathlib import Path

import pytest

from runs.ranks import gradient_norms, launch
from yanma.runs.train import train
from yanma.runs.train_config import load

TASKS = ("sequence-classification", "token-classification")
TRAIN_ALL = """
import json, sys
from yanma.runs.train_config import load
from yanma.runs.train import train
for flags in json.loads(sys.argv[1]):
    train(load(flags=flags))
"""


def test_one_and_two_processes_learn_the_same(settings, tmp_path):
    """89 examples in steps of 8: the last step has one, so a rank has none; packs of two or three texts."""
    wanted = {n: [short(settings(task), tmp_path, f"{task}-{n}") for task in TASKS] for n in (1, 2)}
    for flags in wanted[1]:
        train(load(flags=flags))
    printed = launch(TRAIN_ALL, [json.dumps(wanted[2])], 2, tmp_path / "log")
    assert "validation" in printed[0] and "validation" not in printed[1], "only the first rank speaks"
    for flags in zip(wanted[1], wanted[2], strict=True):
        told = [json.loads((Path(own["out"]) / "metrics.json").read_text()) for own in flags]
        assert [run["processes"] for run in told] == [1, 2], "two processes worked together"
        one, two = (run["loss_per_step"] for run in told)
        assert len(one) == 12 and max(one) - min(one) > 0.05, f"a short or flat curve shows nothing: {one}"
        assert two == pytest.approx(one, abs=1e-5)
        norms = [gradient_norms(Path(own["out"])) for own in flags]
        assert norms[1] == pytest.approx(norms[0], rel=1e-4), (
            "AdamW forgives gradients of the wrong size; we do not"
        )
        assert told[1]["test"]["loss"] == pytest.approx(told[0]["test"]["loss"], abs=1e-5)
        assert told[1]["test"]["classes"] == told[0]["test"]["classes"]


def short(flags: dict, folder: Path, name: str) -> dict:
    rows = Path(flags["train"]).read_text().splitlines(keepends=True)[:89]
    (folder / f"{name}.jsonl").write_text("".join(rows))
    paths = {"out": str(folder / name), "train": str(folder / f"{name}.jsonl")}
    return flags | paths | {"batch_size": 8, "max_batch_tokens": 60}
