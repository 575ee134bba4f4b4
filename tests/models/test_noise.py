"""Noise on embeddings (NEFTune) is as large as each document's own length says, whatever its company."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers.integrations.neftune import activate_neftune, deactivate_neftune

import yanma
from models.builders import FAMILIES, SEQ2SEQ, build, gradient, rectangle
from models.pairs import generator, pairs
from yanma.models.by_keyword import one_row

BY_TYPE = {family.model_type: family for family in FAMILIES}
ALPHA, WIDTH = 5.0, 32
LENGTHS = (17, 3, 9, 9, 1, 12)


def noises(model: Any, run, owner: Any = None) -> Tensor:
    """(T, C): what hooks have added to the embeddings, documents by length."""
    embeddings, found = (owner or model).get_input_embeddings(), []
    reading = embeddings.register_forward_pre_hook(lambda module, args: found.append(args[0].flatten()))
    parts: list[Tensor] = []
    hearing = embeddings.register_forward_hook(
        lambda module, args, output: parts.append(output.flatten(0, 1))
    )
    torch.manual_seed(0)
    run()
    reading.remove()
    hearing.remove()
    clean = nn.functional.embedding(torch.cat(found), embeddings.weight)
    return (torch.cat(parts) - clean * getattr(embeddings, "embed_scale", 1.0)).detach()


def assert_own_lengths(noise: Tensor, lengths: tuple[int, ...]) -> None:
    for own in noise.split(sorted(lengths)):
        largest = ALPHA / (len(own) * WIDTH) ** 0.5
        assert 0.8 * largest < own.abs().max() <= largest * 1.0001, f"of a document of {len(own)} tokens"


@pytest.mark.parametrize("how", ["PackedBatch", "keywords", "padded"])
@pytest.mark.parametrize("name", ["BertForTokenClassification", "LlamaForCausalLM", "BertForMaskedLM"])
def test_noise_is_of_each_documents_own_length(name: str, how: str):
    family = BY_TYPE["llama" if "Llama" in name else "bert"]
    model, data = yanma.unpad(build(family, name).train()), rectangle(family, name, LENGTHS)
    activate_neftune(model, ALPHA)
    batch = yanma.PackedBatch.from_sequences(data.documents)
    runs = {
        "PackedBatch": partial(model, batch),
        "keywords": partial(model, **one_row(batch)),
        "padded": partial(model, **data.kwargs),
    }
    assert_own_lengths(noises(model, runs[how]), LENGTHS)


@pytest.mark.parametrize("count", [1, 4, 16])
def test_equal_texts_have_noise_of_one_size(count: int):
    model = yanma.unpad(build(BY_TYPE["bert"], "BertForTokenClassification").train())
    activate_neftune(model, ALPHA)
    batch = yanma.PackedBatch.from_sequences([[*range(5, 13)]] * count)
    largest = noises(model, partial(model, batch)).abs().max()
    assert 0.3 < largest <= 0.3125 * 1.0001


@pytest.mark.parametrize("family", SEQ2SEQ[:1] + SEQ2SEQ[-1:], ids=lambda family: family.model_type)
def test_noise_of_an_encoder_is_of_the_sources_lengths(family):
    name = generator(family)
    model, data = yanma.unpad(build(family, name).train()), pairs(family, name)
    owner = model.get_encoder()  # the model's own, `shared`, is called by nobody
    activate_neftune(owner, ALPHA)
    args, kwargs = data.packed()
    noise = noises(model, partial(model, *args, **kwargs), owner)
    lengths = [*map(len, data.sources)]
    noise = noise[: sum(lengths)]
    order = sorted(range(len(lengths)), key=lambda i: (len(data.targets[i]), lengths[i]))
    for own in noise.split([lengths[i] for i in order]):
        assert 0.8 * ALPHA < own.abs().max() * (len(own) * WIDTH) ** 0.5 <= ALPHA * 1.0001


def test_noise_on_an_adapter_of_the_embeddings():
    stock, data = build(BY_TYPE["llama"], "LlamaForCausalLM"), rectangle(BY_TYPE["llama"], "LlamaForCausalLM")
    config = peft.LoraConfig(target_modules=["embed_tokens", "q_proj"], r=2)
    model = peft.get_peft_model(yanma.unpad(stock), config).train()
    activate_neftune(model, ALPHA)
    batch = yanma.PackedBatch.from_sequences(data.documents)
    embeddings = model.base_model.model.get_input_embeddings()
    heard = []
    embeddings.register_forward_hook(lambda module, args, output: heard.append(output.shape))
    model(batch)
    assert [shape[:2] for shape in heard] == [(1, 1), (1, 3), (2, 9), (1, 12), (1, 17)]


def test_a_forward_that_was_replaced_hears_documents_too():
    model, data = (
        build(BY_TYPE["bert"], "BertForTokenClassification").train(),
        rectangle(BY_TYPE["bert"], "BertForTokenClassification"),
    )
    embeddings = model.get_input_embeddings()
    stock, lengths = embeddings.forward, []

    def noisy(ids: Tensor) -> Tensor:
        lengths.append(ids.shape[1])
        return stock(ids)

    embeddings.forward = noisy
    yanma.unpad(model)(**data.kwargs)
    assert lengths == [1, 3, 9, 12, 17]
    assert type(yanma.restore(model).get_input_embeddings()) is nn.Embedding


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForTokenClassification"])
def test_hearing_changes_no_number_and_ends(name: str):
    family = BY_TYPE["bert"]
    plain, data = yanma.unpad(build(family, name).train()), rectangle(family, name)
    heard = copy.deepcopy(plain)
    handle = heard.get_input_embeddings().register_forward_hook(lambda *given: None)
    for model in (plain, heard):
        model(**data.kwargs, seed=1).loss.backward()
    assert (gradient(plain) - gradient(heard)).abs().max() < 1e-6
    handle.remove()
    activated = activate_neftune(heard, ALPHA)
    deactivate_neftune(heard, activated)
    assert torch.equal(heard(**data.kwargs, seed=1).loss, plain(**data.kwargs, seed=1).loss)
    assert type(yanma.restore(heard).get_input_embeddings()) is nn.Embedding
