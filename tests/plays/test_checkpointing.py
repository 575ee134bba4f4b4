"""Gradient checkpointing computes layers twice, and every bit is as without it, dropout too."""

import copy

import pytest
import torch

import yanma
from models.builders import FAMILIES, SMALL, build, gradient, head_named, rectangle
from yanma.models.families import Family

SUPPORTED = [family for family in FAMILIES if family.model_type not in ("albert", "mpnet")]


@pytest.mark.parametrize("reentrant", [False, True], ids=["default", "reentrant"])
@pytest.mark.parametrize("family", SUPPORTED, ids=lambda family: family.model_type)
def test_checkpointed_layers_give_the_same_bits_with_dropout(family: Family, reentrant: bool):
    if reentrant and family.model_type == "deberta-v2":
        pytest.skip("layers share what is made of distances: the stock model cannot do it either")
    name = head_named(family, "ForTokenClassification") if family.model_type != "opt" else "OPTForCausalLM"
    dropouts = {} if family.model_type == "gemma2" else dict.fromkeys(SMALL[family.model_type].dropouts, 0.2)
    model = yanma.unpad(build(family, name, **dropouts)).train()
    data, other = rectangle(family, name), copy.deepcopy(model)
    other.activation_checkpointing_enable(
        activation_checkpointing_kwargs={"use_reentrant": True} if reentrant else None
    )
    layers = [m for m in other.modules() if getattr(m, "gradient_checkpointing", False)]
    assert layers, "no layer is checkpointed: this test has lost its subject"
    losses = [
        m(**data.kwargs, seed=5)[0].square().sum() for m in (model, other)
    ]  # of the loss, if there is one
    assert torch.equal(*losses), "the loss differs"
    for loss in losses:
        loss.backward()
    assert torch.equal(gradient(model), gradient(other)) and gradient(model).abs().sum() > 0


def numbers_kept(model, data) -> int:
    """How many numbers autograd keeps for backward."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        model(**data.kwargs)
    return sum(sizes)


def test_what_is_kept_for_backward_is_less():
    family, name = FAMILIES[0], "BertForTokenClassification"
    data = rectangle(family, name)
    model = yanma.unpad(build(family, name, num_hidden_layers=4)).train()
    before = numbers_kept(model, data)
    model.activation_checkpointing_enable()
    after = numbers_kept(model, data)
    assert after < before / 2, f"numbers kept without and with: {before} and {after}"


def test_a_layer_switched_off_and_restored_is_stock_again():
    family = next(family for family in FAMILIES if family.model_type == "bert")
    stock = build(family, "BertForTokenClassification")
    model = yanma.restore(yanma.unpad(copy.deepcopy(stock)))
    assert [*map(type, model.modules())] == [*map(type, stock.modules())]
    model.train().activation_checkpointing_enable()
    data = rectangle(family, "BertForTokenClassification")
    model(**data.kwargs).loss.backward()
    stock.train()(**data.kwargs).loss.backward()
    torch.testing.assert_close(gradient(model), gradient(stock))
