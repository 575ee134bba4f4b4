"""Keys and values of earlier tokens: kept where a call asks for them, and else refused to who would go on from them."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn

import yanma
from models.builders import FAMILIES, SEQ2SEQ, build, every_head, rectangle
from models.measured import sharpened
from models.pairs import pairs
from yanma import PackedBatch
from yanma.models.cache import NAMES, NotKept, _taken
from yanma.models.family import Family

ALL = [*every_head(), *every_head(decodes=True)]
MAY_KEEP = [
    (family, name)
    for family, name in ALL
    if family.caches or family.heads[name].decodes or family.heads[name].loss == "next_token"
]
DECODERS = [family for family in FAMILIES if family.caches]
BY_TYPE = {family.model_type: family for family in (*FAMILIES, *SEQ2SEQ)}


def each(cases: list[tuple[Family, str]]):
    return pytest.mark.parametrize(("family", "name"), cases, ids=[name for _, name in cases])


def kept(output: Any) -> Any:
    """Keys and values in an output, by either name."""
    (name,) = (field.name for field in fields(output) if field.name in NAMES)
    return output[name]


def step(model: nn.Module, ids: torch.Tensor, past: Any, **more: Any) -> Any:
    """A call with keys and values, by the name that this transformers has for them."""
    (name,) = _taken(model)
    return model(input_ids=ids, **{name: past}, **more)


def calls(family: Family, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of a padded forward, and labels."""
    if family.heads[name].decodes:
        given = pairs(family, name)
        inputs, labels = given.padded(), given.labels()
        if "labels" in inputs:
            labels["labels"] = inputs.pop("labels")
            inputs["decoder_input_ids"] = labels["labels"].clamp(min=1)
        return inputs, labels
    given = rectangle(family, name).kwargs
    inputs = {key: given[key] for key in ("input_ids", "attention_mask")}
    return inputs, {key: value for key, value in given.items() if key not in inputs}


@each(MAY_KEEP)
def test_outputs_have_the_stock_models_fields_in_their_places(family: Family, name: str):
    """So that the third of a tuple is the third, whether keys and values were asked for or not."""
    stock, (inputs, labels) = build(family, name), calls(family, name)
    ours = yanma.unpad(copy.deepcopy(stock))
    ways: list[dict[str, Any]] = [{}, labels, {"use_cache": False}, {"output_hidden_states": True}]
    for training in (False, True):
        for way in ways:
            expected, found = (m.train(training)(**inputs, **way) for m in (stock, ours))
            assert list(found) == list(expected), f"{list(way)}"
            places = (m(**inputs, **way, return_dict=False) for m in (stock, ours))
            assert len({len(values) for values in places}) == 1
    for model in (stock, ours):
        model.gradient_checkpointing_enable()
    assert list(ours(**inputs)) == list(stock(**inputs))


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra"])
def test_an_encoder_that_is_a_decoder_by_its_config_has_them_too(model_type: str):
    family = BY_TYPE[model_type]
    name = next(name for name in family.heads if name.endswith("Model") and not name.endswith("HeadModel"))
    stock, (inputs, _) = build(family, name, is_decoder=True), calls(family, name)
    ours = yanma.unpad(copy.deepcopy(stock))
    for way in ({}, {"output_hidden_states": True}):
        assert list(ours(**inputs, **way)) == list(stock(**inputs, **way))


@pytest.mark.parametrize(
    "name", ["LlamaForCausalLM", "GPT2Model", "BertLMHeadModel", "BartForConditionalGeneration"]
)
def test_going_on_from_a_call_that_kept_nothing_is_refused(name: str):
    family = next(family for family, known in ALL if known == name)
    model = yanma.unpad(build(family, name))
    ids = torch.tensor([[7, 8, 9], [5, 6, 7]])
    more = {"decoder_input_ids": ids[:, :2]} if family.heads[name].decodes else {}
    for output in (model(input_ids=ids, **more), model(PackedBatch.from_sequences([[7, 8]]))):
        past = kept(output)
        with pytest.raises(
            yanma.Unsupported, match=r"give use_cache=True to the call that this output came from"
        ):
            step(model, ids[:, -1:], past, **more)
        for use in (
            len,
            iter,
            bool,
            lambda x: x[0][0].shape,
            lambda x: x.get_seq_length(),
            lambda x: x.layers,
        ):
            with pytest.raises(yanma.Unsupported, match="an unpadded forward keeps no keys and values"):
                use(past)
        if family.heads[name].decodes:
            break


