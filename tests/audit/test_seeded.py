"""Each check catches the bug that it is there for, says so, and does not blame another."""

from __future__ import annotations

from itertools import chain

import torch

from audit.subjects import Deaf, Restless, Steep, Unfinished, Whispering, build
from yanma.audit import Audit, Place, Verdict, audit
from yanma.masks import additive, causal, documents, window

BERT = "BertForTokenClassification"


def failed(found: Audit) -> set[str]:
    assert len(found.findings) == 9, "all checks are told of"
    return {finding.check for finding in found.failed}


def one_row(mask, first=0, through=False):
    """A collator: one row under `mask` within documents, positions anew in each, or running through."""

    def collate(features):
        rows = [feature["input_ids"] for feature in features]
        lengths = [len(row) for row in rows]
        ids = torch.tensor([list(chain(*rows))])
        positions = torch.cat([torch.arange(length) for length in lengths]) + first
        positions = torch.arange(sum(lengths)) if through else positions
        seen = additive(documents(lengths) & mask, torch.float32)
        return {"input_ids": ids, "position_ids": positions[None], "attention_mask": seen}

    return collate


def test_the_sound_collator_of_these_tests_passes():
    found = audit(build(BERT), collator=one_row(window(None, None)))
    assert found.ok, str(found)
    assert found["isolation"].same_bits and found["isolation"].number == 0


def test_dropout_that_is_on_in_eval_mode_is_told_and_nothing_else_is_claimed():
    found = audit(build(BERT, of=Restless))
    assert failed(found) == {"repeatable"}
    assert all(f.verdict is Verdict.SKIPPED for f in found.findings[1:]), "nothing can be told"
    assert "eval()" in found["repeatable"].fix


def test_padding_that_is_read():
    found = audit(build(BERT, of=Deaf))
    assert {"padding", "batch"} <= failed(found) and "isolation" not in failed(found)
    assert "attention_mask" in found["padding"].fix


def test_positions_that_run_through_the_pack():
    found = audit(build(BERT), collator=one_row(window(None, None), through=True))
    assert "batch" in failed(found) and failed(found) <= {"batch", "accumulation"}
    assert found["isolation"].verdict is Verdict.PASS, "positions leak no token"


def test_a_mean_over_the_batch():
    def normalised(ids):
        rows = [torch.tensor(row, dtype=torch.float32)[:, None] for row in ids]
        mean = torch.cat(rows).mean()
        return [row - mean for row in rows]

    found = audit(normalised, [[5, 9, 6], [7, 8], [3]])
    assert {"batch", "isolation", "agreement"} <= failed(found)
    leak = found["isolation"].where
    assert leak.reader.document != leak.read.document
    assert "documents(lengths)" in found["isolation"].fix


def test_a_gradient_that_leaks_where_no_value_does():
    found = audit(build(BERT, of=Whispering))
    assert failed(found) == {"gradients"}
    assert found["isolation"].number == 0 and found["gradients"].number > 0
    leak = found["gradients"].where
    assert leak.reader.document != leak.read.document and leak.read.token is not None


def test_a_causal_mask_that_is_off_by_one():
    model = build("LlamaForCausalLM", num_hidden_layers=1)
    found = audit(model, collator=one_row(window(None, 1)))
    assert failed(found) == {"causality", "agreement"}
    leak = found["causality"].where
    assert leak.reader == Place(leak.read.document, leak.read.token - 1), "the token just before reads it"
    assert "causal()" in found["causality"].fix
    sound = audit(model, collator=one_row(causal()))
    assert sound.ok, str(sound)


def test_a_mask_that_is_too_tight_is_seen_though_nothing_leaks():
    found = audit(build(BERT, num_hidden_layers=1), collator=one_row(window(1, 1)))
    assert failed(found) == {"agreement"}
    says, reads = found["agreement"].pictures
    assert found["agreement"].number == int((says.dense() & ~reads.dense()).sum()) > 0
    assert found["agreement"].where is None, "no token leaked"
    told = audit(build(BERT, num_hidden_layers=1), collator=one_row(window(1, 1)), mask=window(1, 1))
    assert told.ok, "a mask that is meant is no fault"


def test_the_pair_that_is_drawn_is_the_pair_that_is_read():
    def peeks(ids):
        """The first token of the second document reads the last token of the first."""
        rows = [torch.tensor(row, dtype=torch.float32)[:, None] for row in ids]
        if len(rows) > 1:
            rows[1][0] += rows[0][-1]
        return rows

    found = audit(peeks, [[5, 9, 6], [7, 8]], mask=window(0, 0))
    says, reads = found["agreement"].pictures
    assert (reads.dense() & ~says.dense()).nonzero().tolist() == [[3, 2]]
    assert str(found["agreement"].where) == "token 0 of document 1 is moved by token 2 of document 0"
    assert found["isolation"].where == found["agreement"].where


def test_a_loss_that_is_a_mean_of_means():
    found = audit(build(BERT))
    assert failed(found) == {"accumulation"}
    assert found["accumulation"].number > 0.1 and "sum the losses" in found["accumulation"].fix


def test_what_fails_in_train_mode_only():
    found = audit(build(BERT, of=Unfinished))
    assert failed(found) == {"training"}
    assert "AttributeError" in found["training"].about and "dropout_prob" in found["training"].about


def test_a_gradient_that_is_not_a_number():
    found = audit(build(BERT, of=Steep))
    assert failed(found) == {"training"} and "not finite" in found["training"].about


def test_outputs_that_are_not_numbers_are_not_called_equal():
    found = audit(lambda ids: [torch.full((len(row), 1), torch.nan) for row in ids], [[5, 9], [7]])
    assert failed(found) == {"repeatable"} and "not finite" in found["repeatable"].about
    assert "weights that are no numbers" in found["repeatable"].fix and "dropout" not in str(found)
    assert found.as_dict()["findings"][0]["number"] is None, "JSON knows no infinity"


def test_a_sign_of_zero_is_a_bit():
    def signed(ids):
        """Zero for each token, negative in the second document where the first begins with 9."""
        negative = ids[0][0] == 9
        return [torch.full((len(row), 1), -0.0 if i and negative else 0.0) for i, row in enumerate(ids)]

    found = audit(signed, [[5, 9], [7, 5]])
    assert "isolation" not in failed(found), "5 is replaced by 7: nothing to see"
    found = audit(signed, [[5, 9], [9, 5]])
    assert "isolation" in failed(found) and found["isolation"].number > 0
