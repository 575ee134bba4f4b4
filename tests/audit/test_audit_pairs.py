"""Encoders with decoders and models that choose between texts: sound ones pass, and each seeded bug is caught."""

from __future__ import annotations

import pytest
import torch

import yanma
from audit.subjects import (
    Blind,
    Comparing,
    CountingSlots,
    DeafToSources,
    Foreseeing,
    WhisperingOfSources,
    build,
)
from yanma.audit import Audit, Verdict, audit, every_way
from yanma.audit.pairs import split
from yanma.errors import DataError, Unsupported
from yanma.masks import causal, full
from yanma.models.layout import Layout

WRITES = "T5ForConditionalGeneration"
CHOOSES = "BertForMultipleChoice"
DOCUMENTS = [list(range(5, 18)), [20, 21], [30, 31, 32, 33, 34]]


def failed(found: Audit) -> set[str]:
    assert len(found.findings) == 9, "all checks are told of"
    return {finding.check for finding in found.failed}


def skipped(found: Audit) -> set[str]:
    return {finding.check for finding in found.findings if finding.verdict is Verdict.SKIPPED}


@pytest.mark.parametrize("way", ["padded", "unpadded"])
@pytest.mark.parametrize("name", ["T5Model", WRITES, "BartModel", "BartForConditionalGeneration"])
def test_a_sound_model_of_pairs_passes_what_it_can_be_asked(name, way):
    found = audit(build(name), way=way)
    lossless = name.endswith("Model")
    means = {"accumulation"} if way == "padded" and not lossless else set()
    assert failed(found) == means, str(found)  # a stock loss is a mean, whose parts are no sum
    assert skipped(found) == ({"accumulation"} if lossless else set())
    assert found["gradients"].number == found["agreement"].number == found["causality"].number == 0
    if way == "unpadded":
        assert all(found[check].same_bits for check in ("padding", "batch", "isolation"))


def test_who_reads_whom_is_a_prefix_of_sources_in_each_document():
    says, reads = audit(yanma.unpad(build(WRITES)), DOCUMENTS)["agreement"].pictures
    rows = says.show(12).splitlines()
    assert rows == reads.show(12).splitlines()
    assert rows[:5] == ["###........."] * 3 + ["####........", "#####......."]
    assert rows[5:7] == [".....#......", ".....##....."]
    assert split((1, 2)) == ((1,), (2,)), "the shortest pair"


@pytest.mark.parametrize(
    "name",
    [
        *("T5ForSequenceClassification", "BartForSequenceClassification"),
        *("T5ForQuestionAnswering", "BartForQuestionAnswering"),
        *(CHOOSES, "DistilBertForMultipleChoice"),
    ],
)
def test_heads_that_judge_or_choose_pass_padded_and_unpadded(name):
    report = every_way(build(name))
    assert set(report.absent) == {"packed"} and report.decides == "unpadded"
    for way, found in report.audits.items():
        assert found.ok, f"{way}: {found}"
        assert "causality" in skipped(found) and found["agreement"].number == 0
    assert report.audits["unpadded"]["batch"].same_bits
    assert (report.audits["unpadded"]["accumulation"].verdict is Verdict.PASS) != ("Question" in name)


def test_one_that_unpad_does_not_know_is_decided_by_padding():
    report = every_way(build("PLBartModel"))
    assert report.decides == "padded" and set(report.absent) == {"packed", "unpadded"}
    assert report.audits["padded"]["causality"].verdict is Verdict.PASS


def test_the_causal_model_of_t5_is_no_pair():
    found = audit(build("T5EncoderModel"))
    assert found.ok and "causality" in skipped(found)


def test_a_decoder_that_reads_what_comes_after():
    found = audit(build(WRITES, of=Foreseeing), DOCUMENTS)
    assert failed(found) >= {"causality", "agreement"} and "isolation" not in failed(found)
    leak = found["causality"].where
    source = len(split(tuple(DOCUMENTS[leak.read.document]))[0])
    assert source <= leak.reader.token < leak.read.token, "a token of the target reads a later one"


def test_padding_of_sources_that_is_read():
    found = audit(build(WRITES, of=DeafToSources))
    assert {"padding", "batch"} <= failed(found) and "isolation" not in failed(found)
    assert "decoder_attention_mask" in found["padding"].fix


def test_padding_of_targets_that_is_counted():
    found = audit(build(WRITES, of=CountingSlots))
    assert {"padding", "batch"} <= failed(found)
    assert not {"isolation", "causality", "gradients", "agreement"} & failed(found)


def test_a_decoder_that_does_not_read_its_source():
    found = audit(build(WRITES, of=Blind))
    assert failed(found) == {"agreement", "accumulation"}
    assert found["agreement"].number > 0 and found["agreement"].where is None, "no token leaked"


def test_a_gradient_of_other_sources_where_no_value_leaks():
    found = audit(build(WRITES, of=WhisperingOfSources))
    assert failed(found) - {"accumulation"} == {"gradients"} and found["isolation"].number == 0
    leak = found["gradients"].where
    tokens = [len(split(d)[0]) for d in ((0,) * 2, (0,) * 5, (0,) * 17, (0,) * 40)]
    assert leak.reader.document != leak.read.document
    assert leak.read.token < tokens[leak.read.document], "it is a token of a source"


def test_cross_attention_between_documents_of_a_pack(monkeypatch):
    monkeypatch.setattr(Layout, "cross_mask", property(lambda layout: full()))
    found = audit(yanma.unpad(build("BartForConditionalGeneration")), DOCUMENTS)
    assert {"batch", "isolation", "gradients", "agreement"} <= failed(found)
    assert "causality" not in failed(found), "targets do not look ahead all the same"
    leak = found["isolation"].where
    own = split(tuple(DOCUMENTS[leak.reader.document]))
    assert leak.reader.token >= len(own[0]), "what is moved is a target"


def test_choices_told_from_the_mean_of_all_questions():
    found = audit(build(CHOOSES, of=Comparing))
    assert {"batch", "isolation", "gradients", "agreement"} <= failed(found)
    leak = found["isolation"].where
    assert leak.reader.document != leak.read.document and leak.reader.token is None


def test_a_mask_narrows_what_a_pair_may_read_and_is_no_agreement():
    found = audit(yanma.unpad(build(WRITES)), DOCUMENTS, mask=causal())
    assert "agreement" in failed(found) and "isolation" not in failed(found)


def test_what_cannot_be_asked_is_refused_by_name():
    with pytest.raises(
        DataError, match=r"1 token, and T5ForConditionalGeneration takes a source and a target"
    ):
        audit(build(WRITES), [[5], [6, 7]])
    with pytest.raises(Unsupported, match=r"T5ForConditionalGeneration has an encoder .* leave collator out"):
        audit(build(WRITES), collator=dict)
    with pytest.raises(Unsupported, match="several texts a row"):
        audit(build(CHOOSES), way="packed")
    with pytest.raises(Unsupported, match="takes no position_ids"):
        audit(build(WRITES), way="packed")


def test_texts_that_hold_the_end_already_are_judged_at_one_end():
    model = build("BartForSequenceClassification")
    end = model.config.eos_token_id
    found = audit(model, [[7, 8, end], [9, 10, 11, end, 12], [13, end]])
    assert found["isolation"].verdict is Verdict.PASS and found["padding"].verdict is Verdict.PASS


def test_a_model_of_pairs_is_left_as_it_was():
    model = build(WRITES).train()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    audit(model)
    assert model.training and all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
