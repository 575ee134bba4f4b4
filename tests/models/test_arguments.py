"""Arguments in every form that a stock model takes; what a stock model would refuse or ignore is never half taken."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers

import yanma
from models.builders import (
    FAMILIES,
    SLOTS,
    SPAN_FAMILIES,
    TAKE_IDS_ALONE,
    build,
    head_named,
    rectangle,
    scored,
)
from models.test_exactness import HEADS, sharpened
from yanma.models.cache import NotKept
from yanma.models.family import Family, after_padding_id

BY_TYPE = {family.model_type: family for family in FAMILIES}
BERT = BY_TYPE["bert"]
TOKENS, CLASSES, SPANS = (
    "BertForTokenClassification",
    "BertForSequenceClassification",
    "BertForQuestionAnswering",
)
COUNT_DISTANCES = (
    "modernbert", "mpnet", "deberta-v2", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text",
)  # fmt: skip
PAIRS = pytest.mark.parametrize("name", [TOKENS, CLASSES])


def pair(name: str, family: Family = BERT, **settings):
    """The stock model, the unpadded one, and arguments without labels."""
    stock = sharpened(build(family, name, **settings))
    data = rectangle(family, name)
    inputs = {key: data.kwargs[key] for key in ("input_ids", "attention_mask")}
    return stock, yanma.unpad(copy.deepcopy(stock)), inputs, data


def assert_same(found, expected, head, valid):
    found, expected = scored(found, head, valid), scored(expected, head, valid)
    assert found.keys() == expected.keys() and expected
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=lambda text: f"{key}: {text}")  # noqa: B023


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_other_ways_to_give_input_are_the_stock_models(family: Family):
    name = head_named(family, "ForTokenClassification")
    stock, ours, inputs, data = pair(name, family)
    holes = inputs["attention_mask"].clone()
    holes[0, 4:6] = 0
    ways: dict[str, dict] = {
        "position_ids": {"position_ids": torch.arange(SLOTS).flip(0)[None] + 2},
        "holes in the mask": {"attention_mask": holes},
        "padding on the left": {key: value.flip(1) for key, value in inputs.items()},
    }
    if family.token_types:
        ways["token_type_ids"] = {"token_type_ids": (torch.arange(SLOTS) > 3).long().expand(6, -1)}
    if family.model_type not in TAKE_IDS_ALONE:
        embeddings = stock.get_input_embeddings()(inputs["input_ids"]).detach()
        ways["inputs_embeds"] = {"input_ids": None, "inputs_embeds": embeddings}
    plain = stock(**inputs)[0][data.valid]
    for way, changes in ways.items():
        changed = inputs | changes
        if way == "holes in the mask" and family.model_type in COUNT_DISTANCES:
            with pytest.raises(yanma.Unsupported, match="row 0 has hidden slots between its tokens"):
                ours(**changed)
            continue
        valid, expected = changed["attention_mask"].bool(), stock(**changed)
        assert_same(ours(**changed), expected, family.heads[name], valid)
        if way in ("position_ids", "token_type_ids"):
            assert not torch.allclose(expected[0][valid], plain, atol=1e-2), f"{way} changes nothing"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
@pytest.mark.parametrize("suffix", ["ForTokenClassification", "ForSequenceClassification"])
def test_an_argument_that_is_none_is_not_given(family: Family, suffix: str):
    """As wrappers do, which hand on everything they know."""
    name = head_named(family, suffix)
    stock, ours, inputs, data = pair(name, family)
    names = ["position_ids", "labels", "output_hidden_states", "output_attentions"]
    names += ["inputs_embeds"] * (family.model_type not in TAKE_IDS_ALONE)
    nones = dict.fromkeys(names + ["token_type_ids"] * family.token_types)
    assert_same(ours(**inputs, **nones), stock(**inputs, **nones), family.heads[name], data.valid)


@PAIRS
@pytest.mark.parametrize("return_dict", [None, True, False])
@pytest.mark.parametrize("configured", [True, False])
def test_return_dict_means_what_it_means_to_the_stock_model(
    name: str, return_dict: bool | None, configured: bool
):
    stock, ours, inputs, data = pair(name, return_dict=configured)
    expected, found = stock(**inputs, return_dict=return_dict), ours(**inputs, return_dict=return_dict)
    assert type(found) is type(expected) and len(found) == len(expected) == 1
    scores, truth = (out[0][data.valid] if name == TOKENS else out[0] for out in (found, expected))
    torch.testing.assert_close(scores, truth, rtol=1e-5, atol=1e-5)


@PAIRS
@pytest.mark.parametrize("chosen", [True, False, 1, 0, [0], [-1], [0, 2]])
def test_hidden_states_are_chosen_as_from_the_stock_model(name: str, chosen):
    stock, ours, inputs, data = pair(name)
    expected, found = (model(**inputs, output_hidden_states=chosen).hidden_states for model in (stock, ours))
    if expected is None:
        assert found is None
        return
    assert [state is None for state in found] == [state is None for state in expected]
    for state, truth in zip(found, expected, strict=True):
        if truth is not None:
            assert state.shape == truth.shape
            torch.testing.assert_close(state[data.valid], truth[data.valid], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_hidden_states_asked_for_in_the_config_are_whole(family: Family):
    """A document-level head needs first tokens only, but who asks for hidden states gets all of them."""
    name = head_named(family, "ForSequenceClassification")
    stock, ours, inputs, data = pair(name, family, output_hidden_states=True)
    assert_same(ours(**inputs), stock(**inputs), family.heads[name], data.valid)


def test_all_arguments_may_be_positional():
    stock, ours, inputs, data = pair(TOKENS)
    types, places = (torch.arange(SLOTS) > 3).long().expand(6, -1), torch.arange(SLOTS).expand(6, -1) + 1
    arguments = inputs["input_ids"], inputs["attention_mask"], types, places
    assert_same(ours(*arguments), stock(*arguments), BERT.heads[TOKENS], data.valid)


def test_without_a_mask_every_slot_is_a_token():
    stock, ours, inputs, data = pair(TOKENS)
    everything = torch.ones_like(data.valid)
    assert_same(ours(inputs["input_ids"]), stock(inputs["input_ids"]), BERT.heads[TOKENS], everything)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32])
def test_a_mask_of_any_dtype_serves(dtype: torch.dtype):
    _, ours, inputs, _ = pair(TOKENS)
    other = inputs | {"attention_mask": inputs["attention_mask"].to(dtype)}
    assert torch.equal(ours(**other).logits, ours(**inputs).logits)


@pytest.mark.parametrize("shape", [(SLOTS,), (1, SLOTS), (6, SLOTS)])
def test_position_ids_of_one_row_serve_all_rows(shape: tuple[int, ...]):
    stock, ours, inputs, data = pair(TOKENS)
    places = torch.arange(SLOTS).flip(0).expand(shape)
    found = ours(**inputs, position_ids=places)
    assert_same(found, stock(**inputs, position_ids=places.expand(6, -1)), BERT.heads[TOKENS], data.valid)


@pytest.mark.parametrize(
    "family", [BY_TYPE["roberta"], BY_TYPE["xlm-roberta"]], ids=lambda family: family.model_type
)
def test_padding_ids_among_the_tokens_are_counted_as_robertas_do(family: Family):
    name = head_named(family, "ForTokenClassification")
    stock, ours, inputs, data = pair(name, family)
    ids = inputs["input_ids"].clone()
    ids[0, 2], ids[2, 0], ids[5, 3:5] = 1, 1, 1
    inputs["input_ids"] = ids
    expected = stock(**inputs)
    assert_same(ours(**inputs), expected, family.heads[name], data.valid)
    batch = yanma.PackedBatch.from_padded(ids, data.valid)
    torch.testing.assert_close(ours(batch).logits, expected.logits[data.valid], rtol=1e-5, atol=1e-5)


def test_robertas_positions_by_definition():
    draw = torch.Generator().manual_seed(0)
    for _ in range(50):
        lengths = torch.randint(1, 6, (4,), generator=draw).tolist()
        documents = [torch.randint(0, 3, (length,), generator=draw) for length in lengths]
        slots = torch.cat([torch.arange(length) for length in lengths])
        expected = [
            1 if token == 1 else 1 + int((document[: place + 1] != 1).sum())
            for document in documents
            for place, token in enumerate(document.tolist())
        ]
        assert after_padding_id(torch.cat(documents), slots, 1).tolist() == expected


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_documents_of_one_token_each(family: Family):
    """As many documents as tokens: nothing may take the one for the other."""
    for name in family.heads:
        stock = sharpened(build(family, name))
        batch = yanma.PackedBatch.from_sequences([[token] for token in (7, 9, 8, 9)])
        ids = (
            batch.input_ids.view(-1, 2, 1)
            if family.heads[name].loss == "choice"
            else batch.input_ids[:, None]
        )
        expected = stock(ids)[0].detach()
        found = yanma.unpad(copy.deepcopy(stock))(batch)[0].detach()
        torch.testing.assert_close(found.flatten(), expected.flatten(), rtol=1e-5, atol=1e-5, msg=name)


def test_token_types_of_a_batch_are_used():
    stock, ours, inputs, data = pair(TOKENS)
    types = (torch.arange(SLOTS) > 3).long().expand(6, -1)
    batch = yanma.PackedBatch.from_padded(inputs["input_ids"], data.valid, types)
    expected = stock(**inputs, token_type_ids=types).logits[data.valid]
    torch.testing.assert_close(ours(batch).logits, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours(batch).logits, ours(**inputs).logits[data.valid], atol=1e-2)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 1}, torch.arange(6.0)),
        ({"num_labels": 1}, torch.arange(6.0)[:, None]),
        ({"num_labels": 3}, torch.rand(6, 3)),
        ({"num_labels": 3, "problem_type": "regression"}, torch.rand(6, 3)),
        ({"num_labels": 3}, torch.tensor([0, 1, 2, 0, 1, 2])),
        ({"num_labels": 3}, torch.tensor([0, -100, 2, 0, -100, 2])),
    ],
    ids=[
        "regression",
        "regression (N, 1)",
        "several labels",
        "regression of 3",
        "one label",
        "with unlabelled",
    ],
)
def test_every_kind_of_document_label_gives_the_stock_loss(settings, labels):
    stock, ours, inputs, data = pair(CLASSES, **settings)
    expected = stock(**inputs, labels=labels).loss
    torch.testing.assert_close(ours(**inputs, labels=labels).loss, expected, rtol=1e-5, atol=1e-6)
    batch = yanma.PackedBatch.from_sequences(data.documents)
    torch.testing.assert_close(ours(batch, labels=labels).loss, expected, rtol=1e-5, atol=1e-6)


@HEADS
def test_packed_in_is_padded_in_loss_and_all(family: Family, name: str):
    head, data = family.heads[name], rectangle(family, name)
    model = yanma.unpad(sharpened(build(family, name)))
    labels = {key: data.kwargs[key] for key in (*head.token_labels, *head.document_labels)}
    flat = {key: value[data.valid] if key in head.token_labels else value for key, value in labels.items()}
    padded, packed = model(**data.kwargs), model(yanma.PackedBatch.from_sequences(data.documents), **flat)
    assert packed.keys() == padded.keys() and ("loss" in packed) == bool(labels)
    for key, value in packed.items():
        if isinstance(value, NotKept):
            assert isinstance(padded[key], NotKept)
            continue
        expected = padded[key][data.valid] if key in head.token_outputs else padded[key]
        assert torch.equal(value.flatten(), expected.flatten()), f"{key} differs"
        assert key in head.token_outputs or key == "loss" or len(value) == len(data.documents)
        assert key not in head.token_outputs or len(value) == int(data.valid.sum())


@SPAN_FAMILIES
def test_one_span_label_without_the_other_gives_no_loss_as_in_the_stock_model(family: Family):
    name = next(name for name, head in family.heads.items() if head.loss == "span")
    stock, ours, inputs, data = pair(name, family)
    positions = torch.zeros(6, dtype=torch.long)
    for label in ("start_positions", "end_positions"):
        assert stock(**inputs, **{label: positions}).loss is None
        found = ours(**inputs, **{label: positions})
        assert found.loss is None
        assert_same(found, stock(**inputs), family.heads[name], data.valid)


def test_span_labels_outside_their_document_are_ignored_in_any_company():
    _, ours, inputs, data = pair(SPANS)
    inside = torch.tensor([2, 0, 3, 1, 0, 5])
    outside = inside.clone()
    outside[1], outside[4] = 3, 25  # the first slot of padding, and beyond the row
    kept = [0, 2, 3, 5]
    expected = ours(
        yanma.PackedBatch.from_sequences([data.documents[i] for i in kept]),
        start_positions=inside[kept],
        end_positions=inside[kept],
    ).loss
    answers = {"start_positions": outside, "end_positions": outside}
    batch = yanma.PackedBatch.from_sequences(data.documents)
    for loss in (ours(**inputs, **answers).loss, ours(batch, **answers).loss):
        assert loss.isfinite()
        torch.testing.assert_close(loss, expected)


def test_hidden_slots_never_win_a_span():
    _, ours, inputs, data = pair(SPANS)
    output = ours(**inputs)
    for scores in (output.start_logits, output.end_logits):
        assert bool(data.valid.gather(1, scores.argmax(1)[:, None]).all())
        assert not scores.softmax(1)[~data.valid].any()


def test_the_parts_of_an_unpadded_model_are_stock_models_by_themselves():
    stock, ours, inputs, data = pair(CLASSES)
    expected, found = stock.bert(**inputs), ours.bert(**inputs)
    torch.testing.assert_close(
        found.last_hidden_state[data.valid], expected.last_hidden_state[data.valid], rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(found.pooler_output, expected.pooler_output, rtol=1e-5, atol=1e-5)


def test_a_stock_head_may_stand_on_an_unpadded_base():
    stock, _, inputs, _ = pair(CLASSES)
    expected = stock(**inputs).logits
    yanma.unpad(stock.bert)
    torch.testing.assert_close(stock(**inputs).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("previous", ["eager", "sdpa"])
def test_restore_gives_back_the_attention_that_was_chosen(previous: str):
    stock = build(BERT, TOKENS, attn_implementation=previous)
    inputs = {key: rectangle(BERT, TOKENS).kwargs[key] for key in ("input_ids", "attention_mask")}
    expected = stock(**inputs).logits
    assert stock.config._attn_implementation == previous
    assert yanma.restore(yanma.unpad(stock)).config._attn_implementation == previous
    assert torch.equal(stock(**inputs).logits, expected)


def test_a_failed_forward_leaves_no_trace():
    stock, ours, inputs, data = pair(TOKENS)
    expected = ours(**inputs).logits
    with pytest.raises(IndexError):
        ours(inputs["input_ids"] + 10_000, inputs["attention_mask"])
    assert torch.equal(ours(**inputs).logits, expected)
    assert_same(stock(**inputs), ours(**inputs), BERT.heads[TOKENS], data.valid)


def test_a_base_model_without_a_pooler_takes_padding_on_the_left():
    stock = sharpened(transformers.BertModel(build(BERT, "BertModel").config, add_pooling_layer=False).eval())
    ours = yanma.unpad(copy.deepcopy(stock))
    inputs = {k: rectangle(BERT, TOKENS).kwargs[k].flip(1) for k in ("input_ids", "attention_mask")}
    valid = inputs["attention_mask"].bool()
    expected, found = stock(**inputs), ours(**inputs)
    assert found.pooler_output is None
    torch.testing.assert_close(found[0][valid], expected[0][valid], rtol=1e-5, atol=1e-5)


def test_padding_slots_are_zero():
    _, ours, inputs, data = pair(TOKENS)
    logits = ours(**inputs).logits
    assert logits[data.valid].all() and not logits[~data.valid].any()