def test_what_stands_there_is_let_through_by_all_who_only_look():
    model = yanma.unpad(build(BY_TYPE["llama"], "LlamaForCausalLM"))
    with torch.no_grad():
        output = model(torch.tensor([[7, 8]]))
    for other in (copy.deepcopy(output), pickle.loads(pickle.dumps(output))):
        assert isinstance(kept(other), NotKept) and torch.equal(other.logits, output.logits)
    assert not hasattr(kept(output), "dtype") and not isinstance(kept(output), torch.Tensor)
    leaves, spec = torch.utils._pytree.tree_flatten(output)
    assert len(leaves) == 2 and list(torch.utils._pytree.tree_unflatten(leaves, spec)) == list(output)
    assert "NotKept" in repr(output)


@each([(family, name) for family in DECODERS for name in family.heads if not family.heads[name].token_labels])
def test_a_call_that_asks_for_them_is_the_stock_models_under_heads_that_do_not_write_too(
    family: Family, name: str
):
    """The base model's is computed without padding, that of the others by the stock forward."""
    bound = 1e-5 if "last_hidden_state" in family.heads[name].token_outputs else 0
    stock, ids = sharpened(build(family, name)), torch.tensor([[7, 8, 9, 6, 4], [5, 6, 7, 8, 3]])
    ours = yanma.unpad(copy.deepcopy(stock))
    if family.heads[name].loss == "span":  # no place for them
        assert torch.equal(ours(ids, use_cache=True)[0], stock(ids, use_cache=True)[0])
        return
    with torch.no_grad():
        first, truth = (model(ids, use_cache=True) for model in (ours, stock))
        found, expected = (step(m, ids[:, :1], kept(out)) for m, out in ((ours, first), (stock, truth)))
    for mine, theirs in ((first[0], truth[0]), (found[0], expected[0])):
        torch.testing.assert_close(mine, theirs, rtol=bound, atol=bound)


@each([(family, name) for family, name in every_head(decodes=True) if name.endswith(("Model", "Generation"))])
def test_a_hand_written_loop_that_asks_for_them_writes_the_stock_models_words(family: Family, name: str):
    stock, written = sharpened(build(family, name)), []
    source = {"input_ids": torch.tensor([[7, 8, 9, 2], [5, 6, 2, 1]])}
    source["attention_mask"] = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    for model in (stock, yanma.unpad(copy.deepcopy(stock))):
        states, ids, more = [], torch.full((2, 1), 3), {"use_cache": True}
        with torch.no_grad():
            read = model.get_encoder()(**source)
            for _ in range(4):
                output = model(
                    encoder_outputs=read,
                    attention_mask=source["attention_mask"],
                    decoder_input_ids=ids,
                    **more,
                )
                states.append(output[0])
                ids = output[0][:, -1].argmax(-1, keepdim=True) % 90 + 5
                more = dict.fromkeys(_taken(model), kept(output))
        written.append(torch.cat(states, 1))
    torch.testing.assert_close(written[1], written[0], rtol=1e-5, atol=1e-5)


def test_two_names_for_one_thing_are_not_both_taken_and_none_is_passed_over():
    model = yanma.unpad(build(BY_TYPE["llama"], "LlamaForCausalLM"))
    ids = torch.tensor([[7, 8]])
    past = kept(model(ids, use_cache=True))
    with pytest.raises(ValueError, match="past_key_values and cache are the same; give one of them"):
        model(ids, past_key_values=past, cache=past)
    batch = PackedBatch.from_sequences([[7, 8]])
    for name in NAMES:
        with pytest.raises(yanma.Unsupported, match=rf"{name} \(a key-value cache.* go with padded rows"):
            model(batch, **{name: past})


@each(
    [(family, name) for family in BY_TYPE.values() for name in family.heads if name.endswith("ForCausalLM")]
)
def test_every_head_that_writes_on_goes_on_from_its_cache(family: Family, name: str):
    stock = build(family, name)
    ids = torch.tensor([[7, 8, 9, 10], [11, 12, 13, 14]])
    ways = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 3, "do_sample": False}
    expected = stock.generate(ids, **ways)
    assert torch.equal(yanma.unpad(stock).generate(ids, **ways), expected)


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "BartForConditionalGeneration", "BertLMHeadModel"])
def test_a_step_takes_no_argument_that_the_stock_forward_would_pass_over(name: str):
    family = next(family for family, own in ALL if own == name)
    model, ids = yanma.unpad(build(family, name, is_decoder=True)).train(), torch.arange(10, 16)[None]
    call = {"input_ids": ids, "use_cache": True}
    if family.cross_attention:
        call["decoder_input_ids"] = ids
    with pytest.raises(yanma.Unsupported, match="seed does not go with a key-value cache"):
        model(**call, seed=1)
    with pytest.raises(yanma.Unsupported, match="max_logits_mib does not go with a key-value cache"):
        model(**call, max_logits_mib=64)
    torch.testing.assert_close(model.eval()(**call, seed=1).logits, model(**call).logits)
