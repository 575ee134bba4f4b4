"""Every head in float64, where a wrong formula cannot hide behind rounding, and in bfloat16 within its budget.

Weights are larger than a fresh model's, so that attention is sharp and every bias and norm matters.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import yanma
from models.builders import build, doubled, every_head, gradient, rectangle, scored
from yanma.models.families import Family

HEADS = pytest.mark.parametrize(
    ("family", "name"), list(every_head()), ids=[name for _, name in every_head()]
)


def sharpened(model: nn.Module) -> nn.Module:
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            random = 0.25 * torch.randn(parameter.shape, generator=draw)
            is_norm = name.lower().endswith("norm.weight")
            parameter.copy_(random + 1 if is_norm else random)
    return model


@HEADS
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_in_float64_all_outputs_and_the_gradient_are_the_stock_models(family: Family, name: str, mode: str):
    head, data = family.heads[name], rectangle(family, name)
    stock = doubled(sharpened(build(family, name))).train(mode == "train")
    ours = yanma.unpad(copy.deepcopy(stock))
    outputs, gradients = [], []
    for model in (stock, ours):
        found = scored(model(**data.kwargs, output_hidden_states=True), head, data.valid)
        if head.loss == "span":
            del found["loss"]  # the stock loss spreads probability over padding
        draw = torch.Generator().manual_seed(4)
        weighted = [
            (value * torch.randn(value.shape, generator=draw, dtype=torch.float64)).sum()
            for value in found.values()
        ]
        torch.stack(weighted).sum().backward()
        outputs.append(found)
        gradients.append(gradient(model))
    assert outputs[0].keys() == outputs[1].keys() and len(outputs[0]) >= 4
    # The loss of some causal heads is computed in float32 whatever the model's dtype.
    bound = 1e-12 if all(value.dtype == torch.float64 for value in outputs[0].values()) else 1e-6
    for key, expected in outputs[0].items():
        difference = (outputs[1][key] - expected).abs().max() / expected.abs().max()
        assert difference < (1e-12 if expected.dtype == torch.float64 else 1e-6), (
            f"{key} differs by {difference:.1e}"
        )
    difference = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    assert difference < bound, f"the gradient differs by {difference:.1e}"


@HEADS
def test_in_bfloat16_the_error_is_within_twice_the_stock_models(family: Family, name: str):
    """Against float64 with the same weights; and one rounding step."""
    head, data = family.heads[name], rectangle(family, name)
    stock = sharpened(build(family, name)).bfloat16()
    exact, ours = doubled(stock), yanma.unpad(copy.deepcopy(stock))
    inputs = {key: data.kwargs[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        truth = scored(exact(**inputs), head, data.valid)
        theirs, found = (scored(model(**inputs), head, data.valid) for model in (stock, ours))
    for key, expected in truth.items():
        their_error, our_error = ((x[key].double() - expected).abs() for x in (theirs, found))
        step = torch.finfo(torch.bfloat16).eps * expected.abs()
        for kind in (torch.mean, torch.max):
            budget = 2 * kind(their_error) + kind(step)
            assert kind(our_error) <= budget, f"{key}: {kind.__name__} {kind(our_error):.1e} > {budget:.1e}"


@HEADS
def test_padding_is_neither_read_nor_computed(family: Family, name: str):
    """Other tokens in hidden slots, and more of them, change no bit."""
    head, data = family.heads[name], rectangle(family, name)
    model = yanma.unpad(sharpened(build(family, name)))
    inputs = {key: data.kwargs[key] for key in ("input_ids", "attention_mask")}
    hidden = inputs["attention_mask"] == 0
    filled = inputs | {"input_ids": inputs["input_ids"].masked_fill(hidden, 7)}
    wider = {key: nn.functional.pad(value, (0, 9)) for key, value in inputs.items()}
    with torch.no_grad():
        before, after = (scored(model(**x), head, data.valid) for x in (inputs, filled))
        widest = scored(model(**wider), head, nn.functional.pad(data.valid, (0, 9)))
    for key, value in before.items():
        assert torch.equal(after[key], value), f"{key} reads what is hidden"
        assert torch.equal(widest[key], value), f"{key} depends on the number of padding slots"
