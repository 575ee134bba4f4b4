"""The page's measured part is rewritten; what people wrote stays."""

import pytest

from yanma.bench.measure import Timing
from yanma.bench.parity import Verdict
from yanma.bench.report import MARKERS, Report, Row, Section, here
from yanma.errors import ConfigError

OURS = Row("yanma", Timing((1.0, 2.0, 3.0)), "4096 tokens", 0.0, Verdict(2e-7, 1e-5, 1.0, 1.0))
THEIRS = Row("HF", Timing((2.0, 6.0, 6.0)), "32 texts", 0.5, Verdict(1e-7, 1e-5, 1.0, 1.0))
SECTION = Section(
    "embeddings",
    "Embeddings",
    "drawn lengths",
    "random words",
    1000,
    (THEIRS, OURS),
    (("Other", "not installed"),),
)
REPORT = Report(here(), "tiny", "yanma bench --rounds 3", 3, False, (SECTION,))


def test_a_new_page_is_made_and_rewritten(tmp_path):
    path = tmp_path / "benchmarks.md"
    MARKERS.write(path, REPORT.lines())
    first = path.read_text()
    MARKERS.write(path, REPORT.lines())
    assert path.read_text() == first, "writing twice changes nothing"
    assert first.startswith("# Benchmarks\n")
    assert "| HF | 32 texts | 6.000 | 3.600-6.000 | 2.000 | 167 | 50 % | 2.00 | 1.0e-07 |" in first
    assert "`yanma bench --rounds 3`, 3 rounds." in first
    assert "Other: not installed." in first
    assert "### What is not claimed" in first


def test_what_people_wrote_around_it_stays(tmp_path):
    path = tmp_path / "benchmarks.md"
    path.write_text(
        f"# Mine\n\nBefore.\n\n{MARKERS.begin}\nof last year\n{MARKERS.end}\n\n## Training on real data\n\nAfter.\n"
    )
    MARKERS.write(path, REPORT.lines())
    text = path.read_text()
    assert text.startswith(f"# Mine\n\nBefore.\n\n{MARKERS.begin}\n")
    assert text.endswith(f"{MARKERS.end}\n\n## Training on real data\n\nAfter.\n")
    assert "of last year" not in text and "tiny" in text


@pytest.mark.parametrize(
    "text",
    [
        "# No markers\n",
        f"{MARKERS.end}\n{MARKERS.begin}\n",
        f"{MARKERS.begin}\n{MARKERS.begin}\n{MARKERS.end}\n",
    ],
)
def test_a_page_without_its_markers_is_refused_before_anything_is_measured(tmp_path, text):
    path = tmp_path / "benchmarks.md"
    path.write_text(text)
    with pytest.raises(ConfigError, match="two lines"):
        MARKERS.check(path)
    with pytest.raises(ConfigError, match="no folder"):
        MARKERS.check(tmp_path / "nowhere" / "benchmarks.md")


def test_a_quick_run_says_so():
    quick = Report(REPORT.machine, "tiny", "yanma bench --quick", 2, True, (SECTION,))
    assert "too short to be quoted" in "\n".join(quick.lines())
    assert "too short to be quoted" not in "\n".join(REPORT.lines())
