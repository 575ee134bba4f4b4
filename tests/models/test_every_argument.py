"""Every argument of every head: laid out with its tokens or documents, handed on as it is, or refused by name."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.loss import loss_utils
from transformers.utils import TransformersKwargs

import yanma
from models.builders import build, every_head, few_heads, rectangle
from models.measured import sharpened
from models.pairs import pairs
from yanma import PackedBatch
from yanma.models import arguments, bounds, by_keyword, cache
from yanma.models.families import FAMILIES, SPEECH
from yanma.models.family import Family
from yanma.models.pairs import _UNKNOWN

# N documents, S slots of a padded row, T tokens

ALL = [(family, name) for family in (*FAMILIES, *SPEECH) for name in family.heads]
READERS = list(every_head())
EACH = few_heads(ALL)
WITH_LOSS = [
    (family, name)
    for family, name in READERS
    if family.heads[name].token_labels or family.heads[name].document_labels
]
SCORED = few_heads(WITH_LOSS)
ONE_EACH = pytest.mark.parametrize(
    ("family", "name"),
    [(family, list(family.heads)[-1]) for family in (*FAMILIES, *SPEECH)],
    ids=[family.model_type for family in (*FAMILIES, *SPEECH)],
)
NEXT_TOKEN = pytest.mark.parametrize(
    ("family", "name"),
    [(family, name) for family, name in READERS if family.heads[name].loss == "next_token"],
    ids=[name for family, name in READERS if family.heads[name].loss == "next_token"],
)
ROWS = {"input_ids", "inputs_embeds", "attention_mask", "input_values", *arguments.MORE_TOKENS}
TARGETS = {f"decoder_{name}" for name in ("input_ids", "inputs_embeds", "attention_mask")}
PACKS = {bounds.BOUNDS, *bounds.DERIVED}
KNOWN = {*arguments.REFUSED, *arguments.HANDED_ON, "return_dict", "is_causal", *cache.NAMES}
KNOWN |= ROWS | TARGETS | PACKS
WITHOUT_MEANING = {"output_router_logits"}
"""Flags of models that are not in the table."""


def parameters(function) -> set[str]:
    """Names, without those of * and **."""
    return {
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


@pytest.mark.parametrize(("family", "name"), ALL, ids=[name for _, name in ALL])
def test_every_parameter_of_a_stock_forward_is_known(family: Family, name: str):
    head = family.heads[name]
    known = KNOWN | set(arguments.by_token(family, head)) | set(head.document_labels)
    assert parameters(getattr(transformers, name).forward) - {"self"} <= known


def test_what_a_stock_forward_hands_on_to_losses_and_attention_is_known():
    assert set(TransformersKwargs.__annotations__) <= KNOWN | WITHOUT_MEANING
    computed = {"logits", "vocab_size", "source", "target", "start_logits", "end_logits", "pooled_logits"}
    names = ("CausalLMLoss", "MaskedLMLoss", "QuestionAnsweringLoss", "SequenceClassificationLoss")
    losses = [getattr(loss_utils, f"For{name}") for name in names]
    losses += [loss_utils.ForTokenClassification, loss_utils.fixed_cross_entropy]
    for loss in losses:
        assert parameters(loss) - computed - {"config"} <= KNOWN | arguments.LABELS | {"shift_labels"}
    layer = {"module", "query", "key", "value", "dropout", "scaling", "cache"}
    """What a layer hands over itself; a cache of its own kind is refused as it is no number."""
    assert parameters(sdpa_attention_forward) - layer <= KNOWN


def three_ways(model: nn.Module, family: Family, name: str, by_token: dict[str, Tensor], **documents):
    """The outputs of an unpadded model of the same documents: in rows, as a PackedBatch, and by keywords."""
    data = rectangle(family, name)
    inputs = {key: data.kwargs[key] for key in ("input_ids", "attention_mask")}
    flat = {key: value[data.valid] for key, value in by_token.items()}
    batch = PackedBatch.from_sequences(data.documents)
    rows = {key: value[None] for key, value in flat.items()}
    yield model(**inputs, **by_token, **documents)
    yield model(batch, **flat, **documents)
    yield model(**by_keyword.one_row(batch), **rows, **documents)


@NEXT_TOKEN
def test_shifted_labels_give_the_stock_loss_in_any_form(family: Family, name: str):
    stock, data = sharpened(build(family, name)), rectangle(family, name)
    given = {"labels": data.kwargs["labels"].masked_fill(torch.arange(20) == 0, -100)}
    draw = torch.Generator().manual_seed(7)
    shifted = torch.randint(5, 99, data.valid.shape, generator=draw).masked_fill(~data.valid, -100)
    given["shift_labels"] = shifted
    inputs = {key: data.kwargs[key] for key in ("input_ids", "attention_mask")}
    expected, plain = stock(**inputs, **given).loss, stock(**inputs, labels=given["labels"]).loss
    assert abs(expected - plain) > 1e-3
    for found in three_ways(yanma.unpad(copy.deepcopy(stock)), family, name, given):
        torch.testing.assert_close(found.loss, expected, rtol=1e-5, atol=1e-5)


def test_shifted_labels_that_do_not_fit_are_refused_by_name():
    family = next(family for family in FAMILIES if family.model_type == "llama")
    model, data = yanma.unpad(build(family, "LlamaForCausalLM")), rectangle(family, "LlamaForCausalLM")
    batch, wrong = PackedBatch.from_sequences(data.documents), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"shift_labels is \(3,\); the pack has 51 tokens"):
        model(batch, labels=batch.input_ids, shift_labels=wrong)
    with pytest.raises(ValueError, match=r"shift_labels is \(3,\); it must begin with \(6, 20\)"):
        model(**data.kwargs, shift_labels=wrong)
    with pytest.raises(ValueError, match="shift_labels must be -100 where attention_mask is 0"):
        model(**data.kwargs, shift_labels=data.kwargs["input_ids"])
    with pytest.raises(yanma.Unsupported, match="scored_loss does not use shift_labels"):
        yanma.scored_loss(model, batch, batch.input_ids, shift_labels=batch.input_ids)
    with pytest.raises(yanma.Unsupported, match="does not do ignore_index"):
        model(**data.kwargs, ignore_index=0)
    assert model(**data.kwargs, ignore_index=-100).loss.isfinite()


BY_TOKEN = [(family, name) for family in FAMILIES for name in family.heads if family.heads[name].token_labels]


@pytest.mark.parametrize(("family", "name"), BY_TOKEN, ids=[name for _, name in BY_TOKEN])
def test_labels_end_to_end_give_the_stock_loss_or_are_refused_by_name(family: Family, name: str):
    """Stock losses by token take (N * S,) too. Those that shift it predict a row's start from the row before it."""
    head, stock = family.heads[name], build(family, name)
    ours = yanma.unpad(copy.deepcopy(stock))
    if head.decodes:
        given = call(family, name)
        labels = given["input_ids"].masked_fill(given["attention_mask"] == 0, -100)
        data, shape = given | {"labels": labels}, tuple(labels.shape)
        with pytest.raises(
            ValueError, match=r"labels is \(\d+,\); it must be \(N, S\) where decoder_input_ids is"
        ):
            ours(input_ids=given["input_ids"], labels=labels.flatten())
    else:
        data, shape = rectangle(family, name).kwargs, (6, 20)
    flat = data | {"labels": data["labels"].flatten()}
    if head.loss == "next_token" or name == "ElectraForPreTraining":
        message = rf"labels is \({shape[0] * shape[1]},\); it must begin with \({shape[0]}, {shape[1]}\)"
        with pytest.raises(ValueError, match=message):
            ours(**flat)
        return
    expected = ours(**data).loss
    torch.testing.assert_close(expected, stock(**flat).loss, rtol=1e-5, atol=1e-5)
    assert torch.equal(ours(**flat).loss, expected)


