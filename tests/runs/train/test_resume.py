"""A run that was stopped, at whatever moment, goes on and ends with the bits of one that never stopped."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from runs.ranks import killed, launch
from runs.stops import kill_at
from yanma import cli
from yanma.data.hold_out import hold_out
from yanma.errors import ConfigError, DataError
from yanma.runs import train_setup
from yanma.runs.folder import RunFolder
from yanma.runs.stepper import Stepper
from yanma.runs.train import train
from yanma.runs.train_config import TrainConfig, load

TASKS = ("sequence-classification", "token-classification")
RUN = """
import json, sys
from yanma.runs.train import train
train(json.loads(sys.argv[1]), resume="--resume" in sys.argv, overwrite="--overwrite" in sys.argv)
"""
LONG = {"epochs": 5, "batch_size": 8, "dropout": 0.1, "evaluate_every": 7, "save_every": 3}
"""60 steps, 12 an epoch; they are measured and saved at other moments."""


def figures(folder: Path) -> dict:
    """What a run says of itself, without what time it took."""
    told = json.loads((folder / "metrics.json").read_text("utf-8"))
    timed = ("seconds", "tokens_per_s", "padding_avoided", "padding_computed")
    told["validations"] = [{k: v for k, v in each.items() if k not in timed} for each in told["validations"]]
    return {key: value for key, value in told.items() if key != "seconds"}


def speeds(folder: Path) -> list:
    told = json.loads((folder / "metrics.json").read_text("utf-8"))
    return [(each["tokens_per_s"], each["padding_avoided"]) for each in told["validations"]]


def same(one: Path, other: Path, said: str = "") -> None:
    """Two folders hold the same run: weights of the best model and of the last step, and all figures."""
    assert figures(one) == figures(other), said
    for place in ("model/model.safetensors", last_checkpoint(one)):
        ours, theirs = load_file(one / place), load_file(other / place)
        differ = [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]
        assert ours.keys() == theirs.keys() and not differ, f"{place}: {differ} have other bits; {said}"


def last_checkpoint(run: Path) -> str:
    return f"checkpoints/step-{figures(run)['num_steps']:08}/weights.safetensors"


def stop_at(monkeypatch, step: int) -> None:
    """Ctrl-C in the place of a move of the weights."""
    genuine, moves = Stepper.move, []

    def stopping(self, *args, **kwargs):
        moves.append(1)
        if len(moves) > step:
            raise KeyboardInterrupt
        return genuine(self, *args, **kwargs)

    monkeypatch.setattr(Stepper, "move", stopping)


@pytest.fixture
def whole(settings, tmp_path):
    """The folder of a run that is not stopped."""

    def run(*args, **flags):
        return train(load(flags=settings(*args, **flags, out=str(tmp_path / "whole")))).folder

    return run


def test_a_run_killed_at_a_random_moment_and_resumed_ends_with_the_same_bits(settings, whole, tmp_path):
    flags = settings(**LONG, out=str(tmp_path / "cut"))
    checkpoints = RunFolder(flags["out"], TrainConfig).checkpoints
    reached = killed(RUN, [json.dumps(flags)], checkpoints, last=50, log=tmp_path / "log")
    resumed = train(flags, resume=True)
    uninterrupted = whole(**LONG)
    same(resumed.folder, uninterrupted, f"killed after {reached}")
    assert resumed.best_step == figures(uninterrupted)["best"]["step"] < 60, "the best model is no last one"
    assert [each["step"] for each in figures(resumed.folder)["validations"]] == [*range(7, 60, 7), 60]


def test_two_ranks_killed_twice_and_resumed_end_with_the_same_bits(settings, tmp_path):
    flags = settings(**LONG, max_batch_tokens=60, out=str(tmp_path / "cut"))
    checkpoints = RunFolder(flags["out"], TrainConfig).checkpoints
    log = tmp_path / "log"
    launch(RUN, [json.dumps(flags | {"out": str(tmp_path / "whole")})], 2, log)
    reached = [
        killed(RUN, [json.dumps(flags), *resume], checkpoints, last, log, 2)
        for last, resume in ((25, []), (50, ["--resume"]))
    ]
    assert reached[0] < reached[1]
    launch(RUN, [json.dumps(flags), "--resume"], 2, log)
    same(tmp_path / "cut", tmp_path / "whole", f"killed after {reached}")
    assert figures(tmp_path / "cut")["processes"] == 2


def test_a_run_killed_at_any_moment_leaves_the_run_that_it_replaces_or_goes_on_with_the_same_bits(
    settings, data_folder, monkeypatch, tmp_path
):
    """Its first checkpoint comes before its first model, and takes the place of the run before."""
    rows = (data_folder / f"{TASKS[0]}.train.jsonl").read_text().splitlines(keepends=True)
    for name, some in (("train", rows[:16]), ("dev", rows[16:22])):
        (tmp_path / f"{name}.jsonl").write_text("".join(some))
    files = {"train": str(tmp_path / "train.jsonl"), "validation": str(tmp_path / "dev.jsonl")}
    files = {name: value for name, value in settings(**files).items() if name != "test"}
    flags = files | {"epochs": 4, "batch_size": 16, "dropout": 0.1, "evaluate_every": 3, "save_every": 2}
    before, whole = (
        train(flags | {"seed": seed, "out": str(tmp_path / name)}).folder
        for seed, name in ((1, "before"), (0, "whole"))
    )
    flags["out"] = str(tmp_path / "cut")
    cut, left = RunFolder(flags["out"], TrainConfig), []
    for call in range(1, 1000):
        shutil.copytree(before, cut.path)
        with monkeypatch.context() as patch:
            calls = kill_at(patch, call)
            try:
                train(flags, overwrite=True)
            except SystemExit:
                pass
        cut.settle()
        left.append(cut.begun().seed)
        if left[-1] == 0:
            train(flags, resume=True)
        else:
            same(cut.path, before, f"killed at call {call}")
            train(flags, overwrite=True)
        same(cut.path, whole, f"killed at call {call}")
        shutil.rmtree(cut.path)
        if len(calls) < call:
            break
    assert left == sorted(left, reverse=True) and 3 < left.count(1) < left.count(0), "each at its time"
    assert len(left) > 40, f"{len(left)} moments"


@pytest.mark.parametrize(("task", "batching"), [(TASKS[0], "packed"), (TASKS[1], "padded")])
def test_ctrl_c_and_resume_by_the_command_line(
    settings, whole, capsys, monkeypatch, tmp_path, task, batching
):
    how = {"epochs": 2, "batch_size": 16, "dropout": 0.1, "evaluate_every": 5, "save_every": 4}
    how |= {"batching": batching}
    flags = settings(task, **how)
    typed = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        assert exit_code("train", *typed) == 130
    *_, last = capsys.readouterr().err.strip().splitlines()
    checkpoint = f"{flags['out']}/checkpoints/step-00000004"
    assert "model: step 5 of 12 (epoch 1), validation: loss " in last
    assert last.endswith(f"; --resume goes on from {checkpoint}")
    assert exit_code("train", *typed, "--resume") == 0
    assert f"{checkpoint}: the run goes on after step 4 of 12" in capsys.readouterr().err
    same(Path(flags["out"]), whole(task, **how))


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code


def test_a_finished_run_that_is_resumed_is_measured_once_more_and_nothing_moves(config, capsys):
    how = {"epochs": 2, "evaluate_every": 4, "save_every": 5}
    done = train(config(**how))
    before, speed = figures(done.folder), speeds(done.folder)
    content = (done.folder / last_checkpoint(done.folder)).read_bytes()
    model = load_file(done.folder / "model" / "model.safetensors")
    again = train(config(**how), resume=True)
    assert "the run is finished, all its steps are done; it is measured once more" in capsys.readouterr().err
    assert (again.best_step, again.validation, again.test) == (done.best_step, done.validation, done.test)
    assert figures(done.folder) == before
    assert speeds(done.folder) == speed, "nothing was computed, and nothing is forgotten"
    assert (done.folder / last_checkpoint(done.folder)).read_bytes() == content
    kept = load_file(done.folder / "model" / "model.safetensors")
    assert all(torch.equal(tensor, model[name]) for name, tensor in kept.items())


def one_label(rows):
    rows[3]["label"] = {"red": "blue", "blue": "red"}[rows[3]["label"]]


def renamed_label(rows):
    for row in rows:
        row["label"] = row["label"].replace("red", "rot")


def one_word(rows):
    rows[3]["text"] += " money"


def one_row_more(rows):
    rows.append(rows[0])


def other_order(rows):
    rows[0], rows[1] = rows[1], rows[0]


@pytest.mark.parametrize(
    ("change", "parts"),
    [(one, [part]) for one in (one_label, one_word, one_row_more, other_order) for part in ("train", "dev")]
    + [(renamed_label, ["train", "dev"])],
)
def test_other_rows_or_labels_are_refused_on_resume(config, data_folder, tmp_path, change, parts):
    for part in ("train", "dev"):
        shutil.copy(data_folder / f"{TASKS[0]}.{part}.jsonl", tmp_path / f"{part}.jsonl")
    how = {"train": str(tmp_path / "train.jsonl"), "validation": str(tmp_path / "dev.jsonl"), "test": None}
    done = train(config(**how))
    kept = figures(done.folder)
    for part in parts:
        rows = [json.loads(line) for line in (tmp_path / f"{part}.jsonl").read_text().splitlines()]
        change(rows)
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    name = {"train": "train", "dev": "validation"}[parts[0]]
    with pytest.raises(DataError, match=f"the texts of {name} are others now than when the run was begun"):
        train(config(**how), resume=True)
    assert figures(done.folder) == kept, "the folder is as it was"


def test_rows_that_are_held_out_are_compared_too(config, data_folder, tmp_path):
    """Which model is the best one was measured on them."""
    rows = (data_folder / f"{TASKS[0]}.train.jsonl").read_text().splitlines(keepends=True)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(rows))
    how = {"train": str(path), "validation": 0.2, "test": None}
    train(config(**how))
    learned, held = hold_out(range(len(rows)), 0.2, seed=0)
    for place, name in ((held[0], "validation"), (learned[0], "train")):
        other = rows.copy()
        other[place] = json.dumps({**json.loads(rows[place]), "text": "another text"}) + "\n"
        path.write_text("".join(other))
        with pytest.raises(DataError, match=f"the texts of {name} are others now"):
            train(config(**how), resume=True)


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"learning_rate": 1e-3}, r"--learning-rate is 0\.001, but the run was begun with 0\.003"),
        ({"batch_size": 8}, r"--batch-size is 8, but the run was begun with 16"),
        ({"max_length": 40}, r"--max-length is 40, but the run was begun with 48"),
        ({"steps": 5, "epochs": None}, r"--(epochs|steps) is (None|5), but the run was begun with (1|None)"),
        ({"seed": 1}, r"--seed is 1, but the run was begun with 0"),
        ({"batching": "padded"}, r"--batching is 'padded', but the run was begun with 'packed'"),
        ({"mask": "window(3, 3)"}, r"--mask is 'window\(3, 3\)', but the run was begun with None"),
        ({"freeze": "embeddings"}, r"--freeze is embeddings, but the run was begun with $"),
        ({"validation": 0.2}, r"--validation is 0\.2, but the run was begun with '"),
    ],
)
def test_other_settings_are_refused_on_resume(config, now, message):
    done = train(config())
    kept = figures(done.folder)
    with pytest.raises(ConfigError, match=message.rstrip("$")):
        train(config(**now), resume=True)
    assert figures(done.folder) == kept, "the folder is as it was"


@pytest.mark.parametrize(("evaluate_every", "best"), [(4, 8), (6, 6)])
def test_what_is_called_the_best_is_what_model_holds_after_a_run_that_was_ahead_of_its_checkpoint(
    config, monkeypatch, evaluate_every, best
):
    """Killed after step 8, whose model was kept, it goes on after step 5, where that of step 4 was the best."""
    accuracy, seen, now = {4: 0.5, 8: 0.9, 6: 0.4, 12: 0.3}, {}, {"step": 0, "last": 9}
    validate, move = train_setup.TaskJudge.validate, Stepper.move

    def made_up(self, accelerator):
        found = validate(self, accelerator)
        seen[now["step"]] = self.predictor.model.classifier.weight.detach().clone()
        return replace(found, report=replace(found.report, headline=accuracy[now["step"]]))

    def counted(self, *args, **kwargs):
        if now["step"] == now["last"]:
            raise KeyboardInterrupt
        now["step"] += 1
        return move(self, *args, **kwargs)

    monkeypatch.setattr(train_setup.TaskJudge, "validate", made_up)
    monkeypatch.setattr(Stepper, "move", counted)
    how = {"epochs": 2, "save_every": 5, "dropout": 0.1}
    with pytest.raises(KeyboardInterrupt):
        train(config(**how, evaluate_every=4))
    folder = RunFolder(config().out, TrainConfig)
    assert (folder.checkpoints.newest().name, figures(folder.path)["best"]["step"]) == ("step-00000005", 8)
    now |= {"step": 5, "last": None}
    resumed = train(config(**how, evaluate_every=evaluate_every), resume=True)
    told = figures(resumed.folder)
    assert [each["step"] for each in told["validations"]] == (
        [4, 8, 12] if evaluate_every == 4 else [4, 6, 12]
    )
    assert resumed.best_step == told["best"]["step"] == best
    assert resumed.validation.report.headline == accuracy[best]
    kept = load_file(resumed.folder / "model" / "model.safetensors")["classifier.weight"]
    assert torch.equal(kept, seen[best]), "the model in the folder is the one whose figures are told"
