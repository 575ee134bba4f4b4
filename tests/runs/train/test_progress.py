"""What a run tells while it runs."""

import io

import pytest
from rich.console import Console

from yanma.objectives import Report, Score
from yanma.report import progress
from yanma.report.progress import ProgressReporter, Speed
from yanma.runs.evaluate import table_of


def test_padding_is_counted_against_the_longest_of_each_step():
    speed = Speed()
    speed.add([10, 2], slots=12, seconds=1.0)
    speed.add([4, 4], slots=8, seconds=1.0)
    assert speed.padding_avoided == pytest.approx(1 - 20 / (2 * 10 + 2 * 4))
    assert speed.padding_computed == 0
    assert speed.tokens_per_s == 10
    speed = Speed()
    speed.add([10, 2], slots=64, seconds=1.0)
    assert speed.padding_computed == pytest.approx(1 - 12 / 64)
    assert "81 % of it padding" in speed.describe(), "more than padding to the longest: nothing was avoided"


def test_without_a_terminal_a_plain_line_comes_now_and_then(capsys, monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s[0])
    speed = Speed()
    speed.add([10, 2], slots=12, seconds=1.0)
    reporter = ProgressReporter(enabled=True)
    with reporter.counting(100):
        for done in range(1, 51):
            now_s[0] += 1.0
            reporter.step("epoch 1/2", done, f"loss 0.5000, {speed.describe()}")
    out, err = capsys.readouterr()
    assert out == "", "stdout is for data"
    lines = err.splitlines()
    assert len(lines) == 5, f"50 seconds, a line every 10: {lines}"
    assert lines[-1] == "epoch 1/2, step 50/100: loss 0.5000, 12 tokens/s, 40 % padding avoided, 0:50 left"


def test_in_a_terminal_a_bar_shows_loss_speed_padding_and_time_left(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
    speed = Speed()
    speed.add([10, 2], slots=12, seconds=1.0)
    reporter = ProgressReporter(enabled=True)
    with reporter.counting(2):
        reporter.step("epoch 1/1", 1, f"loss 0.2500, {speed.describe()}")
        reporter.note("a note")
    shown = screen.getvalue()
    for part in ("epoch 1/1", "loss 0.2500", "12 tokens/s", "40 % padding avoided", "left", "a note"):
        assert part in shown, f"{part!r} is not on the screen"


def test_other_ranks_are_silent(capsys):
    reporter = ProgressReporter(enabled=False)
    with reporter.counting(1):
        reporter.note("words")
        reporter.show(table_of(report(1), "title"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (75, "1:15"), (3675, "1:01:15")])
def test_clock(seconds, shown):
    assert progress._clock(seconds) == shown


def report(num_classes: int) -> Report:
    classes = {f"class {i:02}": Score(0.5, 0.5, i / 100, i) for i in range(num_classes)}
    return Report("accuracy", 0.75, 0.75, classes, {"macro": Score(0.1, 0.2, 0.3, 4)})


def rendered(shown) -> str:
    screen = io.StringIO()
    Console(file=screen, width=100).print(shown)
    return screen.getvalue()


def test_a_table_shows_every_class_and_the_averages():
    text = rendered(table_of(report(30), "test"))
    assert all(f"class {i:02}" in text for i in range(30))
    assert "macro average" in text and "accuracy 0.7500" in text


def test_a_short_table_shows_the_worst_classes_and_says_so():
    text = rendered(table_of(report(30), "validation", worst=5))
    assert [i for i in range(30) if f"class {i:02}" in text] == [0, 1, 2, 3, 4]
    assert "the 5 of 30 classes with the lowest F1" in " ".join(text.split())


def test_names_of_classes_are_shown_as_they_are():
    odd = Report("accuracy", 1.0, 1.0, {"[red]x[/red]": Score(1.0, 1.0, 1.0, 1)}, {})
    assert "[red]x[/red]" in rendered(table_of(odd, "test")), "brackets in a name are no markup"
