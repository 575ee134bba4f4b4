"""The command: flags for every setting, one line for every mistake, and where things are after Ctrl-C."""

import json

import pytest

from yanma.runs import pretrain_setup as setup
from yanma.runs.stepper import Stepper


def test_a_run_from_flags_prints_its_figures_and_goes_on_without_them(run, flags, corpus, tmp_path):
    code, out, err = run("pretrain", *flags(), "--train", corpus, "--no-hard-tokens", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["steps"] == 3 and told["validation"]["units"]["word"]["tokens"] > 5
    sources = json.dumps([str(corpus)] * 2)
    assert f"train = {sources}" in (tmp_path / "run" / "config.toml").read_text(), "--train may be repeated"
    code, out, err = run("pretrain", "--resume", "--out", tmp_path / "run", "--json")
    assert (code, json.loads(out)) == (0, told), err
    assert "step-00000003: the run is finished, all its steps are done; it is measured once more" in err
    assert "tokens/s" not in err, "nothing was computed, so nothing is said of its speed"


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--rate", "x"), 2, "error: --rate: 'x' is no rate; give a share as 0.15"),
        (("--overwrite", "--resume"), 2, "error: --overwrite and --resume exclude each other"),
        (("--resume",), 2, "holds no run (no config.toml in it); begin one without --resume"),
        (("--train", "none.txt"), 1, "error: none.txt: no such file or folder"),
        (("--validation", "none.txt"), 1, "error: --validation none.txt: no such file or folder"),
        (("--unit", "phrase", "--phrases", "none.tsv"), 1, "error: --phrases none.tsv: no such file"),
        (
            ("--unit", "phrase", "--phrases", "empty.txt"),
            1,
            "error: empty.txt: no collocation in it; give yanma pmi more text",
        ),
        (
            ("--rate", "0.9"),
            2,
            "error: --rate: give a share above 0 and up to 0.8",
        ),
        (("--batch-tokens", "4"), 2, "error: --batch-tokens: 4 is less than one block of 48 tokens"),
        (
            ("--out", "empty.txt/x"),
            2,
            "error: --out empty.txt/x: nothing can be written there: Not a directory",
        ),
        (("--train", "empty.txt"), 1, "error: empty.txt: no text in it"),
        (("--tokenizer", "none", "--vocab-size", "8192"), 2, "error: none: no tokenizer in it"),
    ],
)
def test_a_mistake_is_one_line(run, flags, tmp_path, monkeypatch, more, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").mkdir()
    (tmp_path / "empty.txt").write_text("")

    def too_late(*args, **kwargs):
        raise AssertionError("the tokenizer was learned, and the mistake not yet told")

    monkeypatch.setattr(setup, "learn_tokenizer", too_late)
    once = {"--out": "out", "--batch-tokens": "batch_tokens", "--vocab-size": "vocab_size"}
    given = flags(**{name: None for flag, name in once.items() if flag in more})
    given = flags(train=None) if "empty.txt" in more and "--train" in more else given
    found, out, err = run("pretrain", *given, *more)
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
    assert last.startswith(
        f"interrupted; {tmp_path / 'run' / 'model'}: step 2 of 3 (epoch 1), validation: loss "
    ), last
    assert last.endswith(f"; --resume goes on from {tmp_path / 'run' / 'checkpoints' / 'step-00000002'}")


def test_ctrl_c_before_the_first_checkpoint_says_that_resume_begins_again(run, flags, monkeypatch, tmp_path):
    def stopping(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Stepper, "move", stopping)
    code, out, err = run("pretrain", *flags())
    assert (code, out) == (130, "")
    folder = tmp_path / "run"
    said = f"interrupted; {folder}: no model yet, none was saved; --resume begins again at step 0"
    assert err.splitlines()[-1] == said
    monkeypatch.undo()
    code, out, err = run("pretrain", "--resume", "--out", folder)
    assert code == 0 and "step 3/3 (epoch 1)" in err, "and it does"


def test_a_run_of_the_other_command_is_called_by_its_name(run, flags, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"text": f"a {x} fox", "label": x}) + "\n" for x in ("red", "blue") * 4)
    )
    task = ("--task", "sequence-classification", "--train", rows, "--epochs", 1)
    pretrained, tuned = tmp_path / "run", tmp_path / "tuned"
    assert run("pretrain", *flags(steps=1))[0] == 0
    assert run("train", *task, "--model", pretrained / "model", "--out", tuned)[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    of_pretrain, of_train = "a run of yanma pretrain", "a run of yanma train"
    for command, message in (
        (("predict", pretrained, rows), f"this is {of_pretrain}, not of yanma train"),
        (("evaluate", pretrained, rows), f"yanma train --model {pretrained / 'model'}"),
        (("pretrain", "--resume", "--out", tuned), f"holds {of_train}, not of yanma pretrain"),
        (("pretrain", *flags(out=tuned), "--overwrite"), f"holds {of_train}, which yanma pretrain"),
        (
            ("train", *task, "--from-scratch", "bert-tiny", "--out", pretrained, "--overwrite"),
            f"holds {of_pretrain}, which yanma train --overwrite does not replace",
        ),
        (
            ("train", *task, "--model", tuned / "model", "--out", tuned, "--overwrite"),
            f"{tuned / 'model'} is in the run that --overwrite would replace",
        ),
        (
            ("pretrain", *flags(tokenizer=pretrained / "model", vocab_size=None), "--overwrite"),
            f"{pretrained / 'model'} is in the run that --overwrite would replace",
        ),
        (
            ("train", *task, "--model", pretrained, "--out", tmp_path / "x"),
            f"not a model folder; did you mean {pretrained / 'model'}?",
        ),
        (
            ("pretrain", *flags(tokenizer=pretrained, vocab_size=None, out=tmp_path / "x")),
            f"vocab.txt, ...); did you mean {pretrained / 'model'}?",
        ),
    ):
        code, out, err = run(*command)
        assert (code, out) == (2, "") and message in err, (command, err)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_corpus_of_two_short_texts_is_told_as_it_is(run, flags, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("the red fox waits\n" * 2)
    code, _, err = run("pretrain", *flags(train=short, steps=1, vocab_size=900))
    assert code == 0, err
    assert "tokens (of 900: its texts have no more) was learned from train" in err
    assert "1 of 2 texts held out for validation" in err and "train: 1 block, " in err
    code, _, err = run("pretrain", *flags(train=short, steps=1, vocab_size=32, out=tmp_path / "few"))
    assert code == 0 and "a wordpiece tokenizer of 32 tokens was learned from train" in err, err
