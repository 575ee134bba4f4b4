"""The faults of stock transformers that are known are found, and what mends each of them passes."""

from __future__ import annotations

import pytest
import torch
from transformers import DataCollatorWithFlattening

from audit.subjects import build
from yanma.audit import Verdict, audit
from yanma.masks import causal, documents

LEAKS = {"batch", "isolation", "gradients", "agreement"}


def failed(found):
    return {finding.check for finding in found.failed}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["BertModel", "RobertaModel", "DistilBertModel"])
def test_a_packed_encoder_leaks_and_the_leak_is_named(name, attention):
    found = audit(build(name, attention), way="packed")
    assert failed(found) == LEAKS
    leak = found["isolation"].where
    assert leak.reader.document != leak.read.document
    assert str(leak) in str(found), "the pair of tokens is told"
    assert "position_ids" in found["isolation"].fix and "yanma.unpad" in found["isolation"].fix
    says, reads = found["agreement"].pictures
    assert bool(reads.dense().all()) and not bool(says.dense().all()), "every token reads the whole pack"


def test_the_collator_of_transformers_leaks_in_bert():
    found = audit(build("BertModel"), collator=DataCollatorWithFlattening())
    assert failed(found) == LEAKS and "DataCollatorWithFlattening" in found.subject


def test_packed_llama_leaks_with_its_default_cache():
    found = audit(build("LlamaForCausalLM"), way="packed")
    assert LEAKS <= failed(found)
    assert "use_cache=False" in found["isolation"].fix
    assert found["causality"].verdict is Verdict.PASS, "it reads other documents, and no future"


def flat_with_ones(features):
    batch = DataCollatorWithFlattening(return_tensors="pt")(features)
    return {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}


def test_packed_llama_leaks_with_a_mask_of_ones():
    found = audit(build("LlamaForCausalLM"), collator=flat_with_ones, arguments={"use_cache": False})
    assert LEAKS <= failed(found) and "attention_mask=None" in found["isolation"].fix


def test_packed_llama_without_cache_and_mask_passes():
    found = audit(build("LlamaForCausalLM"), way="packed", arguments={"use_cache": False})
    assert found.ok, str(found)
    assert found["isolation"].same_bits and found["accumulation"].verdict is Verdict.PASS


def explicit(features):
    """One row under a 4-D bool mask."""
    lengths = [len(feature["input_ids"]) for feature in features]
    batch = DataCollatorWithFlattening(return_tensors="pt")(features)
    return {
        "input_ids": batch["input_ids"],
        "position_ids": batch["position_ids"],
        "attention_mask": documents(lengths).dense()[None, None],
    }


def test_eager_adds_a_bool_mask():
    found = audit(build("BertModel", "eager"), collator=explicit)
    assert LEAKS <= failed(found) and "additive" in found["isolation"].fix
    assert audit(build("BertModel", "sdpa"), collator=explicit).ok, "sdpa reads it as it is meant"


def test_the_accumulated_loss_of_bert_for_tokens():
    found = audit(build("BertForTokenClassification"))
    assert failed(found) == {"accumulation"}
    assert "their number" in found["accumulation"].fix


@pytest.mark.parametrize("name", ["LlamaForCausalLM"])
def test_a_loss_that_honours_the_number_of_items_passes(name):
    found = audit(build(name))
    assert found.ok and found["accumulation"].verdict is Verdict.PASS, str(found)


def test_a_decoder_under_an_encoders_mask_is_no_agreement():
    found = audit(build("BertModel"), mask=causal())
    assert failed(found) == {"causality", "agreement"}
