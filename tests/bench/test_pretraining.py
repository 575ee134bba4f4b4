"""The bench of pre-training: the same texts for all, correct before fast, its report, its page."""

from __future__ import annotations

import json

import pytest
import torch

from yanma import unpad
from yanma.bench import hf, ours, pretraining
from yanma.bench.parity import ParityError
from yanma.bench.pretraining import MARKERS, MASK, MAX_LENGTH, QUICK_SHAPES, SPECIAL
from yanma.corruption import IGNORE


def test_a_quick_run_writes_its_part_of_the_page_and_nothing_else(tmp_path, run):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKERS.empty}after\n", encoding="utf-8")
    code, out, _ = run("bench", "pretraining", "--quick", "--rounds", 1, "--json", "--write", page)
    assert code == 0
    report = json.loads(out)
    assert [len(section["rows"]) for section in report["sections"]] == [5, 5]
    rows = [row for section in report["sections"] for row in section["rows"]]
    assert all(row["verdict"][part] < 1e-5 for row in rows for part in ("loss", "gradient"))
    assert all(row["times_yanma"] > 0 for row in rows)
    assert all(row["peak_mib"] is None or row["peak_mib"] > 100 for row in rows)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{MARKERS.begin}\n") and text.endswith(f"{MARKERS.end}\nafter\n")
    assert "### XLM-R with 5,000 words" in text and f"| {ours.FP32} | 32 |" in text


SHAPE = QUICK_SHAPES[0]


@pytest.fixture
def everyone():
    return [*SHAPE.padded(SHAPE.model()), *SHAPE.packed(unpad(SHAPE.model()))]


@pytest.fixture
def computed(everyone, monkeypatch):
    """(input_ids, valid or None, labels) of each batch that a model was given, by contestant, in a step of 32 texts."""
    given = {each.name: [] for each in everyone}
    texts = SHAPE.texts(32)

    def watched(name, forward):
        def watch(*pack, **named):
            ids = pack[0].input_ids if pack else named["input_ids"]
            given[name].append((ids, named.get("attention_mask"), named.get("labels")))
            return forward(*pack, **named)

        return watch

    for each in everyone:
        with monkeypatch.context() as patched:
            patched.setattr(each.model, "forward", watched(each.name, each.model.forward))
            each.run(texts, 32)
    return given


def test_everyone_hides_as_many_tokens_and_never_special_ones(computed):
    texts = SHAPE.texts(32)
    assert len(computed) == 5
    for name, batches in computed.items():
        ids = torch.cat([ids.flatten() for ids, _, _ in batches])
        assert (ids == MASK).any(), name
        if name == ours.ALL_LOGITS:
            continue  # its labels are not the model's affair
        labels = torch.cat([labels.flatten() for _, _, labels in batches])
        assert 0.1 < int((labels != IGNORE).sum()) / texts.num_tokens < 0.2, name
        assert labels[labels != IGNORE].min() >= len(SPECIAL)
    assert torch.equal(computed[ours.ALL_LOGITS][0][0], computed[ours.FP32][0][0]), (
        "yanma hides the same twice"
    )


def test_static_padding_has_its_width_and_the_others_their_longest_text(computed):
    texts = SHAPE.texts(32)
    for name, width in ((f"{hf.STATIC} to {MAX_LENGTH}", MAX_LENGTH), (hf.LONGEST, None), (hf.SORTED, None)):
        ((ids, valid, labels),) = computed[name]
        assert ids.shape == valid.shape == labels.shape == (32, width or max(texts.lengths)), name
        assert valid.sum() == texts.num_tokens


def test_texts_that_are_corrupted_already_are_computed_as_they_are(everyone):
    """So that all are compared on the same; each loss is that of these labels."""
    given = SHAPE.corrupted(8)
    scored = sum(int((labels != IGNORE).sum()) for labels in given.labels)
    assert scored > 8 and any(MASK in ids for ids in given.sequences)
    losses = []
    for each in everyone:
        with pretraining.parity.without_dropout(each.model):
            (loss,) = each.run(given, each.sizes[-1])
        losses.append(float(loss))
    assert max(losses) - min(losses) < 1e-5 and min(losses) > 1


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
