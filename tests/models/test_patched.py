"""Forwards that others put on a module itself, before unpad and after it: seen through, or refused by name."""

from __future__ import annotations

import copy
import inspect
from functools import partial

import accelerate
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import yanma
from models.builders import FAMILIES, build, rectangle
from yanma.models.by_keyword import one_row

BY_TYPE = {family.model_type: family for family in FAMILIES}
BERT, TOKENS = BY_TYPE["bert"], "BertForTokenClassification"
HEADS = [
    ("bert", TOKENS),
    ("bert", "BertForSequenceClassification"),
    ("albert", "AlbertForSequenceClassification"),
    ("llama", "LlamaForCausalLM"),
    ("eurobert", "EuroBertForSequenceClassification"),
]


def packed_ways(model: nn.Module, documents) -> list[torch.Tensor]:
    """Logits of a pack, given as a PackedBatch and by keywords."""
    batch = yanma.PackedBatch.from_sequences(documents)
    with torch.no_grad():
        flat, row = model(batch).logits, model(**one_row(batch)).logits
    return [flat, row.reshape(flat.shape)]


def offloaded(model: nn.Module) -> nn.Module:
    return accelerate.cpu_offload(model, execution_device="cpu") or model


def dispatched(model: nn.Module) -> nn.Module:
    parts = {name: "cpu" for name, _ in model.named_children()}
    return accelerate.dispatch_model(model, parts, main_device="cpu", force_hooks=True)


def wrapped(module: nn.Module) -> nn.Module:
    old = module.forward
    module.forward = lambda *args, **kwargs: old(*args, **kwargs)
    return module


@pytest.mark.parametrize("hooked", [offloaded, dispatched])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(("model_type", "name"), HEADS, ids=[name for _, name in HEADS])
def test_hooks_of_accelerate_are_seen_through(model_type: str, name: str, before: bool, hooked):
    stock, data = build(BY_TYPE[model_type], name), rectangle(BY_TYPE[model_type], name)
    expected = packed_ways(yanma.unpad(copy.deepcopy(stock)), data.documents)
    model = copy.deepcopy(stock)
    model = yanma.unpad(hooked(model)) if before else hooked(yanma.unpad(model))
    assert all(map(torch.equal, packed_ways(model, data.documents), expected))
    yanma.restore(model)
    with torch.no_grad():
        assert torch.equal(model(**data.kwargs).logits, stock(**data.kwargs).logits)


def test_hooks_may_be_taken_off_an_unpadded_model():
    stock, data = build(BERT, TOKENS), rectangle(BERT, TOKENS)
    expected = packed_ways(yanma.unpad(copy.deepcopy(stock)), data.documents)
    model = yanma.unpad(dispatched(copy.deepcopy(stock)))
    accelerate.hooks.remove_hook_from_module(model, recurse=True)
    assert all(map(torch.equal, packed_ways(model, data.documents), expected))
    yanma.unpad(yanma.restore(model))
    assert all(map(torch.equal, packed_ways(model, data.documents), expected))


PARTS = [
    "",
    "bert.encoder.layer.0.attention.self",
    "bert.encoder.layer.0",
    "bert.embeddings.dropout",
    "classifier",
]


@pytest.mark.parametrize("part", PARTS)
def test_a_replaced_forward_is_refused_before_unpad_and_heard_after_it(part: str):
    stock, data = build(BERT, TOKENS), rectangle(BERT, TOKENS)
    patched = copy.deepcopy(stock)
    wrapped(patched.get_submodule(part))
    classes = [*map(type, patched.modules())]
    message = rf"{part or 'this BertForToken'}.* its forward replaced.*unpad the model first"
    with pytest.raises(yanma.Unsupported, match=message):
        yanma.unpad(patched)
    assert [*map(type, patched.modules())] == classes
    assert "forward replaced" in str(yanma.explain(patched))
    model = yanma.unpad(stock)
    expected = packed_ways(model, data.documents)
    wrapped(model.get_submodule(part))
    assert all(map(torch.equal, packed_ways(model, data.documents), expected))
    if part not in ("bert.encoder.layer.0.attention.self",):
        with pytest.raises(yanma.Unsupported, match=r"forward replaced after unpad; undo that first"):
            yanma.restore(model)


