"""What an unpadded model hands out lies on the way to its loss: there are gradients by logits and by hidden states."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

import yanma
from models.builders import FAMILIES, SEQ2SEQ, build, every_head, gradient, rectangle
from models.pairs import generator, pairs
from models.sounds import padded, recordings
from yanma.models import outputs
from yanma.models.families import SPEECH
from yanma.models.family import Family, Head

BY_TYPE = {family.model_type: family for family in FAMILIES}
STATES = ("hidden_states", "decoder_hidden_states", "encoder_hidden_states")
heads = pytest.mark.parametrize(
    ("family", "name"), [*every_head()], ids=lambda value: getattr(value, "model_type", value)
)


def states_of(output) -> list[Tensor]:
    return [state for name in STATES for state in output.get(name) or ()]


def fields(output, head: Head) -> list[Tensor]:
    names = (*head.token_outputs, *head.document_outputs)
    return [output[name] for name in names if output.get(name) is not None]


def weighted(output, head: Head, valid: Tensor) -> Tensor:
    """A number that all outputs, but those of padding, have a part in."""
    total = torch.zeros(())
    for field in fields(output, head):
        if field.dim() > 1 and field.shape[:2] == valid.shape:
            field = field[valid]
        draw = torch.Generator().manual_seed(3)
        total = total + (field * torch.randn(field.shape, generator=draw)).sum()
    return total


def by(scalar: Tensor, tensors: list[Tensor], valid: Tensor) -> list[Tensor | None]:
    """Gradients by tensors, but not by what they have of padding."""
    found = torch.autograd.grad(scalar, tensors, retain_graph=True, allow_unused=True)
    has_slots = [own is not None and own.dim() > 1 and own.shape[:2] == valid.shape for own in found]
    return [own[valid] if slots else own for own, slots in zip(found, has_slots, strict=True)]


def assert_near(got: list[Tensor | None], expected: list[Tensor | None]) -> None:
    assert got and [own is None for own in got] == [own is None for own in expected]
    for own, other in zip(got, expected, strict=True):
        assert own is None or (own - other).abs().max() <= 1e-4 * max(other.abs().max(), 1e-2)


@heads
def test_outputs_have_gradients_by_hidden_states_and_losses_by_logits(family: Family, name: str):
    head, stock, data = family.heads[name], build(family, name), rectangle(family, name)
    model = yanma.unpad(copy.deepcopy(stock))
    expected, output = (each(**data.kwargs, output_hidden_states=True) for each in (stock, model))
    assert_near(
        by(weighted(output, head, data.valid), states_of(output), data.valid),
        by(weighted(expected, head, data.valid), states_of(expected), data.valid),
    )
    if output.get("loss") is not None:
        found = by(output.loss, [*fields(output, head), *states_of(output)], data.valid)
        if head.loss == "span":  # the stock loss spreads over padding
            assert not any(own is None for own in found[:2])
        else:
            everything = [*fields(expected, head), *states_of(expected)]
            assert_near(found, by(expected.loss, everything, data.valid))


@heads
def test_asking_changes_no_bit(family: Family, name: str):
    model, data = yanma.unpad(build(family, name).train()), rectangle(family, name)
    found = []
    for more in ({}, {"output_hidden_states": True}):
        output = model(**data.kwargs, seed=1, **more)
        value = output.loss if output.get("loss") is not None else fields(output, family.heads[name])[0].sum()
        model.zero_grad()
        value.backward()
        found.append([value.detach(), fields(output, family.heads[name])[0].detach(), gradient(model)])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize(
    "name", ["BertForTokenClassification", "BertForMaskedLM", "BertForSequenceClassification"]
)
def test_gradients_of_a_pack_are_those_of_the_rectangle(name: str):
    family = BY_TYPE["bert"]
    model, data = yanma.unpad(build(family, name)), rectangle(family, name)
    batch = yanma.PackedBatch.from_sequences(data.documents)
    labels = data.kwargs["labels"]
    flat_labels = labels[data.valid] if labels.dim() == 2 else labels
    gradients = []
    for output in (
        model(**data.kwargs, output_hidden_states=True),
        model(batch, labels=flat_labels, output_hidden_states=True),
    ):
        gradients.append(by(output.loss, [output.logits, *output.hidden_states], data.valid))
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("family", SEQ2SEQ, ids=lambda family: family.model_type)
def test_encoders_with_decoders_have_them_too(family: Family):
    name = generator(family)
    stock, data = build(family, name), pairs(family, name).padded()
    if "labels" in data:
        data["decoder_attention_mask"] = (data["labels"] != -100).long()
    found = []
    for model in (stock, yanma.unpad(copy.deepcopy(stock))):
        output = model(**data, output_hidden_states=True)
        sources, targets = data["attention_mask"].bool(), data["decoder_attention_mask"].bool()
        own = by(output.loss, [output.logits, *output.decoder_hidden_states], targets)
        read = [output.encoder_last_hidden_state, *output.encoder_hidden_states]
        found.append(own + by(output.loss, read, sources))
    assert_near(found[1], found[0])


@pytest.mark.parametrize("family", SPEECH, ids=lambda family: family.model_type)
def test_models_that_hear_have_them_too(family: Family):
    name = next(name for name in family.heads if name.endswith("ForCTC"))
    stock, sounds = build(family, name, feat_extract_norm="layer"), recordings((100, 61, 61, 200))
    labels, valid = torch.tensor([[5, 6], [7, -100], [5, -100], [8, 9]]), torch.ones(4, 1)
    found = []
    for model in (stock, yanma.unpad(copy.deepcopy(stock))):
        output = model(**padded(sounds), labels=labels, output_hidden_states=True)
        frames = model._get_feat_extract_output_lengths(torch.tensor([len(sound) for sound in sounds]))
        valid = torch.arange(output.logits.shape[1]) < frames[:, None]
        found.append(by(output.loss, [output.logits, *output.hidden_states], valid))
    assert_near(found[1], found[0])


def test_retained_gradients_are_there():
    family, name = BY_TYPE["llama"], "LlamaForCausalLM"
    stock, data = build(family, name), rectangle(family, name)
    found = []
    for model in (stock, yanma.unpad(copy.deepcopy(stock))):
        output = model(**data.kwargs, output_hidden_states=True)
        kept = [output.logits, *output.hidden_states]
        for tensor in kept:
            tensor.retain_grad()
        output.loss.backward()
        found.append([tensor.grad[data.valid] for tensor in kept])
    assert_near(found[1], found[0])


@pytest.mark.parametrize("reentrant", [False, True])
def test_layers_that_are_computed_again_change_nothing(reentrant: bool):
    family, name = BY_TYPE["bert"], "BertForTokenClassification"
    found = []
    for checkpointed in (False, True):
        model, data = yanma.unpad(build(family, name).train()), rectangle(family, name)
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        output = model(**data.kwargs, seed=1, output_hidden_states=True)
        output.loss.backward()
        found.append(gradient(model))
    assert torch.equal(*found)


def test_backward_goes_as_often_and_as_far_as_it_is_asked_to():
    family, name = BY_TYPE["bert"], "BertForSequenceClassification"
    model, data = yanma.unpad(build(family, name)), rectangle(family, name)
    loss = model(**data.kwargs).loss
    loss.backward(retain_graph=True)
    once = gradient(model)
    loss.backward()
    assert torch.equal(gradient(model), 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    output = model(**data.kwargs)
    (first,) = torch.autograd.grad(output.loss, output.logits, create_graph=True)
    assert torch.autograd.grad(first.square().sum(), model.classifier.bias)[0].abs().sum() > 0


def test_logits_that_nobody_holds_cost_backward_nothing(monkeypatch: pytest.MonkeyPatch):
    family, name = BY_TYPE["bert"], "BertForMaskedLM"
    model, data = yanma.unpad(build(family, name)), rectangle(family, name)
    laid = []
    lay = outputs.lay
    monkeypatch.setattr(outputs, "lay", lambda *args: laid.append(1) or lay(*args))
    output = model(**data.kwargs)
    loss, before = output.loss, len(laid)
    output.loss.backward(retain_graph=True)
    held, kept = gradient(model), len(laid)
    del output
    gc.collect()
    model.zero_grad()
    loss.backward()
    assert before == 1 and kept == 2 and len(laid) == 2, (
        "logits were laid out again for a gradient nobody asked for"
    )
    assert torch.equal(gradient(model), held)


def test_hidden_states_go_when_nobody_holds_them():
    family, name = BY_TYPE["bert"], "BertForTokenClassification"
    model, data = yanma.unpad(build(family, name)), rectangle(family, name)
    output = model(**data.kwargs, output_hidden_states=True)
    states = [weakref.ref(state) for state in output.hidden_states]
    del output
    assert all(state() is None for state in states), "a ring of graph and states holds them"


def test_hooks_come_with_what_is_asked_and_go_with_restore():
    family, name = BY_TYPE["bert"], "BertForTokenClassification"
    model, data = yanma.unpad(build(family, name)), rectangle(family, name)
    model(**data.kwargs)
    with torch.no_grad():
        model(**data.kwargs, output_hidden_states=True)
    assert not any(hooks_of("yanma.models.gradients", module) for module in model.modules())
    expected = model(**data.kwargs, output_hidden_states=True)
    assert any(hooks_of("yanma.models.gradients", module) for module in model.modules())
    output = copy.deepcopy(model)(**data.kwargs, output_hidden_states=True)
    assert torch.equal(output.logits, expected.logits)
    assert torch.autograd.grad(output.loss, [output.hidden_states[1]])[0].abs().sum() > 0
    yanma.restore(model)
    assert not any(hooks_of("yanma", module) for module in model.modules())


def hooks_of(place: str, module: nn.Module) -> bool:
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(hook.__module__.startswith(place) for hook in hooks)
