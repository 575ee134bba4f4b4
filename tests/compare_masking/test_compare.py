"""A tiny comparison from text to page: pairs share what they should, and a second call goes on."""

import io
import json
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from rich.console import Console

from yanma.compare_masking import compare
from yanma.compare_masking.compare import compare_masking
from yanma.compare_masking.config import ComparisonConfig
from yanma.compare_masking.prepare import Shared, prepare
from yanma.compare_masking.run import Runner
from yanma.errors import ConfigError, DataError, Unsupported
from yanma.report import progress
from yanma.report.progress import ProgressReporter
from yanma.runs.stepper import Stepper
from yanma.settings import read, to_toml

pytest.importorskip("matplotlib")
SILENT = ProgressReporter(enabled=False)
WORDS = "the bank of new york lost a card and my app paid it twice so where is london money".split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    drawn = random.Random(0)
    lines = [" ".join(drawn.choices(WORDS, k=drawn.randrange(3, 25))) for _ in range(60)]
    (folder / "text.txt").write_text("\n".join(lines))
    rows = [{"text": line, "label": "money" if "money" in line else "none"} for line in lines]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def config(data, out, **flags):
    usual = {"train": (str(data / "text.txt"),), "out": str(out), "arms": "static-1,dynamic", "seeds": 2,
             "steps": 3, "batch_tokens": 512, "max_length": 32, "vocab_size": 120}  # fmt: skip
    return read(ComparisonConfig, flags=usual | flags)


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs without a process of their own, where what they do can be watched."""

    @contextmanager
    def here(jobs):
        with ThreadPoolExecutor(1) as executor:
            yield executor

    monkeypatch.setattr(compare, "processes", here)


def test_from_text_to_page_in_processes_of_their_own(data, tmp_path):
    probe = {
        "probe_train": str(data / "rows.jsonl"),
        "probe_test": str(data / "rows.jsonl"),
        "probe_epochs": 1,
    }
    report = compare_masking(config(data, tmp_path / "out", jobs=2, **probe), reporter=SILENT)
    assert report.pairs.arms == ("static-1", "dynamic") and report.pairs.seeds == (0, 1)
    assert {outcome.steps for outcome in report.pairs.outcomes.values()} == {3}
    assert [metric.name for metric in report.pairs.metrics][-1] == "probe macro F1"
    page = (tmp_path / "out" / "page.html").read_text("utf-8")
    assert "static-1" in page and "<svg" in page
    names = {path.name for path in (tmp_path / "out" / "runs" / "dynamic-1").iterdir()}
    assert names == {"log.txt"}, f"no weights are left: {names}"

    shared = Shared(tmp_path / "out" / "shared")
    alone = Runner(config(data, tmp_path / "out"), tmp_path / "alone", shared)("dynamic", 1)
    there = report.pairs.outcomes["dynamic", 1]
    assert alone.figures["validation loss"] == pytest.approx(there.figures["validation loss"], rel=1e-6)
    assert alone.shared == there.shared


def test_arms_of_a_seed_share_weights_blocks_order_and_dropout_and_hide_other_tokens(
    data, tmp_path, in_this_process, monkeypatch
):
    moves, real = [], Stepper.move

    def watched(self, step, place, **how):
        weights = (
            torch.cat([p.detach().flatten() for p in self._parameters]).sum().item()
            if not place.progress
            else 0
        )
        hidden = self._prepared(step, place).examples
        labels = torch.cat([example.targets for example in hidden]).tolist()
        moves.append(
            ([block.key for block in step], place, self._seed, how["learning_rate"], weights, labels)
        )
        return real(self, step, place, **how)

    monkeypatch.setattr(Stepper, "move", watched)
    report = compare_masking(config(data, tmp_path, steps=4), reporter=SILENT)
    runs = [moves[start : start + 4] for start in range(0, 16, 4)]
    assert len(moves) == 16, "2 arms, 2 seeds, 4 steps"
    (static, dynamic), (_, other_seed) = runs[:2], runs[2:]
    assert [move[:5] for move in static] == [move[:5] for move in dynamic], "all but what is hidden is shared"
    assert [move[:5] for move in dynamic] != [move[:5] for move in other_seed]
    assert {move[1].epoch for move in static} == {0, 1}, "the arms come to a second epoch"
    assert [m[5] for m in static if m[1].epoch == 0] == [m[5] for m in dynamic if m[1].epoch == 0]
    assert [m[5] for m in static if m[1].epoch > 0] != [m[5] for m in dynamic if m[1].epoch > 0]
    (judged,) = {outcome.shared["judged tokens"] for outcome in report.pairs.outcomes.values()}
    assert int(judged) > 0, "every run of every seed is judged on the same tokens"


def test_a_second_call_computes_what_is_missing_and_refuses_other_settings(
    data, tmp_path, in_this_process, monkeypatch
):
    asked, real = [], Runner.__call__

    def counted(self, arm, seed):
        asked.append((arm, seed))
        return real(self, arm, seed)

    monkeypatch.setattr(Runner, "__call__", counted)
    first = compare_masking(config(data, tmp_path), reporter=SILENT)
    assert len(asked) == 4
    again = compare_masking(config(data, tmp_path, arms="dynamic,word", seeds=2), reporter=SILENT)
    assert asked[4:] == [("word", 0), ("word", 1)], "an arm more: only its runs"
    assert again.pairs.outcomes["dynamic", 1] == first.pairs.outcomes["dynamic", 1]
    with pytest.raises(ConfigError, match=r"`steps` is 4, but what is in .* was made with 3; name"):
        compare_masking(config(data, tmp_path, steps=4), reporter=SILENT)


def test_a_comparison_goes_on_whose_settings_have_their_name_of_before(
    data, tmp_path, in_this_process, monkeypatch
):
    compare_masking(config(data, tmp_path), reporter=SILENT)
    (tmp_path / "comparison.toml").rename(tmp_path / "laboratory.toml")
    with pytest.raises(ConfigError, match=r"`steps` is 4, but what is in .* was made with 3; name"):
        compare_masking(config(data, tmp_path, steps=4), reporter=SILENT)
    monkeypatch.setattr(Runner, "__call__", lambda *_: pytest.fail("nothing is computed again"))
    compare_masking(config(data, tmp_path), reporter=SILENT)
    assert [path.name for path in tmp_path.glob("*.toml")] == ["comparison.toml"]


def test_preparing_shows_how_far_it_is(data, tmp_path, monkeypatch):
    screen, turns = io.StringIO(), []
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
    reporter = ProgressReporter()
    turn = reporter.turn
    monkeypatch.setattr(reporter, "turn", lambda who: (turns.append(who), turn(who)))
    prepare(config(data, tmp_path), tmp_path, reporter)
    weights = ["weights of seed 0", "weights of seed 1"]
    assert turns == ["texts and tokenizer", "collocations", *weights]
    assert "4/4" in screen.getvalue() and "weights of seed 1" in screen.getvalue()


def test_a_run_that_fails_is_named_with_its_log(data, tmp_path, in_this_process, monkeypatch):
    def broken(self, step, place, **how):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Stepper, "move", broken)
    with pytest.raises(
        DataError, match=r"4 of 4 runs failed.*static-1, seed 0: RuntimeError: out of luck; more in"
    ):
        compare_masking(config(data, tmp_path), reporter=SILENT)
    assert "Traceback" in (tmp_path / "runs" / "dynamic-1" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"arms": "dynamic,statik"}, "`arms`: there is no 'statik'; did you mean 'static-1'?"),
        ({"arms": "word,span"}, "`arms`: differences are taken from dynamic"),
        ({"arms": "dynamic"}, "name it and at least one other arm"),
        ({"seeds": 1}, "`seeds`: must be greater than or equal to 2"),
        ({"epochs": 2}, "`epochs` and `steps`"),
        ({"probe_train": "a.jsonl"}, "`probe_train` and `probe_test` go together"),
        ({"validation": 1.5}, "`validation`: 1.5 is no share"),
    ],
)
def test_wrong_settings_are_refused_by_name(data, tmp_path, flags, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        config(data, tmp_path, **flags)


def test_arms_that_would_be_others_under_another_name_are_refused(data, tmp_path, in_this_process):
    with pytest.raises(
        ConfigError, match=r"static-10 has 10 copies .* has 2 epochs: no mask would come twice"
    ):
        compare_masking(config(data, tmp_path / "a", arms="static-10,dynamic"), reporter=SILENT)
    with pytest.raises(ConfigError, match=r"static-1 has 1 copy of each text and a run has 1 epoch: no mask"):
        compare_masking(config(data, tmp_path / "a", steps=1), reporter=SILENT)
    assert not (tmp_path / "a").exists(), "a refused call leaves nothing that binds the next"
    rare = tmp_path / "rare.txt"
    rare.write_text("\n".join(f"word{number} follows nothing{number}" for number in range(9)))
    with pytest.raises(DataError, match="the arm pmi would be the arm word"):
        compare_masking(config(data, tmp_path / "b", train=(str(rare),), arms="dynamic,pmi"), reporter=SILENT)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"train": ("{0}/empty.txt",)}, r"empty\.txt: no text in it"),
        ({"column": "body"}, r"`column` is 'body', but .*text\.txt is plain text without columns"),
        ({"train": ("{0}/one.txt",)}, r"one\.txt: one text alone cannot be both learned from and held out"),
        ({"probe_train": "{0}/none.jsonl"}, r"none\.jsonl: no such file"),
        ({"probe_test": "{0}/none.jsonl"}, r"none\.jsonl: no such file"),
        ({"probe_columns": "label=intent"}, r"rows\.jsonl:1: no column 'intent'"),
        ({"probe_columns": "lable=label"}, r"`probe_columns`: this task has no column 'lable'"),
    ],
)
def test_what_cannot_be_read_is_found_before_a_run_and_binds_nothing(
    data, tmp_path, in_this_process, monkeypatch, flags, told
):
    monkeypatch.setattr(Runner, "__call__", lambda *_: pytest.fail("no run should begin"))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "one.txt").write_text("one text")
    rows = str(data / "rows.jsonl")
    given = {"probe_train": rows, "probe_test": rows} | {
        name: tuple(part.format(tmp_path) for part in value)
        if isinstance(value, tuple)
        else value.format(tmp_path)
        for name, value in flags.items()
    }
    out = tmp_path / "runs" / "out"
    with pytest.raises((ConfigError, DataError), match=told):
        compare_masking(config(data, out, **given), reporter=SILENT)
    assert not out.parent.exists()


def test_settings_bind_only_where_something_was_made_by_them(data, tmp_path, in_this_process):
    other = config(data, tmp_path, steps=7)
    (tmp_path / "comparison.toml").write_text(to_toml(other))
    compare_masking(config(data, tmp_path), reporter=SILENT)
    with pytest.raises(
        ConfigError, match=r"`train` is none\.txt, but what is in .* was made with .*text\.txt;"
    ):
        compare_masking(config(data, tmp_path, train=("none.txt",)), reporter=SILENT)


def test_without_matplotlib_nothing_is_computed(data, tmp_path, in_this_process, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(Unsupported, match=r"^the page's plot needs the package matplotlib: pip install"):
        compare_masking(config(data, tmp_path / "out"), reporter=SILENT)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(data, tmp_path, in_this_process):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no comparison"):
        compare_masking(config(data, tmp_path), reporter=SILENT)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    (tmp_path / "letter.txt").rename(tmp_path / "config.toml")  # as a run's folder has one
    with pytest.raises(ConfigError, match="holds no comparison"):
        compare_masking(config(data, tmp_path), reporter=SILENT)
    assert (tmp_path / "config.toml").read_text() == "mine"
