"""What is told while commands work: a bar in a terminal, plain lines now and then elsewhere."""

import io

import pytest
from rich.console import Console

from yanma import cli
from yanma.loading.tokenizer import learn_tokenizer
from yanma.report import progress
from yanma.report.progress import ProgressReporter


@pytest.fixture
def screen(monkeypatch):
    """What a terminal shows on stderr."""
    shown = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=shown, force_terminal=True, width=120))
    return shown


def test_each_reading_of_all_items_is_counted(screen, monkeypatch):
    monkeypatch.setattr(progress, "_TOLD_EVERY", 2)
    told = []
    reporter = ProgressReporter()
    monkeypatch.setattr(reporter, "step", lambda *arguments: told.append(arguments))
    read = reporter.reading(lambda: "abc", "texts")
    with reporter.counting(2):
        assert list(read()) == ["a", "b", "c"]
    assert told == [("reading 1 of 2", 0, "2 texts"), ("reading 1 of 2", 1, "3 texts")]


def test_pmi_shows_how_far_it_is(screen, tmp_path):
    (tmp_path / "a.txt").write_text("in new york .\n" * 20)
    with pytest.raises(SystemExit) as left:
        cli.main(["pmi", str(tmp_path / "a.txt"), "--out", str(tmp_path / "b.tsv")])
    assert left.value.code == 0
    for part in ("reading 5 of 5", "5/5", "20 texts"):
        assert part in screen.getvalue(), f"{part!r} is not on the screen"


def test_statistics_show_how_far_they_are(screen, tmp_path):
    learn_tokenizer(lambda: iter(["in new york ."] * 5)).save_pretrained(tmp_path)
    with pytest.raises(SystemExit) as left:
        cli.main(["corrupt", "in new york .", "--tokenizer", str(tmp_path), "--epochs", "7", "--stats"])
    assert left.value.code == 0
    for part in ("epoch 7", "7/7", "tokens"):
        assert part in screen.getvalue(), f"{part!r} is not on the screen"
