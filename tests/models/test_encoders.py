"""What is special to some encoders: relative positions, convolution, windows, pooling, layers that are one module."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import yanma
from models.builders import FAMILIES, build, doubled, gradient, rectangle
from models.test_exactness import DTYPES, sharpened
from yanma.masks import window
from yanma.models.family import Family

BY_TYPE = {family.model_type: family for family in FAMILIES}
LONG = (127, 1, 128, 2, 129, 300)

DEBERTA = {
    "buckets": {"position_buckets": 64, "max_relative_positions": 512},
    "no buckets": {"position_buckets": -1},
    "keys shared": {"share_att_key": True},
    "contents to places": {"pos_att_type": "c2p"},
    "places to contents": {"pos_att_type": "p2c"},
    "contents alone": {"relative_attention": False},
    "no position table": {"position_biased_input": False, "max_position_embeddings": 24},
    "no convolution": {"conv_kernel_size": 0},
    "convolution in groups": {"conv_kernel_size": 5, "conv_groups": 2, "conv_act": "gelu"},
    "narrow embeddings": {"embedding_size": 16, "norm_rel_ebd": "none"},
    "newer head": {"legacy": False},
}
CASES = [("deberta-v2", "DebertaV2ForMaskedLM", settings) for settings in DEBERTA.values()] + [
    ("mpnet", "MPNetForMaskedLM", {}),
    ("modernbert", "ModernBertForMaskedLM", {"local_attention": 32}),
]
NAMED = pytest.mark.parametrize(
    ("model_type", "name", "settings"), CASES, ids=[*DEBERTA, "mpnet", "windows of modernbert"]
)


def random_documents(lengths: tuple[int, ...]) -> list[torch.Tensor]:
    return rectangle(BY_TYPE["bert"], "BertModel", lengths, max(lengths)).documents


def made(model_type: str, name: str, settings: dict[str, Any]) -> nn.Module:
    return sharpened(build(BY_TYPE[model_type], name, **({"max_position_embeddings": 320} | settings)))


@NAMED
def test_outputs_and_gradients_are_the_stock_models_one_document_at_a_time(model_type, name, settings):
    stock = doubled(made(model_type, name, settings))
    ours = yanma.unpad(copy.deepcopy(stock))
    documents = random_documents(LONG)
    expected = torch.cat([stock(input_ids=ids[None]).logits[0] for ids in documents])
    found = ours(yanma.PackedBatch.from_sequences(documents)).logits
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-10)
    for logits in (expected, found):
        logits.square().mean().backward()
    assert (gradient(ours) - gradient(stock)).norm() <= 1e-10 * gradient(stock).norm()


@NAMED
@DTYPES
def test_long_documents_have_their_own_bits(model_type, name, settings, dtype: torch.dtype):
    model, documents = yanma.unpad(made(model_type, name, settings).to(dtype)), random_documents(LONG)
    batch = yanma.PackedBatch.from_sequences(documents)
    with torch.no_grad():
        for ids, whole in zip(documents, batch.unpack(model(batch).logits), strict=True):
            alone = model(yanma.PackedBatch.from_sequences([ids])).logits
            assert torch.equal(alone, whole), f"a document of {len(ids)} tokens"


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("suffix", ["ForSequenceClassification", "ForMultipleChoice"])
@pytest.mark.parametrize("lengths", [(127, 1, 128, 129), (300, 40)], ids=str)
def test_modernberts_windows_and_pooling_are_the_stock_models_one_document_at_a_time(
    suffix: str, pooling: str, lengths: tuple[int, ...]
):
    family = BY_TYPE["modernbert"]
    settings = {"local_attention": 32, "classifier_pooling": pooling, "num_hidden_layers": 4}
    stock = doubled(sharpened(build(family, "ModernBert" + suffix, **settings)))
    ours = yanma.unpad(copy.deepcopy(stock))
    documents = rectangle(family, "ModernBertModel", lengths, max(lengths)).documents
    alone = []
    for ids in documents:
        inputs = {"input_ids": ids[None], "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        if suffix == "ForMultipleChoice":
            inputs = {key: value[None] for key, value in inputs.items()}
        alone.append(stock(**inputs).logits)
    together = ours(yanma.PackedBatch.from_sequences(documents)).logits
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pooling", ["bos", "mean", "late"])
def test_eurobert_pools_as_its_config_says(pooling: str):
    stock = doubled(made("eurobert", "EuroBertForSequenceClassification", {"classifier_pooling": pooling}))
    ours, documents = yanma.unpad(copy.deepcopy(stock)), random_documents((17, 3, 9, 1))
    alone = torch.cat([stock(input_ids=ids[None]).logits for ids in documents])
    found = ours(yanma.PackedBatch.from_sequences(documents)).logits
    torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("layers", "groups", "inner"), [(6, 1, 1), (4, 2, 2)], ids=["one layer six times", "two groups of two"]
)
def test_albert_repeats_its_layers(layers: int, groups: int, inner: int):
    settings = {"num_hidden_layers": layers, "num_hidden_groups": groups, "inner_group_num": inner}
    stock = doubled(made("albert", "AlbertModel", settings))
    ours, documents = yanma.unpad(copy.deepcopy(stock)), random_documents((17, 3, 9, 1))
    outputs = [stock(input_ids=ids[None]) for ids in documents]
    found = ours(yanma.PackedBatch.from_sequences(documents))
    pooled = torch.cat([output.pooler_output for output in outputs])
    tokens = torch.cat([output.last_hidden_state[0] for output in outputs])
    torch.testing.assert_close(found.pooler_output, pooled, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.last_hidden_state, tokens, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("family", [BY_TYPE["mpnet"], BY_TYPE["deberta-v2"]], ids=["mpnet", "deberta-v2"])
def test_families_that_compute_attention_by_themselves_take_no_mask(family: Family):
    with pytest.raises(yanma.Unsupported, match="computes attention by itself"):
        yanma.unpad(build(family, next(iter(family.heads))), mask=window(2, 2))


@pytest.mark.parametrize(
    ("model_type", "name", "settings", "message"),
    [
        ("modernbert", "ModernBertForMaskedLM", {"sparse_prediction": True}, "sparse_prediction gives"),
        ("deberta-v2", "DebertaV2Model", {"num_hidden_layers": 1}, "convolution after the only layer"),
    ],
)
def test_settings_that_are_not_done_are_refused(model_type, name, settings, message: str):
    with pytest.raises(yanma.Unsupported, match=message):
        yanma.unpad(build(BY_TYPE[model_type], name, **settings))


def test_a_repeated_layer_has_one_mask():
    model = build(BY_TYPE["albert"], "AlbertModel")
    with pytest.raises(yanma.Unsupported, match="repeats its layers"):
        yanma.unpad(model, mask={0: window(2, 2)})
    assert "window(2, 2)" in str(yanma.explain(yanma.unpad(model, mask=window(2, 2))))


def test_a_dropout_that_runs_twice_drops_other_things_each_time():
    """RoBERTa's head has one dropout before its linear layer and behind it."""
    name = "RobertaForSequenceClassification"
    model = yanma.unpad(build(BY_TYPE["roberta"], name, classifier_dropout=0.5)).train()
    kept: list[torch.Tensor] = []
    model.classifier.dropout.register_forward_hook(lambda module, args, out: kept.append(out != 0))
    model(yanma.PackedBatch.from_sequences([[5, 6], [7]]), seed=0)
    assert len(kept) == 2 and not torch.equal(*kept)
