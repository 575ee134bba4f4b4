"""Metrics of Trainer over packs: those of padded batches, document by document."""

import copy
import logging

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score
from transformers import EvalPrediction, Trainer, TrainingArguments

import yanma
from models.builders import FAMILIES, build
from yanma.models import by_document, collator

BERT = next(family for family in FAMILIES if family.model_type == "bert")
LENGTHS = (4, 9, 2, 5, 7, 3, 6)
TAGS = ("O", "B-X", "I-X")


def examples():
    draw = torch.Generator().manual_seed(0)
    found = []
    for length in LENGTHS:
        ids = torch.randint(5, 100, (length,), generator=draw).tolist()
        tags = torch.randint(0, 3, (length,), generator=draw).tolist()
        found.append({"input_ids": ids, "labels": [-100, *tags[1:]]})
    return found


def to_longest(rows):
    width = max(len(row["input_ids"]) for row in rows)
    fill = lambda ids, value: [*ids, *[value] * (width - len(ids))]  # noqa: E731
    return {
        "input_ids": torch.tensor([fill(row["input_ids"], 0) for row in rows]),
        "attention_mask": torch.tensor([fill([1] * len(row["input_ids"]), 0) for row in rows]),
        "labels": torch.tensor([fill(row["labels"], -100) for row in rows]),
    }


def seqeval_f1(found):
    """As the course of transformers has it: rows are sentences, -100 is left out."""
    best = found.predictions.argmax(-1)
    kept = [label != -100 for label in found.label_ids]
    truth = [[TAGS[t] for t in row[keep]] for row, keep in zip(found.label_ids, kept, strict=True)]
    said = [[TAGS[t] for t in row[keep]] for row, keep in zip(best, kept, strict=True)]
    return {"f1": f1_score(truth, said), "sentences": len(truth)}


def evaluated(model, collate, metrics, folder, **more):
    args = TrainingArguments(
        output_dir=str(folder), per_device_eval_batch_size=3, report_to=[], use_cpu=True, disable_tqdm=True,
        dataloader_pin_memory=False, **more,
    )  # fmt: skip
    trainer = Trainer(
        model=model, args=args, eval_dataset=examples(), data_collator=collate, compute_metrics=metrics
    )
    return trainer.evaluate()


PACKED = {"label_names": ["labels", "seq_idx"]}


def test_metrics_by_document_are_those_of_padded_batches(tmp_path):
    stock = build(BERT, "BertForTokenClassification").eval()
    ours, collate = yanma.unpad(copy.deepcopy(stock)), yanma.PackedCollator(seq_idx=True)
    expected = evaluated(stock, to_longest, seqeval_f1, tmp_path)
    found = evaluated(ours, collate, by_document(seqeval_f1), tmp_path, **PACKED)
    assert expected["eval_sentences"] == found["eval_sentences"] == len(LENGTHS)
    assert 0 < found["eval_f1"] == expected["eval_f1"]
    assert found["eval_loss"] == pytest.approx(expected["eval_loss"], abs=1e-5)
    as_packs = evaluated(ours, yanma.PackedCollator(), seqeval_f1, tmp_path)
    assert as_packs["eval_sentences"] == 3 and as_packs["eval_f1"] != expected["eval_f1"], "a row is a pack"


def test_what_is_made_of_logits_beforehand_and_inputs_are_parted_too(tmp_path):
    ours, seen = yanma.unpad(build(BERT, "BertForTokenClassification")), {}

    def keep(found):
        seen["found"] = found
        return {}

    collate = yanma.PackedCollator(seq_idx=True)
    args = TrainingArguments(
        output_dir=str(tmp_path), per_device_eval_batch_size=3, report_to=[], use_cpu=True, disable_tqdm=True,
        include_for_metrics=["inputs"], **PACKED,
    )  # fmt: skip
    best = Trainer(
        model=ours, args=args, eval_dataset=examples(), data_collator=collate, compute_metrics=by_document(keep),
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
    )  # fmt: skip
    best.evaluate()
    found = seen["found"]
    assert found.predictions.shape == found.label_ids.shape == found.inputs.shape == (7, 9)
    for row, example in zip(found.inputs, examples(), strict=True):
        assert row.tolist() == [*example["input_ids"], *[-100] * (9 - len(example["input_ids"]))]


def test_the_place_of_answers_stays_by_document():
    seq_idx = np.array([[0, 0, 1, 1, 1], [0, 0, 0, -100, -100]])
    starts, answers = np.arange(10).reshape(2, 5), np.array([1, 0, 2])
    seen = {}
    found = EvalPrediction(predictions=(starts, starts + 10), label_ids=(answers, answers, seq_idx))
    by_document(lambda found: seen.update(found=found) or {})(found)
    first, second = seen["found"].predictions
    assert first.tolist() == [[0, 1, -100], [2, 3, 4], [5, 6, 7]] and (second == first + 10)[first >= 0].all()
    assert [labels.tolist() for labels in seen["found"].label_ids] == [[1, 0, 2]] * 2


def test_without_seq_idx_it_says_what_is_missing(tmp_path):
    ours = yanma.unpad(build(BERT, "BertForTokenClassification"))
    with pytest.raises(
        ValueError, match=r"PackedCollator\(seq_idx=True\), and TrainingArguments\(label_names="
    ):
        evaluated(ours, yanma.PackedCollator(seq_idx=True), by_document(seqeval_f1), tmp_path)


def test_labels_in_the_place_of_seq_idx_are_refused():
    labels, seq_idx = (
        np.array([[1, 0, 2, 1, 0], [2, 2, 1, -100, -100]]),
        np.array([[0, 0, 1, 1, 1], [0, 0, 0, -100, -100]]),
    )
    found = EvalPrediction(predictions=labels, label_ids=(seq_idx, labels))
    with pytest.raises(ValueError, match="seq_idx last"):
        by_document(lambda found: {})(found)


def test_a_row_that_one_document_fills_is_one_document():
    labels = np.array([[1, 0, 2], [2, 2, 1]])
    shapes = by_document(lambda found: {"rows": len(found.label_ids), "width": found.label_ids.shape[1]})
    found = EvalPrediction(predictions=labels, label_ids=(labels, np.array([[0, 0, 0], [0, 1, 1]])))
    assert shapes(found) == {"rows": 3, "width": 3}


def test_packs_of_labels_by_token_are_warned_of_once(caplog):
    collator._warn_of_metrics.cache_clear()
    with caplog.at_level(logging.WARNING, "yanma"):
        yanma.PackedCollator(seq_idx=True)(examples())
        yanma.PackedCollator(next_token=True)(examples())
        yanma.PackedCollator()([{"input_ids": [5, 6], "labels": 1}, {"input_ids": [7], "labels": 0}])
        assert not caplog.records
        for _ in range(2):
            yanma.PackedCollator()(examples())
    assert ["by_document" in record.getMessage() for record in caplog.records] == [True]
