"""The page holds every number and nothing from elsewhere; Markdown goes between its markers."""

import re
from html import escape

import pytest

from yanma.compare_masking.arms import ARMS, BASELINE
from yanma.compare_masking.markdown import MARKERS, render
from yanma.compare_masking.outcome import METRICS, Outcome, paired
from yanma.compare_masking.page import page
from yanma.compare_masking.report import Report
from yanma.compare_masking.table import reading, table
from yanma.errors import ConfigError


def report(gain=0.0):
    """Every arm and metric with a number of its own; `gain` is what "word" has of validation loss."""
    outcomes = [
        Outcome(
            arm,
            seed,
            10,
            100,
            {
                metric.name: (place + 1) / 10 + column / 100 + (seed + place * seed % 3) / 1000
                + (gain if (arm, metric.name) == ("word", "validation loss") else 0)
                for column, metric in enumerate(METRICS)
            },
            {},
            {},
        )
        for place, arm in enumerate(ARMS)
        for seed in range(3)
    ]  # fmt: skip
    return Report("yanma compare-masking --train <a&b>.txt", "2026-11-25", (("corpus", "9 < 10"),),
                  paired(outcomes, tuple(ARMS)))  # fmt: skip


@pytest.fixture(scope="module")
def html():
    pytest.importorskip("matplotlib")
    return page(report())


def test_the_page_has_every_number_of_every_arm(html):
    found = report().lines()
    assert len(found) == len(METRICS) and all(len(lines) == len(ARMS) for lines in found)
    for lines in found:
        for cells in table(lines).rows:
            assert all(f"<td>{cell}</td>" in html for cell in cells), f"{lines[0].metric.name}: {cells}"
    for arm in ARMS.values():
        assert f"<dt>{arm.name}</dt><dd>{escape(arm.about)}</dd>" in html
    assert "--train &lt;a&amp;b&gt;.txt" in html and "9 &lt; 10" in html, "texts are escaped"


def test_the_page_needs_nothing_from_elsewhere(html):
    links = re.findall(r'(?:href|src)="([^"]*)"|url\(([^)]*)\)', html)
    assert links, "the plot's marks refer to shapes of the page: this test has lost its subject"
    assert all((link or inner).startswith("#") for link, inner in links), links
    assert not re.findall(r"<(?:script|link|iframe|img|image)\b|@import", html)
    assert html.count("<svg") == 2 and "<!DOCTYPE svg" not in html and "prefers-color-scheme:dark" in html
    assert "#000000" not in html and "#2563eb" not in html.split("</style>", 1)[1], (
        "the plot takes the page's colours"
    )
    assert html == page(report()), "the same bytes"


def test_the_reading_presumes_no_winner():
    """Differences either way are told with their sign, and how many there would be by chance."""
    assert "word, validation loss (-2.0000" not in reading(report().pairs)
    for gain in (-9.0, 9.0):
        told = reading(report(gain).pairs)
        assert f"word, validation loss ({'+' if gain > 0 else '-'}" in told
        assert "about 0.9 would by chance" in told, "18 differences at 95 %"


def test_markdown_is_rewritten_between_its_markers(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(f"# Mine\n\n{MARKERS.begin}\nof last year\n{MARKERS.end}\n\nAfter.\n")
    MARKERS.check(path)
    assert "of last year" in path.read_text(), "a check writes nothing"
    MARKERS.write(path, [render(report())])
    text = path.read_text()
    MARKERS.write(path, [render(report())])
    assert path.read_text() == text, "writing twice changes nothing"
    assert text.startswith("# Mine\n") and text.endswith("\n\nAfter.\n") and "last year" not in text
    tables = text.count("|---|")
    assert tables == len(METRICS) and all(text.count(f"\n| {arm} |") == tables for arm in ARMS)
    (line,) = re.findall(
        rf"^\| {BASELINE} \|.*$", text.split("**Validation loss")[1].split("**")[1], re.MULTILINE
    )
    assert line.endswith("|  |  |  |"), "the baseline has no difference from itself"


@pytest.mark.parametrize("text", [None, "# No markers\n", f"{MARKERS.end}\n{MARKERS.begin}\n"])
def test_a_page_without_its_markers_is_refused_before_anything_is_computed(tmp_path, text):
    path = tmp_path / "page.md"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"page\.md: "):
        MARKERS.check(path)
