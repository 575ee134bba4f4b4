"""The command: flags for every setting, one line for every mistake, and where things are after Ctrl-C."""

import json

import pytest

from yanma import cli
from yanma.pretraining.stepper import Stepper


@pytest.fixture
def run(capsys):
    """Exit code, stdout and stderr of a command."""

    def started(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return caught.value.code, printed.out, printed.err

    return started


@pytest.fixture
def flags(settings):
    """A short run's settings as they are typed."""

    def make(*args, **more):
        given = {name: value for name, value in settings(*args, **more).items() if value is not None}
        return [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]

    return make


def test_a_run_from_flags_prints_its_figures_and_goes_on_without_them(run, flags, corpus, tmp_path):
    code, out, err = run("pretrain", *flags(), "--train", corpus, "--no-hard-tokens", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["steps"] == 3 and told["validation"]["units"]["word"]["tokens"] > 5
    sources = json.dumps([str(corpus)] * 2)
    assert f"train = {sources}" in (tmp_path / "run" / "config.toml").read_text(), "--train may be repeated"
    code, out, err = run("pretrain", "--resume", "--out", tmp_path / "run", "--json")
    assert (code, json.loads(out)) == (0, told), err
    assert "the run goes on after step 3" in err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--rate", "x"), 2, "error: --rate: 'x' is no rate; give a share as 0.15"),
        (("--overwrite", "--resume"), 2, "error: --overwrite and --resume exclude each other"),
        (("--resume",), 2, "holds no run (no config.toml in it); begin one without --resume"),
        (("--train", "none.txt"), 1, "error: none.txt: no such file or folder"),
        (("--tokenizer", "none", "--vocab-size", "8192"), 2, "error: none: no tokenizer in it"),
    ],
)
def test_a_mistake_is_one_line(run, flags, tmp_path, monkeypatch, more, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").mkdir()
    found, out, err = run("pretrain", *flags(), *more)
    assert (found, out) == (code, "") and message in err and err.count("\n") == 1, err
    assert not (tmp_path / "run").exists()


def test_ctrl_c_says_where_things_are(run, flags, monkeypatch, tmp_path):
    genuine, moves = Stepper.move, []

    def stopping(self, *args, **kwargs):
        if len(moves) == 2:
            raise KeyboardInterrupt
        moves.append(1)
        return genuine(self, *args, **kwargs)

    monkeypatch.setattr(Stepper, "move", stopping)
    code, out, err = run("pretrain", *flags(evaluate_every=1, save_every=1))
    assert (code, out) == (130, "")
    last = err.splitlines()[-1]
    assert last.startswith(f"interrupted; {tmp_path / 'run' / 'model'}: step 2 of 3, validation loss "), last
    assert last.endswith(f"; --resume goes on from {tmp_path / 'run' / 'checkpoints' / 'step-00000002'}")
