"""Adapters in encoders with decoders: keys and values across are of source tokens, and so is what is dropped there."""

import peft
import pytest
import torch

import yanma
from models.builders import SEQ2SEQ, build

SOURCES, TARGETS = (5, 3, 4, 4), (4, 5, 3, 4)
"""Together as many tokens are read as are written: shapes alone do not tell them apart."""
ORDERS = pytest.mark.parametrize("order", ["peft of unpadded", "unpadded peft"])
EVERY_SEQ2SEQ = pytest.mark.parametrize("family", SEQ2SEQ, ids=lambda family: family.model_type)


def writer(family):
    return next(name for name, head in family.heads.items() if head.decodes and head.token_labels)


def adapted(family, order, **settings):
    torch.manual_seed(7)
    config = peft.LoraConfig(
        target_modules=[*family.reads_source], lora_dropout=0.5, init_lora_weights=False, **settings
    )
    base = build(family, writer(family))
    if order == "peft of unpadded":
        return peft.get_peft_model(yanma.unpad(base), config).train()
    return yanma.unpad(peft.get_peft_model(base, config)).train()


def sequences(lengths, seed):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(5, 100, (length,), generator=draw) for length in lengths]


def gradients(model, chosen, is_padded=False):
    """Of the sum of the chosen pairs' losses."""
    sources, targets = sequences(SOURCES, 1), sequences(TARGETS, 2)
    batch = yanma.PackedBatch.from_sequences([sources[i] for i in chosen], ids=chosen)
    labels = yanma.PackedBatch.from_sequences([targets[i] for i in chosen])
    model.zero_grad()
    if is_padded:  # a row is known by its number there
        valid = batch.pad(torch.ones_like(batch.input_ids))
        rows, written = batch.pad(batch.input_ids), labels.pad(labels.input_ids, -100)
        loss = model(input_ids=rows, attention_mask=valid, labels=written, seed=3).loss
    else:
        loss = model(batch, labels=labels, seed=3).loss
    (loss * len(labels.input_ids)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@ORDERS
@EVERY_SEQ2SEQ
def test_what_is_dropped_of_a_source_does_not_depend_on_company(family, order):
    model = adapted(family, order)
    together, parts = gradients(model, range(4)), [gradients(model, [i]) for i in range(4)]
    turned = gradients(model, [2, 0, 3, 1])
    assert sum(family.cross_attention in name for name in together) == 8, "no adapter reads a source"
    for name, gradient in together.items():
        torch.testing.assert_close(sum(part[name] for part in parts), gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(turned[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model_type", ["bart", "t5"])
def test_padded_pairs_drop_what_packed_ones_do(model_type):
    family = next(family for family in SEQ2SEQ if family.model_type == model_type)
    model = adapted(family, "peft of unpadded")
    packed, padded = gradients(model, range(4)), gradients(model, range(4), is_padded=True)
    for name, gradient in packed.items():
        torch.testing.assert_close(padded[name], gradient, rtol=1e-4, atol=1e-6)


@ORDERS
@pytest.mark.parametrize("model_type", ["bart", "t5"])
def test_a_layer_that_is_computed_again_drops_of_the_source_what_it_dropped(model_type, order):
    family = next(family for family in SEQ2SEQ if family.model_type == model_type)
    model = adapted(family, order)
    expected = gradients(model, range(4))
    model.enable_input_require_grads()
    model.activation_checkpointing_enable()
    for name, gradient in gradients(model, range(4)).items():
        assert torch.equal(gradient, expected[name]), name


@ORDERS
def test_restored_projections_are_peft_s_own(order):
    family = SEQ2SEQ[0]
    model = adapted(family, order)
    gradients(model, [0])
    assert not any(hasattr(type(module), "_yanma_stock") for module in yanma.restore(model).modules())