def test_a_replaced_forward_of_a_norm_is_heard():
    stock, data = build(BERT, TOKENS), rectangle(BERT, TOKENS)
    expected = packed_ways(yanma.unpad(copy.deepcopy(stock)), data.documents)
    wrapped(stock.get_submodule("bert.embeddings.LayerNorm"))
    assert all(map(torch.equal, packed_ways(yanma.unpad(stock), data.documents), expected))


@pytest.mark.usefixtures("own_accelerator")
def test_prepare_in_bf16_after_unpad_keeps_documents_apart_even_when_it_is_undone():
    stock, data = build(BERT, TOKENS), rectangle(BERT, TOKENS)
    accelerator = accelerate.Accelerator(mixed_precision="bf16", cpu=True)
    prepared = accelerator.prepare(copy.deepcopy(stock))
    with pytest.raises(yanma.Unsupported, match=r"accelerate's prepare.*unpad the model first"):
        yanma.unpad(prepared)
    model = yanma.unpad(copy.deepcopy(stock))
    expected = packed_ways(model, data.documents)
    model = accelerator.prepare(model)
    for logits, own in zip(packed_ways(model, data.documents), expected, strict=True):
        assert (logits - own).abs().max() < 1e-2
    with pytest.raises(yanma.Unsupported, match="keep_fp32_wrapper=False"):
        yanma.restore(model)
    model = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    assert all(map(torch.equal, packed_ways(model, data.documents), expected))
    assert type(yanma.restore(model)) is type(stock) and "forward" not in vars(model)


def test_the_signature_is_the_stock_one_and_leads_nowhere_else():
    stock = build(BERT, TOKENS)
    signature = inspect.signature(stock.forward)
    model = yanma.unpad(stock)
    assert inspect.signature(model.forward) == signature
    assert "yanma" in inspect.unwrap(type(model).forward).__code__.co_filename


class Holder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = model


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (nn.DataParallel, "DataParallel holds a BertForToken.*its module"),
        (partial(torch.compile, backend="eager"), "OptimizedModule holds a BertForToken.*its _orig_mod"),
        (Holder, "Holder holds a BertForToken.*its inner"),
    ],
)
def test_wrappers_are_told_what_to_unpad(wrap, message: str):
    with pytest.raises(yanma.Unsupported, match=message):
        yanma.unpad(wrap(build(BERT, TOKENS)))


def test_normed_weights_give_the_same_numbers_and_survive_restore():
    stock, data = build(BERT, TOKENS), rectangle(BERT, TOKENS)
    query = "bert.encoder.layer.0.attention.self.query"
    expected = packed_ways(yanma.unpad(copy.deepcopy(stock)), data.documents)
    normed = copy.deepcopy(stock)
    parametrizations.weight_norm(normed.get_submodule(query))
    for model in (yanma.unpad(normed), yanma.unpad(copy.deepcopy(stock))):
        if model is not normed:
            parametrizations.weight_norm(model.get_submodule(query))
        for logits, own in zip(packed_ways(model, data.documents), expected, strict=True):
            assert (logits - own).abs().max() < 1e-6
    with pytest.raises(yanma.Unsupported, match=r"query.*ParametrizedLinear after unpad.*undo that first"):
        yanma.restore(model)
    parametrize.remove_parametrizations(model.get_submodule(query), "weight")
    assert type(yanma.restore(model).get_submodule(query)) is nn.Linear
    assert parametrize.is_parametrized(yanma.restore(normed).get_submodule(query))


def test_a_changed_layer_that_unpad_must_know_is_refused():
    family = BY_TYPE["albert"]
    model = build(family, "AlbertModel")
    parametrizations.weight_norm(model.pooler)
    with pytest.raises(yanma.Unsupported, match=r"ParametrizedLinear stands where.*unpad the model first"):
        yanma.unpad(model)
