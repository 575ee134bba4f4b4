"""What is in a run's folder is whole at every moment, whatever stops the run."""

import errno
import json
import os
import resource
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from runs.stops import kill_at
from yanma import cli
from yanma.errors import ConfigError
from yanma.loading import pretrained
from yanma.runs import train_setup
from yanma.runs.folder import RunFolder
from yanma.runs.records import Curves
from yanma.runs.stepper import Moved, Stepper
from yanma.runs.train import train
from yanma.runs.train_config import TrainConfig, load


@pytest.fixture
def models(model_folder):
    """Two models that differ in their weights only."""
    torch.manual_seed(1)
    return [
        pretrained.load_model(str(model_folder), "SequenceClassification", ("a", "b")).model for _ in range(2)
    ]


@pytest.fixture
def folder(tmp_path, settings):
    run = RunFolder(tmp_path / "run", TrainConfig)
    run.start(load(flags=settings()))
    return run


def weight(folder: RunFolder) -> torch.Tensor:
    return AutoModelForSequenceClassification.from_pretrained(folder.model).classifier.weight


def figures(folder: RunFolder) -> dict:
    return json.loads((folder.path / "metrics.json").read_text("utf-8"))


def test_a_saved_model_replaces_the_one_before(folder, models, tokenizer):
    for number, model in enumerate(models):
        folder.save({"number": number}, model, tokenizer)
        assert figures(folder) == {"number": number}
        assert torch.equal(weight(folder), model.classifier.weight)
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.toml", "metrics.json", "model"]
    modes = {path.stat().st_mode & 0o777 for path in folder.model.iterdir()}
    assert len(modes) == 1, f"whoever may read one file may read all: {modes}"


def stop_at(monkeypatch, call: int, error: BaseException) -> list[int]:
    """Let the `call`-th flush or move of a file raise; the list counts them."""
    calls: list[int] = []

    def counted(genuine):
        def maybe(*args, **kwargs):
            calls.append(1)
            if len(calls) == call:
                raise error
            return genuine(*args, **kwargs)

        return maybe

    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    return calls


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=type
)
def test_a_stop_at_any_moment_of_a_save_leaves_the_old_model_or_the_new_one_with_its_figures(
    folder, models, tokenizer, monkeypatch, error
):
    for call in range(1, 100):
        with monkeypatch.context() as patch:
            folder.save({"number": 0}, models[0], tokenizer)
            calls = stop_at(patch, call, error)
            try:
                folder.save({"number": 1}, models[1], tokenizer)
            except type(error):
                pass
        number = figures(folder)["number"]
        assert torch.equal(weight(folder), models[number].classifier.weight), f"stopped at call {call}"
        there = sorted(path.name for path in folder.path.iterdir())
        assert there == ["config.toml", "metrics.json", "model"], "nothing is left over"
        pretrained.load_tokenizer(str(folder.model))
        if len(calls) < call:
            break
    assert call > 8, f"flushes and moves of all files were tried, not just {call - 1}"
    assert number == 1, "the last save was not stopped"


def test_a_run_killed_at_any_moment_of_its_first_save_leaves_the_run_before_or_itself(
    folder, models, tokenizer, monkeypatch, settings
):
    """Nothing is cleaned up after a kill: every later flush, move and removal fails too."""
    seeds = []
    for call in range(1, 100):
        folder.start(load(flags=settings(seed=0)))
        folder.save({"number": 0}, models[0], tokenizer)
        killed = RunFolder(folder.path, TrainConfig)
        killed.start(load(flags=settings(seed=1)))
        assert folder.finished_config().seed == 0, "a run that has no model yet has taken another one's place"
        with monkeypatch.context() as patch:
            calls = kill_at(patch, call)
            try:
                killed.save({"number": 1}, models[1], tokenizer)
            except SystemExit:
                pass
        killed.check_free(overwrite=True)
        seeds.append(folder.finished_config().seed)
        assert figures(folder)["number"] == seeds[-1], f"killed at call {call}"
        assert torch.equal(weight(folder), models[seeds[-1]].classifier.weight), f"killed at call {call}"
        if len(calls) < call:
            break
    assert {0, 1} == set(seeds) and seeds == sorted(seeds) and len(seeds) > 12


def test_ctrl_c_in_the_first_epoch_keeps_the_run_that_was_to_be_overwritten(settings, monkeypatch, capsys):
    assert exit_code("train", *flags(settings)) == 0
    out = settings()["out"]
    before = figures(RunFolder(out, TrainConfig))

    def interrupt(self, step, place, **_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "move", interrupt)
        assert exit_code("train", *flags(settings), "--overwrite") == 130
    assert capsys.readouterr().err.strip().endswith("none was saved; the run before is still there")
    assert exit_code("evaluate", out, settings()["test"]) == 0
    assert figures(RunFolder(out, TrainConfig)) == before
    assert exit_code("train", *flags(settings), "--overwrite") == 0
    assert len(list((Path(out) / "tensorboard").iterdir())) == 1, "curves of the runs before are gone"
    assert not (Path(out) / ".new").exists()


@pytest.mark.parametrize("call", [1, 2])
def test_metrics_are_the_old_ones_or_the_new_ones(folder, monkeypatch, call):
    folder.save_metrics({"epochs": 1})
    with monkeypatch.context() as patch:
        stop_at(patch, call, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OSError, match="No space left"):
            folder.save_metrics({"epochs": 2})
    assert json.loads((folder.path / "metrics.json").read_text()) == {"epochs": 1}
    assert not list(folder.path.glob(".*")), "nothing is left over"


