"""The bench of pre-training: the same texts for all, correct before fast, its report, its page."""

from __future__ import annotations

import json

import pytest
import torch

from yanma import cli, unpad
from yanma.bench import ParityError, pretraining
from yanma.bench.contestants_pretraining import YANMA
from yanma.bench.pretraining import MARKERS, MASK, MAX_LENGTH, QUICK_SHAPES, SPECIAL
from yanma.corruption import IGNORE


def test_a_quick_run_writes_its_part_of_the_page_and_nothing_else(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKERS.empty}after\n", encoding="utf-8")
    with pytest.raises(SystemExit) as done:
        cli.main(["bench", "pretraining", "--quick", "--rounds", "1", "--json", "--write", str(page)])
    assert done.value.code == 0
    report = json.loads(capsys.readouterr().out)
    assert [len(section["rows"]) for section in report["sections"]] == [5, 5]
    rows = [row for section in report["sections"] for row in section["rows"]]
    assert all(row["loss"] < 1e-5 and row["gradient"] < 1e-5 and row["times_yanma"] > 0 for row in rows)
    assert all(row["peak_mib"] is None or row["peak_mib"] > 100 for row in rows)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{MARKERS.begin}\n") and text.endswith(f"{MARKERS.end}\nafter\n")
    assert "### XLM-R with 5,000 words" in text and f"| {YANMA} | 32 |" in text


@pytest.fixture
def everyone():
    shape = QUICK_SHAPES[0]
    return shape.contestants(shape.model(), unpad(shape.model()), 32)


def test_everyone_hides_as_many_tokens_and_never_special_ones(everyone):
    texts = QUICK_SHAPES[0].texts(64)
    for contestant in everyone:
        batch, labels = contestant.corrupted(texts, range(64))
        assert 0.1 < int((labels != IGNORE).sum()) / sum(map(len, texts)) < 0.18, contestant.name
        assert labels[labels != IGNORE].min() >= len(SPECIAL)
        ids = batch["input_ids"] if isinstance(batch, dict) else batch.input_ids
        assert (ids == MASK).any()


def test_static_padding_has_its_width_and_the_others_their_longest_text(everyone):
    texts = QUICK_SHAPES[0].texts(8)
    examples = [
        (torch.tensor(text), torch.full((len(text),), IGNORE).index_fill(0, torch.tensor(1), 7))
        for text in texts
    ]
    for contestant, width in zip(everyone[:3], (MAX_LENGTH, None, None), strict=True):
        for batch, labels in (contestant.corrupted(texts, range(8)), contestant.laid(examples)):
            assert labels.shape == batch["attention_mask"].shape == (8, width or max(map(len, texts)))
            assert batch["attention_mask"].sum() == sum(map(len, texts))


def test_no_time_without_parity(monkeypatch):
    stock = pretraining.unpad

    def spoilt(model):
        with torch.no_grad():
            model.get_input_embeddings().weight[10:] += 0.01
        return stock(model)

    monkeypatch.setattr(pretraining, "unpad", spoilt)
    with pytest.raises(
        ParityError, match=r"^yanma, logits of all tokens: loss is off float64, one text at a time"
    ):
        pretraining.bench_pretraining(1, quick=True)
