"""What makes another model of an unpadded one is refused by name: traces, exports, quantization."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import yanma
from models.builders import FAMILIES, build, rectangle

BERT, TOKENS = FAMILIES[0], "BertForTokenClassification"


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    kwargs = rectangle(BERT, TOKENS).kwargs
    return {name: kwargs[name] for name in ("input_ids", "attention_mask")}


CAPTURES = {
    "trace": lambda model, inputs: torch.jit.trace(model, tuple(inputs.values()), strict=False),
    "trace by keywords": lambda model, inputs: torch.jit.trace(
        model, example_kwarg_inputs=inputs, strict=False
    ),
    "export": lambda model, inputs: torch.export.export(model, (), inputs),
    "onnx": lambda model, inputs: torch.onnx.export(
        model, tuple(inputs.values()), io.BytesIO(), dynamo=False
    ),
}


@pytest.mark.parametrize("how", CAPTURES)
def test_a_forward_is_not_recorded(how: str, inputs: dict[str, Any]):
    model = yanma.unpad(build(BERT, TOKENS))
    with (
        warnings.catch_warnings(),
        pytest.raises(yanma.Unsupported, match=r"right for one batch alone; yanma\.restore"),
    ):
        warnings.simplefilter("ignore")
        CAPTURES[how](model, inputs)


def test_what_was_restored_can_be_exported(inputs: dict[str, Any]):
    model = yanma.restore(yanma.unpad(build(BERT, TOKENS)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(model, (), inputs).module()
        with torch.no_grad():
            assert (exported(**inputs).logits - model(**inputs).logits).abs().max() < 1e-5


def test_layers_say_that_they_have_no_checkpointing_rather_than_fail():
    layer = yanma.unpad(build(BERT, TOKENS)).bert.encoder.layer[0]
    assert not hasattr(layer, "_gradient_checkpointing_func")


def quantized(model: nn.Module, kind: type[nn.Module] = nn.Linear) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {kind}, dtype=torch.qint8)


def test_quantization_after_unpad_is_refused_and_changes_nothing(inputs: dict[str, Any]):
    model = yanma.unpad(build(BERT, TOKENS))
    with torch.no_grad():
        expected = model(**inputs).logits
    for part in (model, model.bert.encoder):
        with pytest.raises(yanma.Unsupported, match=r"pass over this \w+; yanma\.restore"):
            quantized(part)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, expected)
    layer = quantized(yanma.restore(model)).bert.encoder.layer[0]
    assert "quantized" in type(layer.attention.self.query).__module__


def test_quantized_layers_are_refused_before_unpad(inputs: dict[str, Any]):
    stock = quantized(build(BERT, TOKENS))
    with pytest.raises(
        yanma.Unsupported, match=r"attention\.self\.query of this Bert.* depend on its company"
    ):
        yanma.unpad(stock)
    assert "depend on its company" in str(yanma.explain(stock))


def test_layers_with_outliers_of_the_whole_batch_are_refused():
    class Linear8bitLt(nn.Linear):
        pass

    class State:
        threshold = 6.0

    model = build(BERT, TOKENS)
    query = model.bert.encoder.layer[0].attention.self.query
    query.__class__, query.state = Linear8bitLt, State()
    with pytest.raises(yanma.Unsupported, match=r"query of this Bert.*llm_int8_threshold=0"):
        yanma.unpad(copy.deepcopy(model))
    State.threshold = 0.0
    assert type(yanma.unpad(model).bert.encoder.layer[0].attention.self.query) is Linear8bitLt


class OfItsOwn(torch.Tensor):
    """A weight such as torchao's: it brings its own product."""


def test_weights_that_bring_their_own_product_keep_it(inputs: dict[str, Any]):
    stock = build(BERT, TOKENS)
    with torch.no_grad():
        expected = yanma.unpad(copy.deepcopy(stock))(**inputs).logits
    query = stock.bert.encoder.layer[0].attention.self.query
    query.weight = nn.Parameter(query.weight.detach().as_subclass(OfItsOwn))
    model = yanma.unpad(stock)
    assert type(query) is nn.Linear
    with torch.no_grad():
        assert (model(**inputs).logits.as_subclass(torch.Tensor) - expected).abs().max() < 1e-6
