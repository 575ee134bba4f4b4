"""Attention weights of calls that go through the stock forward: those of the stock model, or a refusal; never none."""

from __future__ import annotations

import copy

import pytest
import torch

import yanma
from models.builders import FAMILIES, SEQ2SEQ, build, head_named
from models.pairs import generator
from yanma.models.family import Family

DECODERS = [family for family in FAMILIES if family.caches]
IDS = torch.randint(5, 90, (2, 6), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("loaded", ["eager", "sdpa"])
@pytest.mark.parametrize("family", DECODERS, ids=lambda family: family.model_type)
def test_a_decoder_with_a_cache_gives_the_weights_of_eager_attention(family: Family, loaded: str):
    name = head_named(family, "LMHeadModel" if family.model_type == "gpt2" else "ForCausalLM")
    stock = build(family, name)
    if loaded == "sdpa" and family.model_type == "gemma2":
        pytest.skip("it has no sdpa")
    given = copy.deepcopy(stock)
    given.set_attn_implementation(loaded)
    stock.set_attn_implementation("eager")
    model = yanma.unpad(given)
    written = {"max_new_tokens": 2, "do_sample": False, "return_dict_in_generate": True}
    with torch.no_grad():
        expected, got = (
            [
                *each(input_ids=IDS, use_cache=True, output_attentions=True).attentions,
                *sum(each.generate(IDS, output_attentions=True, **written).attentions, ()),
            ]
            for each in (stock, model)
        )
    assert len(got) == 6 and all((a - b).abs().max() < 1e-6 for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("family", SEQ2SEQ, ids=lambda family: family.model_type)
def test_an_encoder_refuses_them_by_name(family: Family):
    model = yanma.unpad(build(family, generator(family)))
    with pytest.raises(yanma.Unsupported, match="does not do output_attentions"):
        model.generate(IDS, output_attentions=True, max_new_tokens=2, return_dict_in_generate=True)