def test_shifted_labels_end_to_end_and_frames_of_recordings_give_the_stock_loss():
    llama, wav2vec = (
        next(f for f in (*FAMILIES, *SPEECH) if f.model_type == t) for t in ("llama", "wav2vec2")
    )
    stock, data = build(llama, "LlamaForCausalLM"), rectangle(llama, "LlamaForCausalLM").kwargs
    flat = data | {"shift_labels": data["labels"].flatten()}
    ours = yanma.unpad(copy.deepcopy(stock))
    torch.testing.assert_close(ours(**flat).loss, stock(**flat).loss, rtol=1e-5, atol=1e-5)
    stock = build(wav2vec, "Wav2Vec2ForAudioFrameClassification")
    values = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    frames = stock(values).logits.shape[1]
    labels = nn.functional.one_hot(torch.arange(3 * frames) % 3, 3)
    ours = yanma.unpad(copy.deepcopy(stock))
    for given in (labels, labels.view(3, frames, 3)):
        found, expected = (model(values, labels=given).loss for model in (ours, stock))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


ERNIES = [(family, name) for family, name in READERS if family.model_type == "ernie"]


@pytest.mark.parametrize(("family", "name"), ERNIES, ids=[name for _, name in ERNIES])
def test_ernies_task_types_are_the_stock_models_in_any_form(family: Family, name: str):
    stock, data = (
        sharpened(build(family, name, use_task_id=True, task_type_vocab_size=3)),
        rectangle(family, name),
    )
    inputs = {key: data.kwargs[key] for key in ("input_ids", "attention_mask")}
    tasks = (torch.arange(data.valid.numel()) % 3).view(
        data.valid.shape
    )  # of choices, rows to the stock model
    expected, plain = stock(**inputs, task_type_ids=tasks)[0], stock(**inputs)[0]
    by_token = expected.shape[:2] == data.valid.shape
    truth = expected[data.valid] if by_token else expected
    assert not torch.allclose(truth, plain[data.valid] if by_token else plain, atol=1e-2)
    for found in three_ways(yanma.unpad(copy.deepcopy(stock)), family, name, {"task_type_ids": tasks}):
        own = found[0][data.valid] if found[0].shape[:2] == data.valid.shape else found[0]
        torch.testing.assert_close(own.reshape(truth.shape), truth, rtol=1e-5, atol=1e-5)


