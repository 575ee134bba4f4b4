"""Every head in float64, where a wrong formula cannot hide behind rounding, and in lower precision within its budget.

Weights are larger than a fresh model's, so that attention is sharp and every bias and norm matters.
"""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from torch import nn

import yanma
from models.builders import (
    FAMILIES,
    SLOTS,
    SPAN_FAMILIES,
    build,
    doubled,
    every_head,
    gradient,
    rectangle,
    scored,
)
from models.measured import sharpened
from yanma.models.family import Family

HEADS = pytest.mark.parametrize(
    ("family", "name"), list(every_head()), ids=[name for _, name in every_head()]
)

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


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
    # Some norms, and the loss of some causal heads, are computed in float32 whatever the model's dtype.
    names = {type(module).__name__ for module in stock.modules()}
    is_double = not any("RMSNorm" in name or "T5LayerNorm" in name for name in names)
    bound = 1e-12 if is_double and all(x.dtype == torch.float64 for x in outputs[0].values()) else 1e-6
    for key, expected in outputs[0].items():
        difference = (outputs[1][key] - expected).abs().max() / expected.abs().max()
        assert difference < (1e-12 if is_double and expected.dtype == torch.float64 else 1e-6), (
            f"{key} differs by {difference:.1e}"
        )
    difference = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    assert difference < bound, f"the gradient differs by {difference:.1e}"


@HEADS
@DTYPES
def test_in_lower_precision_the_error_is_within_twice_the_stock_models(
    family: Family, name: str, dtype: torch.dtype
):
    """Against float64 with the same weights; and two rounding steps."""
    head, data = family.heads[name], rectangle(family, name)
    stock = sharpened(build(family, name)).to(dtype)
    exact, ours = doubled(stock), yanma.unpad(copy.deepcopy(stock))
    inputs = {key: data.kwargs[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        truth = scored(exact(**inputs), head, data.valid)
        theirs, found = (scored(model(**inputs), head, data.valid) for model in (stock, ours))
    for key, expected in truth.items():
        their_error, our_error = ((x[key].double() - expected).abs() for x in (theirs, found))
        steps = 2 * torch.finfo(dtype).eps * expected.abs()
        for kind in (torch.mean, torch.max):
            budget = 2 * kind(their_error) + kind(steps)
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


@HEADS
def test_in_float32_the_whole_gradient_is_the_stock_models(family: Family, name: str):
    head, data = family.heads[name], rectangle(family, name)
    if head.loss == "span":
        data = rectangle(family, name, lengths=(SLOTS,) * 4)  # without padding the two losses mean the same
    stock = sharpened(build(family, name)).train()
    ours = yanma.unpad(copy.deepcopy(stock))
    for model in (stock, ours):
        output = model(**data.kwargs)
        squares = [value.square().sum() for value in scored(output, head, data.valid).values()]
        loss = output.loss if "loss" in output else torch.stack(squares).sum()
        loss.backward()
    expected, found = gradient(stock), gradient(ours)
    difference = float((expected - found).norm() / expected.norm())
    assert expected.norm() > 0 and difference <= 1e-5, f"the gradient differs by {difference:.1e}"


@SPAN_FAMILIES
def test_the_span_loss_is_that_of_documents_alone(family: Family):
    name = next(name for name, head in family.heads.items() if head.loss == "span")
    head, data = family.heads[name], rectangle(family, name)
    stock = build(family, name)
    ours = yanma.unpad(copy.deepcopy(stock))
    alone = []
    for row, document in enumerate(data.documents):
        answers = {key: data.kwargs[key][row : row + 1] for key in head.document_labels}
        alone.append(stock(input_ids=document[None], **answers).loss)
    together = ours(**data.kwargs).loss
    packed = ours(
        yanma.PackedBatch.from_sequences(data.documents), **{k: data.kwargs[k] for k in head.document_labels}
    )
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(packed.loss, together, rtol=0, atol=0)


def test_the_table_has_every_head_that_transformers_has():
    known = {name for _, name in every_head()}
    for family in FAMILIES:
        prefix = next(iter(family.heads)).removesuffix("Model")
        theirs = {
            n
            for n in dir(transformers)
            if n.startswith((prefix + "For", prefix + "Model", prefix + "LMHead"))
        }
        assert theirs and theirs <= known, (
            f"transformers has {sorted(theirs - known)}, which the table does not know"
        )
