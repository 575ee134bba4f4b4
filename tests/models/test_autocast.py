"""Under autocast every family computes as the stock model does: padded, packed, checkpointed and exact in bits."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from torch import nn

import yanma
from models.builders import (
    FAMILIES,
    TABLE,
    build,
    doubled,
    few_families,
    few_heads,
    gradient,
    head_named,
    rectangle,
    relative,
)
from models.measured import autocast_to, differing_pairs, measure, sharpened
from models.pairs import generator, pairs
from models.sounds import padded, recordings
from yanma.models.families import SPEECH
from yanma.models.family import Family
from yanma.models.scored import scored_loss

BF16 = torch.bfloat16
EVERY_FAMILY = few_families([*TABLE, *SPEECH])
BY_TYPE = {family.model_type: family for family in FAMILIES}
BY_TOKEN_AND_DOCUMENT = [
    (family, name)
    for family in [*TABLE, *SPEECH]
    for name in dict.fromkeys((next(iter(family.heads)), head_named(family, "ForSequenceClassification")))
]


def padded_case(family: Family) -> tuple[str, dict[str, torch.Tensor]]:
    """A head of which no padding is compared, and padded arguments for it."""
    if family.is_speech:
        return next(iter(family.heads)), padded(recordings([100, 100, 100]))
    if family.model_type == "clip_text_model":
        return "CLIPTextModel", rectangle(family, "CLIPTextModel", lengths=(20, 20, 20)).kwargs
    if family.cross_attention:
        return generator(family), pairs(family, generator(family)).padded()
    name = head_named(family, "ForTokenClassification")
    return name, rectangle(family, name).kwargs


def loss_of(output) -> torch.Tensor:
    """The loss, or else a fixed sum."""
    return output[0] if output.get("loss") is not None else output[0].float().square().sum()


@few_heads(BY_TOKEN_AND_DOCUMENT)
def test_outputs_and_gradients_of_packs_err_no_more_than_the_stock_models(family: Family, name: str):
    found = measure(family, name, "train", torch.float32, autocast=BF16)
    assert found.error <= 2, f"outputs err by {found.error:.2f} times the stock model's error"
    assert found.gradient_error <= 2, f"the gradient errs by {found.gradient_error:.2f} times the stock one's"
    assert found.pairs == 30 and found.leaks == 0, f"{found.leaks} of {found.pairs} pairs leak"


@EVERY_FAMILY
def test_padded_rows_and_checkpointed_layers_too(family: Family):
    name, kwargs = padded_case(family)
    stock = sharpened(build(family, name)).train()
    ours, exact = yanma.unpad(copy.deepcopy(stock)), doubled(stock)
    checkpointed = copy.deepcopy(ours)
    if type(stock).supports_gradient_checkpointing and not family.repeats_layers:
        checkpointed.gradient_checkpointing_enable()
    wide = {key: x.double() if x.is_floating_point() else x for key, x in kwargs.items()}
    truth, losses = loss_of(exact(**wide)), []
    for model in (stock, ours, checkpointed):
        with autocast_to(BF16):
            losses.append(loss_of(model(**kwargs)))
    for loss in (truth, *losses):
        loss.backward()
    errors = [abs(float(loss.detach() / truth.detach()) - 1) for loss in losses]
    assert errors[1] <= 2 * errors[0] + torch.finfo(BF16).eps, f"the loss of stock and ours errs by {errors}"
    assert losses[2] == losses[1] and torch.equal(gradient(checkpointed), gradient(ours))
    true = gradient(exact)
    errors = [relative(gradient(model).double(), true) for model in (stock, ours)]
    assert errors[1] <= 2 * errors[0], f"the gradient of stock and ours errs by {errors}"
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in ours.parameters())


@EVERY_FAMILY
def test_no_bit_depends_on_company(family: Family):
    name = next(iter(family.heads))
    model = yanma.unpad(sharpened(build(family, name)))
    with autocast_to(BF16):
        differing, count = differing_pairs(model, family, name, 60)
    assert count >= 60 and differing == 0, f"{differing} of {count} pairs differ"


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "t5"])
def test_exact_bits_are_tried_in_the_dtypes_that_autocast_gives(model_type: str):
    family = next(family for family in TABLE if family.model_type == model_type)
    with autocast_to(BF16):
        model = yanma.unpad(sharpened(build(family, next(iter(family.heads)))), exact="bits")
    said = str(yanma.explain(model))
    assert "float32, autocast to bfloat16 on cpu" in said
    assert "attention with 4 heads of 8 in bfloat16: keeps its documents' bits" in said


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "gpt_neox", "eurobert"])
def test_the_loss_of_scored_tokens_is_that_of_all_logits(model_type: str):
    family = BY_TYPE[model_type]
    name = next(name for name, head in family.heads.items() if head.scores_vocabulary)
    data, model = rectangle(family, name), yanma.unpad(sharpened(build(family, name)).train())
    batch = yanma.PackedBatch.from_sequences(data.documents)
    labels = batch.input_ids.where(torch.arange(len(batch.input_ids)) % 3 != 0, -100)
    labels[batch.cu_seqlens[:-1].long()] = -100
    with autocast_to(BF16):
        scored, whole = scored_loss(model, batch, labels), model(batch, labels=labels)
    assert scored.loss.dtype == scored.losses.dtype == torch.float32
    torch.testing.assert_close(scored.losses.mean(), whole.loss.detach().float(), rtol=5e-3, atol=0)
    scored.loss.backward()
    assert gradient(model).abs().sum() > 0


@EVERY_FAMILY
def test_float64_stays_as_it_is(family: Family):
    name, kwargs = padded_case(family)
    model = yanma.unpad(build(family, name)).double()
    wide = {key: x.double() if x.is_floating_point() else x for key, x in kwargs.items()}
    expected = loss_of(model(**wide))
    with autocast_to(BF16):
        assert torch.equal(loss_of(model(**wide)), expected)


def test_models_in_bfloat16_and_half_precision_take_it_too():
    llama = BY_TYPE["llama"]
    data = rectangle(llama, "LlamaForTokenClassification")
    for weights, cast in ((BF16, BF16), (torch.float32, torch.float16)):
        stock = sharpened(build(llama, "LlamaForTokenClassification")).to(weights)
        ours = yanma.unpad(copy.deepcopy(stock))
        with torch.no_grad(), autocast_to(cast):
            expected, found = (model(**data.kwargs).logits[data.valid] for model in (stock, ours))
        assert found.dtype == expected.dtype == cast
        torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1)


def test_words_that_are_written_are_the_stock_models():
    stock = sharpened(build(BY_TYPE["qwen3"], "Qwen3ForCausalLM"))
    ours: nn.Module = yanma.unpad(copy.deepcopy(stock))
    ids = torch.randint(5, 99, (3, 7), generator=torch.Generator().manual_seed(0))
    how = transformers.GenerationConfig(max_new_tokens=6, do_sample=False, pad_token_id=0)
    with autocast_to(BF16):
        words = [model.generate(input_ids=ids, generation_config=how) for model in (stock, ours)]
    assert torch.equal(*words)
