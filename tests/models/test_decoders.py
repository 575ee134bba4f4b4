"""Decoders: windows of layers, pooling on the last token, generation, and what is refused."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import transformers
from torch import nn

import yanma
from models.builders import FAMILIES, build, doubled, gradient, rectangle
from models.test_exactness import sharpened
from yanma.masks import window
from yanma.models.activations import gelu_tanh, quick_gelu, silu
from yanma.models.family import Family

BY_TYPE = {family.model_type: family for family in FAMILIES}
DECODERS = [family for family in FAMILIES if family.caches]
EACH = pytest.mark.parametrize("family", DECODERS, ids=lambda family: family.model_type)
LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
WINDOWED = {
    "mistral": ("mistral", {}),
    "qwen2": ("qwen2", {"layer_types": LAYERS}),
    "qwen3": ("qwen3", {"layer_types": LAYERS}),
    "gemma2": ("gemma2", {"layer_types": LAYERS}),
    "gemma3": ("gemma3_text", {"layer_types": LAYERS}),
    "gemma3, both ways": ("gemma3_text", {"layer_types": LAYERS, "use_bidirectional_attention": True}),
}


def named(family: Family, suffix: str) -> str:
    return next(name for name in family.heads if name.endswith(suffix))


def causal_lm(family: Family, **settings) -> nn.Module:
    return sharpened(
        build(
            family, named(family, "LMHeadModel" if family.model_type == "gpt2" else "ForCausalLM"), **settings
        )
    )


def random_documents(lengths: tuple[int, ...]) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    return [torch.randint(5, 99, (length,), generator=draw) for length in lengths]


@pytest.mark.parametrize("lengths", [(127, 1, 128, 129), (300, 31, 33, 32)], ids=str)
@pytest.mark.parametrize("kind", WINDOWED)
def test_windows_are_the_stock_models_one_document_at_a_time(kind: str, lengths: tuple[int, ...]):
    """And they matter: the same weights without windows give something else."""
    model_type, settings = WINDOWED[kind]
    family = BY_TYPE[model_type]
    settings = settings | {"sliding_window": 32, "num_hidden_layers": 3, "max_position_embeddings": 320}
    stock = doubled(sharpened(build(family, named(family, "Model"), **settings)))
    documents = random_documents(lengths)
    alone = torch.cat([stock(input_ids=ids[None]).last_hidden_state[0] for ids in documents])
    alone.square().sum().backward()
    ours = yanma.unpad(copy.deepcopy(stock))
    ours.zero_grad()
    together = ours(yanma.PackedBatch.from_sequences(documents)).last_hidden_state
    together.square().sum().backward()
    assert (together - alone).abs().max() <= 1e-5 * alone.abs().max()
    assert (gradient(ours) - gradient(stock)).norm() <= 1e-5 * gradient(stock).norm()
    wide = sharpened(build(family, named(family, "Model"), **(settings | {"sliding_window": 400}))).double()
    assert (wide(input_ids=documents[0][None]).last_hidden_state - alone[: lengths[0]]).abs().max() > 1e-2


@pytest.mark.parametrize("model_type", ["mistral", "qwen2", "qwen3"])
def test_without_windows_hidden_slots_may_stand_between_tokens(model_type: str):
    family, windowless = BY_TYPE[model_type], {"sliding_window": None, "layer_types": None}
    stock = sharpened(build(family, named(family, "Model"), **windowless))
    data = rectangle(family, named(family, "Model"))
    inputs = {key: data.kwargs[key].clone() for key in ("input_ids", "attention_mask")}
    inputs["attention_mask"][0, 4:6] = 0
    valid = inputs["attention_mask"].bool()
    found, expected = (m(**inputs).last_hidden_state for m in (yanma.unpad(copy.deepcopy(stock)), stock))
    torch.testing.assert_close(found[valid], expected[valid], rtol=1e-5, atol=1e-5)


@EACH
def test_the_last_token_that_is_not_padding_decides(family: Family):
    """As the stock model has it, in padding on either side, for texts that end with the padding id, and without one."""
    stock = sharpened(build(family, named(family, "ForSequenceClassification")))
    ours, pad = yanma.unpad(copy.deepcopy(stock)), stock.config.pad_token_id
    documents = [
        torch.tensor(ids) for ids in ([7, 8, 9, pad, pad], [5, pad, 6], [9], [pad, pad, pad], [8, 7])
    ]
    alone = torch.cat([stock(input_ids=ids[None]).logits for ids in documents])
    batch = yanma.PackedBatch.from_sequences(documents)
    torch.testing.assert_close(ours(batch).logits, alone, rtol=1e-5, atol=1e-5)
    data = rectangle(family, named(family, "ForSequenceClassification"))
    left = {key: data.kwargs[key].flip(1) for key in ("input_ids", "attention_mask")}
    torch.testing.assert_close(ours(**left).logits, stock(**left).logits, rtol=1e-5, atol=1e-5)
    stock.config.pad_token_id = ours.config.pad_token_id = None
    alone = torch.cat([stock(input_ids=ids[None]).logits for ids in documents])
    torch.testing.assert_close(ours(batch).logits, alone, rtol=1e-5, atol=1e-5)
    embedded = stock.get_input_embeddings()(torch.stack(documents[:1]))
    found, expected = (model(inputs_embeds=embedded.detach()).logits for model in (ours, stock))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 1}, torch.arange(6.0)),
        ({"num_labels": 3}, torch.rand(6, 3)),
        ({"num_labels": 3, "problem_type": "regression"}, torch.rand(6, 3)),
        ({"num_labels": 3}, torch.tensor([0, 1, 2, 0, -100, 2])),
    ],
    ids=["regression", "several labels", "regression of 3", "one label, with unlabelled"],
)
@EACH
def test_every_kind_of_document_label_gives_the_stock_loss(family: Family, settings, labels):
    name = named(family, "ForSequenceClassification")
    stock, data = sharpened(build(family, name, **settings)), rectangle(family, name)
    ours = yanma.unpad(copy.deepcopy(stock))
    inputs = {key: data.kwargs[key] for key in ("input_ids", "attention_mask")}
    expected = stock(**inputs, labels=labels).loss
    for found in (
        ours(**inputs, labels=labels),
        ours(yanma.PackedBatch.from_sequences(data.documents), labels=labels),
    ):
        torch.testing.assert_close(found.loss, expected, rtol=1e-5, atol=1e-6)


SEARCHES = {
    "greedy": {},
    "beam": {"num_beams": 3, "length_penalty": 0.7},
    "without a cache": {"use_cache": False},
    "static cache": {"cache_implementation": "static"},
}


@pytest.mark.parametrize("search", SEARCHES)
@EACH
def test_generation_is_the_stock_models_for_padded_prompts(family: Family, search: str):
    stock = causal_lm(family)
    ours = yanma.unpad(copy.deepcopy(stock))
    prompts = random_documents((7, 1, 4))
    ids = nn.utils.rnn.pad_sequence(prompts, True, stock.config.pad_token_id, padding_side="left")
    valid = nn.utils.rnn.pad_sequence([torch.ones_like(x) for x in prompts], True, 0, padding_side="left")
    more = {"max_new_tokens": 9, "do_sample": False, "output_scores": True, "return_dict_in_generate": True}
    found, expected = (
        model.generate(input_ids=ids, attention_mask=valid, **more, **SEARCHES[search])
        for model in (ours, stock)
    )
    assert found.sequences.shape[1] > 8 and torch.equal(found.sequences, expected.sequences)
    for mine, theirs in zip(found.scores, expected.scores, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@EACH
def test_generation_leaves_the_unpadded_forward_as_it_was(family: Family):
    model = yanma.unpad(causal_lm(family))
    batch = yanma.PackedBatch.from_sequences(random_documents((7, 1, 4)))
    with torch.no_grad():
        before = model(batch).logits
        model.generate(torch.stack(random_documents((3, 3))), max_new_tokens=2, do_sample=False)
        assert torch.equal(model(batch).logits, before)


def test_a_cache_is_refused_with_a_pack_and_with_added_masks():
    family = BY_TYPE["llama"]
    batch, ids = yanma.PackedBatch.from_sequences([[5, 6]]), torch.tensor([[5, 6]])
    with pytest.raises(yanma.Unsupported, match="does not do use_cache"):
        yanma.unpad(causal_lm(family))(batch, use_cache=True)
    with pytest.raises(yanma.Unsupported, match="does not do logits_to_keep"):
        yanma.unpad(causal_lm(family))(batch, logits_to_keep=1)
    masked = yanma.unpad(causal_lm(family), mask=window(1, 0))
    with pytest.raises(
        yanma.Unsupported, match="or with a key-value cache; call the whole model without one"
    ):
        masked.generate(ids, max_new_tokens=2)


def test_a_window_and_an_added_mask_both_hold():
    family = BY_TYPE["mistral"]
    narrow, wide = (sharpened(build(family, "MistralModel", sliding_window=size)) for size in (3, 9))
    batch = yanma.PackedBatch.from_sequences(random_documents((40, 3)))
    expected = yanma.unpad(narrow)(batch).last_hidden_state
    for model, mask in ((wide, window(2, 5)), (copy.deepcopy(narrow), window(8, 0))):
        model = yanma.restore(model) if yanma.models.is_unpadded(model) else model
        found = yanma.unpad(model, mask=mask)(batch).last_hidden_state
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


ROTATIONS = {
    "dynamic": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
    "longrope": {
        "rope_type": "longrope",
        "factor": 2.0,
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
        "original_max_position_embeddings": 40,
    },
}


@pytest.mark.parametrize(
    ("model_type", "settings", "message"),
    [
        ("llama", {"rope_parameters": ROTATIONS["dynamic"]}, "rope_type is 'dynamic'"),
        ("llama", {"rope_parameters": ROTATIONS["longrope"]}, "rope_type is 'longrope'"),
        ("gemma2", {"attention_dropout": 0.1}, r"attention_dropout is 0\.1, and attn_logit_softcapping 1\.5"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ("gpt2", {"add_cross_attention": True}, "cross-attention"),
    ],
)
def test_configs_that_cannot_be_honoured_are_refused_by_name(model_type: str, settings, message: str):
    with warnings.catch_warnings(), pytest.raises(yanma.Unsupported, match=message):
        yanma.unpad(build(BY_TYPE[model_type], named(BY_TYPE[model_type], "Model"), **settings))


@pytest.mark.parametrize("rotation", ["linear", "llama3", "yarn"])
def test_rotations_that_depend_on_places_alone_are_the_stock_models(rotation: str):
    rope = {
        "rope_type": rotation,
        "factor": 2.0,
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 40,
    }
    rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0} if rotation == "llama3" else {}
    stock = sharpened(build(BY_TYPE["llama"], "LlamaModel", rope_parameters=rope))
    documents = random_documents((60, 3, 41))
    alone = torch.cat([stock(input_ids=ids[None]).last_hidden_state[0] for ids in documents])
    together = yanma.unpad(stock)(yanma.PackedBatch.from_sequences(documents)).last_hidden_state
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("steady", "theirs"),
    [
        (silu, nn.SiLU()),
        (gelu_tanh, nn.GELU(approximate="tanh")),
        (quick_gelu, transformers.activations.QuickGELUActivation()),
    ],
    ids=["silu", "gelu_tanh", "quick_gelu"],
)
def test_an_activation_has_the_same_bits_wherever_a_number_stands(steady, theirs, dtype: torch.dtype):
    x = (4 * torch.randn(20_000, generator=torch.Generator().manual_seed(1))).to(dtype)
    whole, exact = steady(x), theirs(x.double())
    for length in (1, 7, 16, 31, 33, 64, 127):
        assert torch.equal(torch.cat([steady(part) for part in x.split(length)]), whole), (
            f"pieces of {length}"
        )
    step = torch.finfo(dtype).eps * exact.abs() + torch.finfo(torch.float32).eps
    assert bool(((whole.double() - exact).abs() <= 2 * (theirs(x).double() - exact).abs() + 2 * step).all())


def test_every_family_of_the_table_that_generates_is_here():
    assert len(DECODERS) == 10 and all(hasattr(transformers, named(family, "Model")) for family in DECODERS)
