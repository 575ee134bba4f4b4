"""Layers left out at random (LayerDrop): idle in inference, by the seed in training; feed-forwards in chunks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import yanma
from models.builders import FAMILIES, SEQ2SEQ, build, every_head, rectangle
from models.pairs import generator, pairs
from models.sounds import padded, recordings
from yanma.models.families import SPEECH
from yanma.models.family import Family

BY_TYPE = {family.model_type: family for family in (*FAMILIES, *SEQ2SEQ, *SPEECH)}
NAMES = {"opt": "OPTForCausalLM", "wav2vec2": "Wav2Vec2ForCTC", "hubert": "HubertForCTC"}
DROP = [name for name in BY_TYPE if name in (*NAMES, "bart", "mbart", "marian", "pegasus", "m2m_100")]


def made(model_type: str, p: float, **more: Any) -> torch.nn.Module:
    family = BY_TYPE[model_type]
    settings = {"layerdrop": p} if model_type in NAMES else {"encoder_layerdrop": p, "decoder_layerdrop": p}
    name = NAMES.get(model_type) or generator(family)
    return build(family, name, **settings, **more)


def call(model_type: str, model: torch.nn.Module, chosen: list[int], **more: Any) -> list[torch.Tensor]:
    """Logits of some documents, one tensor each; those that hear are given all."""
    family = BY_TYPE[model_type]
    if family.is_speech:
        sounds = [recordings((100, 61, 61, 200))[i] for i in chosen]
        frames = model._get_feat_extract_output_lengths(torch.tensor([len(sound) for sound in sounds]))
        logits = model(**padded(sounds), **more).logits
        return [row[:n] for row, n in zip(logits, frames, strict=True)]
    if family.cross_attention:
        data = pairs(family, generator(family))
        args, kwargs = data.packed(chosen)
        logits = model(*args, **kwargs, **more).logits
        return [*logits.split([len(data.targets[i]) for i in chosen])]
    documents = rectangle(family, NAMES[model_type]).documents
    batch = yanma.PackedBatch.from_sequences([documents[i] for i in chosen], ids=chosen)
    return batch.unpack(model(batch, **more).logits)


@pytest.mark.parametrize("model_type", DROP)
def test_layerdrop_is_idle_in_inference(model_type: str):
    dropping, plain = made(model_type, 0.5), made(model_type, 0.0)
    plain.load_state_dict(dropping.state_dict())
    with torch.no_grad():
        got, expected = (call(model_type, yanma.unpad(each), [0, 1]) for each in (dropping, plain))
    assert all(map(torch.equal, got, expected))


@pytest.mark.parametrize("model_type", DROP)
def test_layers_are_left_out_by_the_seed_whatever_the_company(model_type: str):
    model = yanma.unpad(made(model_type, 0.5)).train()
    ran: list[int] = []
    layers = [
        module
        for module in model.modules()
        if type(module).__name__.endswith(("EncoderLayer", "DecoderLayer"))
    ]
    layers += [module for module in model.modules() if type(module).__name__.endswith("LayerStableLayerNorm")]
    for number, layer in enumerate(layers):
        layer.register_forward_hook(lambda *given, number=number: ran.append(number))
    assert layers
    counts, patterns = 0, set()
    with torch.no_grad():
        for seed in range(40):
            ran.clear()
            together = call(model_type, model, [0, 1, 3], seed=seed)[1]
            first = tuple(ran)
            ran.clear()
            (alone,) = call(model_type, model, [1], seed=seed)
            assert tuple(ran) == first and (together - alone).abs().max() < 1e-5
            counts += len(first)
            patterns.add(first)
    assert 0.3 < counts / (40 * len(layers)) < 0.7 and len(patterns) > 2


@pytest.mark.parametrize("model_type", DROP)
def test_every_layer_left_out_is_the_stock_model_without_layers(model_type: str):
    stock = made(model_type, 1.0).train()
    model = yanma.unpad(copy.deepcopy(stock))
    family = BY_TYPE[model_type]
    if family.is_speech:
        data: dict[str, Any] = {"input_values": recordings((100,))[0][None]}
    elif family.cross_attention:
        data = {k: v for k, v in pairs(family, generator(family)).alone(0).items()}
    else:
        data = {"input_ids": rectangle(family, NAMES[model_type]).documents[0][None]}
    with torch.no_grad():
        assert (model(**data).logits - stock(**data).logits).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("family", "name"),
    [*{family.model_type: (family, name) for family, name in every_head()}.values()],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_feed_forwards_in_chunks_have_the_same_numbers(family: Family, name: str):
    slots = 20
    stock, data = build(family, name), rectangle(family, name, slots=slots)
    chunked = build(family, name, chunk_size_feed_forward=4)
    chunked.load_state_dict(stock.state_dict())
    asked = [vars(module).get("chunk_size_feed_forward") for module in chunked.modules()]
    with torch.no_grad():
        expected, own = (
            yanma.unpad(copy.deepcopy(each))(**data.kwargs, use_cache=False).to_tuple()
            for each in (stock, chunked)
        )
    assert all(map(torch.equal, own, expected))
    back = yanma.restore(yanma.unpad(chunked))
    assert [vars(module).get("chunk_size_feed_forward") for module in back.modules()] == asked
