"""The bench of masks: correct before fast, its report, its page."""

from __future__ import annotations

import json
import sys

import pytest

from yanma.bench.masks import MARKERS
from yanma.bench.parity import ParityError


def test_a_quick_run_writes_its_part_of_the_page_and_nothing_else(tmp_path, run):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKERS.begin}\nold\n{MARKERS.end}\nafter\n", encoding="utf-8")
    code, out, _ = run("bench", "masks", "--quick", "--rounds", 1, "--json", "--write", page)
    assert code == 0
    report = json.loads(out)
    assert len(report["rows"]) == 6 and all(row["difference"] < 1e-5 for row in report["rows"])
    text = page.read_text(encoding="utf-8")
    assert (
        text.startswith(f"before\n{MARKERS.begin}\n")
        and text.endswith(f"{MARKERS.end}\nafter\n")
        and "old" not in text
    )
    assert "| window(64, 64), forward |" in text and "to the power" in text
    assert r"| window(64, 64) \| global_tokens(first=1), forward" in text, "a bar of a mask is no border"


def test_a_page_without_markers_is_refused_before_anything_is_measured(tmp_path, run, monkeypatch):
    monkeypatch.setattr(sys.modules["yanma.bench.masks"], "bench_masks", None)
    page = tmp_path / "page.md"
    page.write_text("nothing", encoding="utf-8")
    code, _, err = run("bench", "masks", "--write", page)
    assert code == 2 and "page.md: it must have these two lines" in err
    assert page.read_text(encoding="utf-8") == "nothing"


def test_no_time_without_parity(monkeypatch):
    masks = sys.modules["yanma.bench.masks"]
    monkeypatch.setattr(masks, "attention", lambda q, k, v, mask, backend: q + 1e-3)
    with pytest.raises(ParityError, match=r"^window\(64, 64\): off float64 by"):
        masks.bench_masks(1, quick=True)