@pytest.fixture
def second_epoch(monkeypatch):
    """Have a function called after the second epoch's validation, which is made better than the first one's."""

    def then(act):
        genuine, calls = train_setup.evaluate, []

        def evaluate(predictor, examples, accelerator):
            evaluation = genuine(predictor, examples, accelerator)
            calls.append(1)
            if len(calls) == 2:
                act()
            report = type(evaluation.report)(**{**vars(evaluation.report), "headline": float(len(calls))})
            return type(evaluation)(report, evaluation.loss)

        monkeypatch.setattr(train_setup, "evaluate", evaluate)

    return then


def exit_code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


def flags(settings, **more):
    pairs = ((f"--{name.replace('_', '-')}", value) for name, value in settings(**more).items())
    return [part for pair in pairs for part in pair]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_in_mid_run_leaves_the_last_good_model_and_says_so(settings, second_epoch, capsys):
    """The system refuses to write more than 20 KB a file: the weights, 90 KB, do not fit any more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    second_epoch(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard)))
    try:
        code = exit_code("train", *flags(settings, epochs=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = RunFolder(settings()["out"], TrainConfig)
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert code == 1
    assert (
        last.startswith("error: File too large; ")
        and "model: step 6 of 12 (epoch 1), validation: loss " in last
        and f", accuracy 1.0000; --resume goes on from {folder.checkpoints.newest()}" in last
    )
    assert [
        epoch["epoch"] for epoch in json.loads((folder.path / "metrics.json").read_text())["validations"]
    ] == [1]
    assert exit_code("evaluate", folder.path, settings()["test"]) == 0, (
        "the first epoch's model is still good"
    )
    assert not (folder.path / ".new").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_disk_that_is_full_for_the_curves_is_one_error_and_no_thread_complains(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with (
            pytest.raises(OSError, match="File too large"),
            Curves(tmp_path / "tensorboard", enabled=True) as curves,
        ):
            for number in range(10_000):
                curves.step(number, Moved(0.5, 1.0, (3,), 3, 0.1), 1e-4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_ctrl_c_while_the_model_is_saved_leaves_the_last_good_one(
    settings, second_epoch, monkeypatch, capsys
):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    second_epoch(lambda: monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", interrupt))
    assert exit_code("train", *flags(settings, epochs=3)) == 130
    folder = RunFolder(settings()["out"], TrainConfig)
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith(f"interrupted; {folder.model}: step 6 of 18 (epoch 1), validation: loss ")
    assert last.endswith(f", accuracy 1.0000; --resume goes on from {folder.checkpoints.newest()}")
    assert not (folder.path / ".new").exists()
    monkeypatch.undo()
    assert exit_code("evaluate", folder.path, settings()["test"]) == 0


def test_ctrl_c_in_the_first_epoch_says_that_there_is_no_model(settings, monkeypatch, capsys):
    def interrupt(self, step, place, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Stepper, "move", interrupt)
    assert exit_code("train", *flags(settings)) == 130
    *_, last = capsys.readouterr().err.strip().splitlines()
    out = settings()["out"]
    assert last == f"interrupted; {out}: no model yet, none was saved; --resume begins again at step 0"
    assert exit_code("evaluate", out, settings()["test"]) == 2
    assert "no model in it; the run ended before its first validation did" in capsys.readouterr().err


def test_a_folder_with_something_in_it_is_refused_unless_told(config, tmp_path):
    wanted = config()
    train(wanted)
    before = (RunFolder(wanted.out, TrainConfig).path / "metrics.json").read_text()
    with pytest.raises(
        ConfigError, match=r"is not empty; name another --out, or say --resume .* or --overwrite"
    ):
        train(wanted)
    assert (RunFolder(wanted.out, TrainConfig).path / "metrics.json").read_text() == before, "untouched"
    train(wanted, overwrite=True)
    assert (RunFolder(wanted.out, TrainConfig).path / "metrics.json").read_text() != before, (
        "its speeds differ"
    )


def test_overwrite_touches_no_folder_but_a_run_and_nothing_of_others_in_it(config, tmp_path):
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1.tex").write_text("")
    with pytest.raises(ConfigError, match="holds no run, so --overwrite does not touch it"):
        train(config(out=str(other)), overwrite=True)
    assert (other / "chapter1.tex").exists()
    wanted = config()
    train(wanted)
    (RunFolder(wanted.out, TrainConfig).path / "notes.txt").write_text("mine")
    train(wanted, overwrite=True)
    assert (RunFolder(wanted.out, TrainConfig).path / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_fine_and_a_file_is_not(config, tmp_path):
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "empty", TrainConfig).check_free(overwrite=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        RunFolder(tmp_path / "file", TrainConfig).check_free(overwrite=True)


def test_a_run_that_cannot_start_does_not_touch_the_run_before(config):
    wanted = config()
    train(wanted)
    with pytest.raises(ConfigError):
        train(config(freeze="nothing"), overwrite=True)
    assert RunFolder(wanted.out, TrainConfig).model.is_dir()


def test_the_config_beside_a_run_starts_the_same_run(config, tmp_path):
    wanted = config()
    train(wanted)
    again = load(RunFolder(wanted.out, TrainConfig).path / "config.toml", {"out": str(tmp_path / "again")})
    train(again)
    first, second = (
        json.loads((RunFolder(c.out, TrainConfig).path / "metrics.json").read_text())["loss_per_step"]
        for c in (wanted, again)
    )
    assert first == second
