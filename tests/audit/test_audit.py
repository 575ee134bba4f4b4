"""Sound models pass in every check that they can be asked; what cannot be asked is skipped with its reason."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import transformers
from torch import Tensor

import yanma
from audit.subjects import build
from models.builders import TABLE
from models.builders import build as build_small
from yanma.audit import Audit, Finding, Subject, Verdict, audit, every_way, random_documents
from yanma.errors import DataError, Unsupported
from yanma.masks import window
from yanma.models.families import SPEECH

HEADS = (
    "Model",
    "ForTokenClassification",
    "ForSequenceClassification",
    "ForMaskedLM",
    "ForQuestionAnswering",
)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert"])
def test_an_unpadded_model_passes_to_the_bit(family, head):
    found = audit(yanma.unpad(build(family + head)))
    assert found.ok, str(found)
    for check in ("repeatable", "padding", "batch", "isolation"):
        assert found[check].verdict is Verdict.PASS and found[check].same_bits, f"{check}: {found[check]}"
    for check in ("gradients", "agreement"):
        assert found[check].verdict is Verdict.PASS and found[check].number == 0, f"{check}: {found[check]}"
    has_loss = head not in ("Model", "ForQuestionAnswering")
    assert found["accumulation"].verdict is (Verdict.PASS if has_loss else Verdict.SKIPPED)
    assert found["causality"].verdict is Verdict.SKIPPED and found["training"].verdict is Verdict.PASS


@pytest.mark.parametrize("name", ["BertModel", "RobertaModel", "DistilBertModel", "LlamaModel"])
def test_a_stock_model_passes_when_its_rows_are_padded(name):
    found = audit(build(name))
    assert found.ok, str(found)
    assert found["padding"].verdict is Verdict.PASS and found["isolation"].same_bits


@pytest.mark.parametrize(
    ("name", "settings"),
    [("BertLMHeadModel", {"is_decoder": True, "loss_type": "ForCausalLM"}), ("LlamaForCausalLM", {})],
)
def test_an_unpadded_decoder_reads_no_future(name, settings):
    found = audit(yanma.unpad(build(name, **settings)))
    assert found.ok, str(found)
    assert found["causality"].verdict is Verdict.PASS and found["accumulation"].verdict is Verdict.PASS


@pytest.mark.parametrize("family", TABLE, ids=lambda family: family.model_type)
def test_an_unpadded_model_of_each_family_passes(family):
    model = yanma.unpad(build_small(family, next(iter(family.heads))))
    found = audit(model)
    assert found.ok and found["gradients"].verdict is Verdict.PASS, str(found)
    decodes = family.is_causal(model.config) or model.config.is_encoder_decoder
    assert (found["causality"].verdict is Verdict.PASS) == decodes


@pytest.mark.parametrize("name", ["T5EncoderModel", "T5ForTokenClassification", "ElectraForPreTraining"])
def test_heads_whose_embeddings_are_shared_and_one_that_scores_every_token(name):
    family = next(family for family in TABLE if name in family.heads)
    found = audit(yanma.unpad(build_small(family, name)))
    assert found.ok and found["gradients"].verdict is Verdict.PASS, str(found)
    assert (found["accumulation"].verdict is Verdict.PASS) != (name == "T5EncoderModel")


def test_in_float64_too():
    assert audit(yanma.unpad(build("BertForTokenClassification").double())).ok


def test_a_model_is_left_as_it_was():
    model = build("BertForTokenClassification").train()
    model.bert.embeddings.eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    state = torch.get_rng_state()
    for way in ("padded", "packed", "unpadded"):
        audit(model, way=way)
    assert torch.equal(state, torch.get_rng_state()), "the caller's generator did not move"
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not model.get_input_embeddings()._forward_hooks and not hasattr(type(model), "_yanma_stock")


def test_a_report_in_words_numbers_and_json():
    found = audit(build("BertModel"), way="packed")
    as_json = json.loads(json.dumps(found.as_dict()))
    assert as_json["ok"] is False
    by_check = {finding["check"]: finding for finding in as_json["findings"]}
    assert by_check["isolation"]["verdict"] == "fail" and len(by_check["isolation"]["where"]["reader"]) == 2
    assert by_check["padding"]["verdict"] == "skipped" and by_check["padding"]["about"]
    drawn = by_check["agreement"]["pictures"]
    assert len(drawn["mask"]) == len(drawn["read"]) == 13 and set(drawn["read"][0]) == {"#"}
    assert "the mask says" in str(found) and len(found.table().rows) == 9
    with pytest.raises(KeyError, match="isolation"):
        found["nothing"]


def test_skipped_is_not_failed_and_not_passed():
    findings = (Finding("a", Verdict.SKIPPED, "why"), Finding("b", Verdict.PASS, "what"))
    assert Audit("x", findings).ok and not Audit("x", (*findings, Finding("c", Verdict.FAIL, "what"))).ok


def test_every_way_and_which_decides():
    report = every_way(build("BertModel"))
    assert {way: found.ok for way, found in report.audits.items()} == {
        "padded": True, "packed": False, "unpadded": True, "unpadded, packed": True,
    }  # fmt: skip
    assert report.decides == "unpadded" and report.ok and not report.absent
    assert not every_way(build("BertModel"), decides="packed").ok


def test_packed_decides_where_unpad_refuses_and_a_refused_way_cannot():
    report = every_way(build("OlmoForCausalLM"))
    assert report.decides == "packed" and not report.ok
    assert "olmo" in report.absent["unpadded"], "the reason is told"
    with pytest.raises(Unsupported, match="olmo"):
        every_way(build("OlmoForCausalLM"), decides="unpadded")


def test_a_callable_is_asked_what_it_can_be_asked():
    def lengths(ids: list[list[int]]) -> list[Tensor]:
        return [torch.tensor([float(sum(row))]) for row in ids]

    found = audit(lengths, [[5, 6, 7], [9, 8]])
    assert found.ok
    skipped = {f.check for f in found.findings if f.verdict is Verdict.SKIPPED}
    assert skipped == {"padding", "gradients", "causality", "accumulation", "training"}
    assert all(f.about for f in found.findings)


@pytest.mark.parametrize("by_tokens", [True, False])
def test_a_subject_of_ones_own_and_its_own_way_to_cut_a_step(by_tokens):
    layer = torch.nn.Linear(1, 1)

    def run(documents):
        return [layer(torch.tensor([[float(token)] for token in document])) for document in documents]

    def share(part, step, parts):
        total = torch.cat(run(part)).sum()
        if by_tokens:
            return total / sum(map(len, step))
        return total / sum(map(len, part)) / parts

    subject = Subject("a layer", run, True, mask=window(0, 0), module=layer, share=share)
    found = audit(subject, [[1, 2, 3], [4, 5]])
    assert found["accumulation"].verdict is (Verdict.PASS if by_tokens else Verdict.FAIL), str(found)
    assert found["causality"].verdict is Verdict.PASS and found["agreement"].verdict is Verdict.PASS
    assert found["gradients"].verdict is Verdict.SKIPPED and "embeddings" in found["gradients"].about


def test_random_documents_are_of_uneven_lengths_and_tell_themselves_apart():
    found = random_documents(1000, without={0, 1}, seed=3)
    assert [len(document) for document in found] == [1, 2, 5, 17, 40]
    ids = [token for document in found for token in document]
    assert len(set(ids)) == len(ids) and not {0, 1} & set(ids) and found != random_documents(1000, seed=4)
    assert [len(d) for d in random_documents(10, longest=3)] == [1, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("documents", "words"), [([[1, 2]], "1 of them"), ([[1], []], "number 1"), ([[1], [1, 1]], "same id")]
)
def test_documents_that_cannot_show_a_leak_are_refused(documents, words):
    with pytest.raises(DataError, match=words):
        audit(lambda ids: ids, documents)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"way": "flat"}, "padded, packed, unpadded"),
        ({"way": "packed", "collator": dict}, "way of its own"),
        ({"arguments": {"return_dict": False}}, "return_dict is False, but an audit reads outputs by name"),
    ],
)
def test_wrong_arguments_are_told(more, words):
    with pytest.raises(ValueError, match=words):
        audit(build("BertModel"), **more)


@pytest.mark.parametrize("subject", [lambda: build("BertModel"), lambda: lambda ids: ids])
def test_a_mask_that_is_none_is_told(subject):
    with pytest.raises(TypeError, match=r"mask is a str; give a mask, as yanma.masks.parse\(\) makes one"):
        audit(subject(), [[1, 2], [3]], mask="causal")


def test_a_model_that_pools_its_tokens_is_refused_by_name():
    sizes = {"block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64}
    config = transformers.FunnelConfig(vocab_size=100, **sizes)
    with pytest.raises(
        DataError, match=r"FunnelModel runs one of 1 tokens in company, but not alone \(Runtime"
    ):
        audit(transformers.FunnelModel(config))
    with pytest.raises(
        Unsupported, match="of 2 rows for 3 tokens and 3 rows for 5 tokens; an audit reads one"
    ):
        audit(transformers.FunnelBaseModel(config))


def test_what_is_for_models_is_refused_for_callables():
    with pytest.raises(ValueError, match="for models"):
        audit(lambda ids: ids, [[1], [2]], way="packed")
    with pytest.raises(ValueError, match="documents"):
        audit(lambda ids: ids)
    with pytest.raises(ValueError, match="one each"):
        audit(lambda ids: [], [[1], [2]])


def test_models_that_cannot_be_asked_are_refused_by_name():
    speech = build_small(SPEECH[0], "Wav2Vec2ForCTC")
    for model in (speech, yanma.unpad(speech)):
        with pytest.raises(
            Unsupported, match="Wav2Vec2ForCTC is given input_values, and an audit gives token"
        ):
            audit(model)
    with torch.device("meta"):
        images_and_texts = transformers.CLIPModel(transformers.CLIPConfig())
    with pytest.raises(Unsupported, match="CLIPModel has no one table of tokens' embeddings"):
        audit(images_and_texts)
    with pytest.raises(Unsupported, match="olmo"):
        audit(build("OlmoModel"), way="unpadded")
