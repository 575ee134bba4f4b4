"""Gradient checkpointing computes layers twice, and every bit is as without it, dropout too."""

import copy

import pytest
import torch

import yanma
from models.builders import FAMILIES, SEQ2SEQ, SMALL, build, gradient, head_named, rectangle
from models.pairs import generator, pairs
from yanma.models.family import Family

SUPPORTED = [family for family in FAMILIES if family.model_type not in ("albert", "mpnet")]


KINDS = pytest.mark.parametrize("reentrant", [False, True], ids=["default", "reentrant"])


def checkpointed(model: torch.nn.Module, reentrant: bool) -> torch.nn.Module:
    kind = {"use_reentrant": True} if reentrant else None
    model.activation_checkpointing_enable(activation_checkpointing_kwargs=kind)
    layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    assert layers, "no layer is checkpointed: this test has lost its subject"
    return model


def assert_same_bits(losses: list[torch.Tensor], models: list[torch.nn.Module]) -> None:
    assert torch.equal(*losses), "the loss differs"
    for loss in losses:
        loss.backward()
    assert torch.equal(*map(gradient, models)) and gradient(models[0]).abs().sum() > 0


@KINDS
@pytest.mark.parametrize("family", SUPPORTED, ids=lambda family: family.model_type)
def test_checkpointed_layers_give_the_same_bits_with_dropout(family: Family, reentrant: bool):
    if reentrant and family.model_type == "deberta-v2":
        pytest.skip("the stock model cannot do it either, which is tested below")
    name = head_named(family, "ForTokenClassification") if family.model_type != "opt" else "OPTForCausalLM"
    dropouts = {} if family.model_type == "gemma2" else dict.fromkeys(SMALL[family.model_type].dropouts, 0.2)
    model = yanma.unpad(build(family, name, **dropouts)).train()
    data, other = rectangle(family, name), checkpointed(copy.deepcopy(model), reentrant)
    losses = [
        m(**data.kwargs, seed=5)[0].square().sum() for m in (model, other)
    ]  # of the loss, if there is one
    assert_same_bits(losses, [model, other])


@KINDS
@pytest.mark.parametrize("family", SEQ2SEQ, ids=lambda family: family.model_type)
def test_so_do_those_of_an_encoder_with_a_decoder_packed_and_padded(family: Family, reentrant: bool):
    name = generator(family)
    model = yanma.unpad(build(family, name, **dict.fromkeys(SMALL[family.model_type].dropouts, 0.2))).train()
    data = pairs(family, name)
    packed, named = data.packed()
    for arguments, settings in ((packed, named), ((), data.padded())):
        model.zero_grad()
        models = [model, checkpointed(copy.deepcopy(model), reentrant)]
        losses = [m(*arguments, **settings, seed=5).logits.square().sum() for m in models]
        if not reentrant:
            assert_same_bits(losses, models)
            continue
        # Layers of a decoder share what the encoder gives: the older kind adds up its gradients layer by layer.
        assert torch.equal(*losses), "the loss differs"
        for loss in losses:
            loss.backward()
        without, found = map(gradient, models)
        assert (found - without).norm() <= 1e-6 * without.norm() > 0


@pytest.mark.parametrize("is_ours", [False, True], ids=["stock", "unpadded"])
def test_the_older_kind_cannot_share_what_debertas_layers_share(is_ours: bool):
    family, name = next((f, n) for f in SUPPORTED for n in f.heads if n == "DebertaV2ForTokenClassification")
    model = build(family, name)
    model = checkpointed((yanma.unpad(model) if is_ours else model).train(), reentrant=True)
    loss = model(**rectangle(family, name).kwargs).loss
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


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