@SCORED
def test_the_number_of_scored_items_divides_the_loss_where_it_divides_the_stock_one(
    family: Family, name: str
):
    data = rectangle(family, name, (9,) * 6, 9)
    labels = {key: value for key, value in data.kwargs.items() if key in arguments.LABELS}
    stock = sharpened(build(family, name))
    expected = stock(**data.kwargs, num_items_in_batch=torch.tensor(50)).loss
    ours = yanma.unpad(copy.deepcopy(stock))
    torch.testing.assert_close(ours(**data.kwargs, num_items_in_batch=torch.tensor(50)).loss, expected)
    flat = {key: labels[key].flatten() for key in labels}
    packed = ours(PackedBatch.from_sequences(data.documents), **flat, num_items_in_batch=50)
    torch.testing.assert_close(packed.loss, expected)


def call(family: Family, name: str) -> dict[str, Tensor]:
    """Arguments of a padded forward without labels."""
    if family.is_speech:
        return {"input_values": torch.randn(2, 200)}
    if family.heads[name].decodes:
        padded = pairs(family, name).padded()
        source = {key: padded[key] for key in ("input_ids", "attention_mask")}
        return source | {f"decoder_{key}": value for key, value in source.items()}
    return {key: rectangle(family, name).kwargs[key] for key in ("input_ids", "attention_mask")}


@ONE_EACH
def test_what_may_belong_to_tokens_and_is_not_known_is_refused_by_name(family: Family, name: str):
    model, inputs = yanma.unpad(build(family, name)), call(family, name)
    shape = inputs["attention_mask"].shape if "attention_mask" in inputs else (2, 200)
    message = rf"{name} was given bbox, a Tensor \({shape[0]}, .* leave it out, or call yanma.restore"
    with pytest.raises(yanma.Unsupported, match=message):
        model(**inputs, bbox=torch.zeros(*shape, 4))
    with pytest.raises(yanma.Unsupported, match=r"was given adapters, a list"):
        model(**inputs, adapters=["one"] * shape[0])
    if family.heads[name].decodes or family.is_speech:
        return
    batch = PackedBatch.from_sequences([[7, 8, 9], [5, 6]])
    for arguments_, keywords in (((batch,), {}), ((), by_keyword.one_row(batch))):
        with pytest.raises(yanma.Unsupported, match="was given bbox, a Tensor"):
            model(*arguments_, **keywords, bbox=torch.zeros(5, 4))
        for argument in ("sliding_window", "softcap"):
            with pytest.raises(yanma.Unsupported, match=f"does not do {argument}"):
                model(*arguments_, **keywords, **{argument: 3})


@EACH
def test_what_no_stock_forward_reads_is_not_read(family: Family, name: str):
    """What tokenizers give beside the input, labels of other heads, and flags that mean nothing to a text."""
    stock, inputs = build(family, name), call(family, name)
    own = {*family.heads[name].token_labels, *family.heads[name].document_labels}
    ids = next(iter(inputs.values()))
    extra = {label: torch.zeros(len(ids), dtype=torch.long) for label in arguments.LABELS - own}
    extra |= {"special_tokens_mask": torch.zeros_like(ids), "offset_mapping": torch.zeros(*ids.shape, 2)}
    extra |= {"return_loss": True, "interpolate_pos_encoding": False, "output_router_logits": False}
    assert set(extra) > own or own
    ours = yanma.unpad(copy.deepcopy(stock))
    for model in (stock, ours):
        plain, found = (model(**inputs, **more, use_cache=False) for more in ({}, extra))
        assert torch.equal(found[0], plain[0]) and found.keys() == plain.keys()


def test_every_label_of_the_table_is_told_apart_from_what_is_unknown():
    assert {*_UNKNOWN} & arguments.LABELS == set()
    assert {"labels", "start_positions", "next_sentence_label", "sentence_order_label"} <= arguments.LABELS
