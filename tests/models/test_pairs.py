"""Encoders with decoders: pairs of a source and a target, padded or packed, against stock models of each pair alone."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import yanma
from models.builders import SEQ2SEQ, build, doubled, every_head, few_heads, gradient
from models.pairs import EOS, SOURCES, generator, many, mask_of, ours_by_pair, pairs, stock_by_pair
from models.test_company import dropouts
from models.test_exactness import DTYPES, sharpened
from yanma import PackedBatch
from yanma.masks import window
from yanma.models import is_unpadded
from yanma.models.family import Family

BY_TYPE = {family.model_type: family for family in SEQ2SEQ}
HEADS = few_heads(every_head(decodes=True))
EACH = pytest.mark.parametrize("family", SEQ2SEQ, ids=lambda family: family.model_type)


@HEADS
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_in_float64_outputs_and_the_gradient_are_those_of_each_pair_alone(
    family: Family, name: str, mode: str
):
    data, stock = pairs(family, name), doubled(sharpened(build(family, name))).train(mode == "train")
    ours = yanma.unpad(copy.deepcopy(stock))
    expected, found = stock_by_pair(stock, data), ours_by_pair(ours, data)
    bound = 1e-6 if "T5" in name else 1e-12  # T5's norm is computed in float32
    for index, (truth, own) in enumerate(zip(expected, found, strict=True)):
        assert truth.keys() == own.keys() and len(truth) >= 2
        for key, value in truth.items():
            difference = (own[key] - value).abs().max() / value.abs().max()
            assert difference < bound, f"{key} of pair {index} differs by {difference:.1e}"
    for outputs in (expected, found):
        draw = torch.Generator().manual_seed(4)
        parts = [value for output in outputs for value in output.values()]
        weights = [torch.randn(part.shape, generator=draw, dtype=torch.float64) for part in parts]
        torch.stack([(a * b).sum() for a, b in zip(parts, weights, strict=True)]).sum().backward()
    difference = (gradient(ours) - gradient(stock)).norm() / gradient(stock).norm()
    assert difference < bound, f"the gradient differs by {difference:.1e}"


@HEADS
def test_padded_outputs_states_and_loss_are_the_stock_models_and_zero_where_nothing_stands(
    family: Family, name: str
):
    data, stock = pairs(family, name), doubled(sharpened(build(family, name)))
    ours, kwargs = yanma.unpad(copy.deepcopy(stock)), data.padded() | data.labels()
    more = {"output_hidden_states": True, "use_cache": False}
    expected, found = stock(**kwargs, **more), ours(**kwargs, **more)
    assert [key for key in expected if key != "past_key_values"] == list(found)
    read = mask_of(data.sources).bool()
    written = mask_of(data.targets).bool() if data.is_written else read
    for key, value in found.items():
        if key == "loss" and name.endswith("ForQuestionAnswering"):
            continue  # the stock loss spreads probability over padding
        valid = read if key.startswith("encoder") else written
        by_slot = isinstance(value, tuple) or value.shape[:2] == valid.shape
        states = zip(*((x if isinstance(x, tuple) else (x,)) for x in (value, expected[key])), strict=True)
        for mine, theirs in states:
            assert mine.shape == theirs.shape
            near = (mine[valid], theirs[valid]) if by_slot else (mine, theirs)
            torch.testing.assert_close(*near, rtol=1e-6, atol=1e-6, msg=lambda text: f"{key}: {text}")  # noqa: B023
            assert not by_slot or ("logits" in key and key != "logits") or not mine[~valid].any(), key


@HEADS
@DTYPES
def test_in_lower_precision_the_error_is_within_twice_the_stock_models(
    family: Family, name: str, dtype: torch.dtype
):
    data, stock = pairs(family, name), sharpened(build(family, name)).to(dtype)
    ours = yanma.unpad(copy.deepcopy(stock))
    with torch.no_grad():
        outputs = stock_by_pair(doubled(stock), data), stock_by_pair(stock, data), ours_by_pair(ours, data)
    for key in outputs[0][0]:
        truth, theirs, found = (torch.cat([own[key].double() for own in output]) for output in outputs)
        steps = 2 * torch.finfo(dtype).eps * truth.abs()
        for kind in (torch.mean, torch.max):
            error, budget = kind((found - truth).abs()), 2 * kind((theirs - truth).abs()) + kind(steps)
            assert error <= budget, f"{key}: {kind.__name__} {error:.1e} > {budget:.1e}"


@HEADS
def test_in_float32_the_gradient_of_the_loss_is_the_stock_models(family: Family, name: str):
    data, stock = pairs(family, name), sharpened(build(family, name)).train()
    if name.endswith("ForQuestionAnswering"):  # without padding the two losses mean the same
        data = pairs(family, name, (9,) * 4, (9,) * 4)
    ours = yanma.unpad(copy.deepcopy(stock))
    valid = mask_of(data.targets).bool()
    for model in (stock, ours):
        output = model(**data.padded(), **data.labels())
        loss = output.loss if "loss" in output else output[0][valid].square().sum()
        loss.backward()
    difference = (gradient(ours) - gradient(stock)).norm() / gradient(stock).norm()
    assert gradient(stock).norm() > 0 and difference <= 1e-5, f"the gradient differs by {difference:.1e}"


@HEADS
@DTYPES
def test_a_pairs_bits_are_its_own_in_any_company(family: Family, name: str, dtype: torch.dtype):
    """Among 200 pairs under the head that writes, among 20 under others, and alone."""
    sources, targets = many(194 if name == generator(family) else 14)
    data = pairs(family, name, sources, targets)
    model = yanma.unpad(sharpened(build(family, name)).to(dtype))
    with torch.no_grad():
        together = ours_by_pair(model, data)
        for index in range(0, len(together), 1 if len(together) < 50 else 5):
            (alone,) = ours_by_pair(model, data, [index])
            assert len(alone) >= 2
            for key, value in alone.items():
                assert torch.equal(value, together[index][key]), f"{key} of pair {index}"


@HEADS
def test_a_token_of_one_pair_changes_no_bit_of_another(family: Family, name: str):
    data, model = pairs(family, name), yanma.unpad(sharpened(build(family, name)))

    def outputs() -> list[list[Tensor]]:
        with torch.no_grad():
            return [list(own.values()) for own in ours_by_pair(model, data)]

    before = outputs()
    for documents in [data.sources] + [data.targets] * data.is_written:
        for changed in range(len(documents)):
            old = int(documents[changed][0])
            documents[changed][0] = 99 if old != 99 else 98
            for index, (own, other) in enumerate(zip(before, outputs(), strict=True)):
                same = [torch.equal(a, b) for a, b in zip(own, other, strict=True)]
                hides = model.config.model_type != "mbart" and documents is data.targets
                if index != changed:
                    assert all(same), f"pair {changed} leaks into pair {index}"
                elif len(documents[changed]) > 1 or not hides:
                    assert not all(same), "the change moved nothing, so the test shows nothing"
            documents[changed][0] = old


@EACH
def test_a_decoder_never_looks_ahead_and_reads_all_of_its_source(family: Family):
    name = generator(family)
    data, model = pairs(family, name, (6, 9), (12, 3)), yanma.unpad(sharpened(build(family, name)))
    starts = [torch.cat([torch.tensor([3]), target]) for target in data.targets]

    def logits(sources: list[Tensor], inputs: list[Tensor]) -> Tensor:
        batch = PackedBatch.from_sequences(inputs)
        with torch.no_grad():
            found = model(PackedBatch.from_sequences(sources), decoder_input_ids=batch).logits
        return batch.unpack(found)[0]

    before = logits(data.sources, starts)
    for place in (1, 5, 12):
        changed = [start.clone() for start in starts]
        changed[0][place] = 99 if changed[0][place] != 99 else 98
        after = logits(data.sources, changed)
        assert torch.equal(after[:place], before[:place]) and not torch.equal(after[place:], before[place:])
    for place in range(6):
        read = [source.clone() for source in data.sources]
        read[0][place] = 99 if read[0][place] != 99 else 98
        assert not torch.equal(logits(read, starts)[0], before[0]), f"token {place} of the source is not read"


@HEADS
def test_with_dropout_a_pairs_bits_depend_on_its_id_and_the_seed_alone(family: Family, name: str):
    data = pairs(family, name)
    model = yanma.unpad(sharpened(build(family, name, **dropouts(family)))).train()
    with torch.no_grad():
        together, other = (ours_by_pair(model, data, seed=seed) for seed in (3, 4))
        turned = ours_by_pair(model, data, [5, 4, 3, 2, 1, 0], seed=3)[::-1]
        for index in range(len(together)):
            (alone,) = ours_by_pair(model, data, [index], seed=3)
            for key, value in together[index].items():
                assert torch.equal(value, alone[key]), f"{key} of pair {index} has other bits alone"
                assert torch.equal(value, turned[index][key]), (
                    f"{key} of pair {index} has others in another order"
                )
                assert not torch.equal(value, other[index][key]), f"{key} of pair {index} ignores the seed"


@EACH
@pytest.mark.parametrize("attention_only", [False, True], ids=["everywhere", "attention"])
def test_with_dropout_gradients_of_the_parts_add_up_to_the_whole(family: Family, attention_only: bool):
    name = generator(family)
    data = pairs(family, name)
    settings = dropouts(family, attention_only and "T5" not in name)
    model = yanma.unpad(sharpened(build(family, name, **settings))).train()

    def summed(*cuts: list[int]) -> Tensor:
        model.zero_grad()
        for cut in cuts:
            arguments, more = data.packed(cut, seed=1)
            model(*arguments, **more).logits.square().sum().backward()
        return gradient(model)

    whole = summed([0, 1, 2, 3, 4, 5])
    for cuts in ([[5, 4, 3, 2, 1, 0]], [[0, 2], [1, 3, 5], [4]], [[i] for i in range(6)]):
        assert (summed(*cuts) - whole).norm() <= 1e-5 * whole.norm()


@EACH
def test_every_way_to_give_a_target_gives_the_same(family: Family):
    name = generator(family)
    data, model = pairs(family, name), yanma.unpad(sharpened(build(family, name)))
    (batch,), settings = data.packed()
    targets, valid = settings["labels"], mask_of(data.targets).bool()
    labels = pad_sequence(data.targets, True, -100)
    padded = {key: data.padded()[key] for key in ("input_ids", "attention_mask")}
    expected = model(batch, labels=targets)
    inputs = torch.cat([stock_inputs(model, target) for target in data.targets])
    starts = PackedBatch(inputs, targets.lengths)
    rectangle = starts.pad(inputs, model.config.pad_token_id)
    embeddings = model.get_decoder().get_input_embeddings()(rectangle).detach()
    ways = {
        "flat labels": model(batch, decoder_input_ids=starts, labels=targets.input_ids),
        "packed labels": model(batch, decoder_input_ids=starts, labels=targets),
        "padded labels": model(**padded, labels=labels),
        "padded inputs and labels": model(**padded, decoder_input_ids=rectangle, labels=labels),
        "a mask": model(
            **padded, decoder_input_ids=rectangle, labels=labels, decoder_attention_mask=valid.long()
        ),
        "every slot": model(**padded, decoder_input_ids=rectangle),
    }
    if family.model_type != "m2m_100":  # which takes no labels beside embeddings
        ways["embeddings"] = model(**padded, decoder_inputs_embeds=embeddings, labels=labels)
    for way, output in ways.items():
        logits = output.logits if output.logits.dim() == 2 else output.logits[valid]
        torch.testing.assert_close(logits, expected.logits, rtol=1e-5, atol=1e-5, msg=way)
        assert output.loss is None or torch.allclose(output.loss, expected.loss, atol=1e-6), way
        assert (way == "every slot") == (output.loss is None)
    assert (
        ways["every slot"].logits[~valid].any() and not ways["padded inputs and labels"].logits[~valid].any()
    )


def stock_inputs(model: Any, target: Tensor) -> Tensor:
    """What the stock model makes of the labels of one pair."""
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        return model.prepare_decoder_input_ids_from_labels(target[None])[0]
    return torch.cat([torch.tensor([model.config.decoder_start_token_id]), target[:-1]])


@EACH
def test_labels_with_gaps_and_rows_without_any_give_the_stock_loss(family: Family):
    name = generator(family)
    data, stock = pairs(family, name), sharpened(build(family, name))
    labels = pad_sequence(data.targets, True, -100)
    labels[0, 1], labels[1, 0], labels[2] = -100, -100, -100
    kwargs = data.padded() | {"labels": labels}
    if family.starts_with_last:
        kwargs["labels"][2, 0] = 7  # the stock model finds no language in an empty row
    expected, found = stock(**kwargs, use_cache=False), yanma.unpad(copy.deepcopy(stock))(**kwargs)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-5, atol=1e-6)
    scored = labels != -100
    torch.testing.assert_close(found.logits[scored], expected.logits[scored], rtol=1e-5, atol=1e-5)


@EACH
def test_padding_on_the_left_holes_and_embeddings_are_the_stock_models(family: Family):
    name = generator(family)
    data, stock = pairs(family, name), sharpened(build(family, name))
    ours, kwargs = yanma.unpad(copy.deepcopy(stock)), data.padded()
    left = {key: kwargs[key].flip(1) for key in ("input_ids", "attention_mask")}
    embeddings = stock.get_encoder().get_input_embeddings()(kwargs["input_ids"]).detach()
    holes = kwargs["attention_mask"].clone()
    holes[0, 4:6] = 0
    ways = {
        "left": left,
        "embeddings": {"input_ids": None, "inputs_embeds": embeddings},
        "holes": {"attention_mask": holes},
    }
    valid = mask_of(data.targets).bool()
    for way, changes in ways.items():
        if way == "holes" and family.counts_distances:
            with pytest.raises(yanma.Unsupported, match="hidden slots between its tokens"):
                ours(**kwargs | changes)
            continue
        expected, found = stock(**kwargs | changes, use_cache=False), ours(**kwargs | changes)
        torch.testing.assert_close(found.loss, expected.loss, rtol=1e-5, atol=1e-5, msg=way)
        torch.testing.assert_close(found.logits[valid], expected.logits[valid], rtol=1e-4, atol=1e-4, msg=way)


SEARCHES = {
    "greedy": {},
    "beam": {"num_beams": 3, "length_penalty": 0.7},
    "without a cache": {"use_cache": False},
}


@EACH
@pytest.mark.parametrize("search", SEARCHES)
def test_generation_is_the_stock_models_and_encodes_tokens_alone(family: Family, search: str):
    name = generator(family)
    data, stock = pairs(family, name), sharpened(build(family, name))
    ours, rows = yanma.unpad(copy.deepcopy(stock)), []
    first = next(module for module in ours.get_encoder().modules() if isinstance(module, nn.Linear))
    first.register_forward_hook(lambda module, args, out: rows.append(args[0].shape[:-1].numel()))
    more = {"max_new_tokens": 9, "do_sample": False, "output_scores": True, "return_dict_in_generate": True}
    inputs = {key: data.padded()[key] for key in ("input_ids", "attention_mask")}
    found, expected = (model.generate(**inputs, **more, **SEARCHES[search]) for model in (ours, stock))
    assert found.sequences.shape[1] > 8 and torch.equal(found.sequences, expected.sequences)
    for mine, theirs in zip(found.scores, expected.scores, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert rows == [sum(SOURCES)], "the encoder runs once, on tokens alone"


@EACH
def test_is_decoder_of_a_whole_models_config_says_nothing(family: Family):
    name = generator(family)
    data, stock = pairs(family, name), sharpened(build(family, name, is_decoder=True))
    ours, inputs = yanma.unpad(copy.deepcopy(stock)), data.padded()
    read, written = mask_of(data.sources).bool(), mask_of(data.targets).bool()
    with torch.no_grad():
        mine, theirs = (model(**inputs, use_cache=False).logits for model in (ours, stock))
        torch.testing.assert_close(mine[written], theirs[written], rtol=1e-4, atol=1e-4)
        sources = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        mine, theirs = (model.get_encoder()(**sources).last_hidden_state for model in (ours, stock))
        torch.testing.assert_close(mine[read], theirs[read], rtol=1e-4, atol=1e-4)


LONG = (127, 1, 128, 129, 300), (129, 300, 2, 128, 1)
LONGER = {
    "bart": {"max_position_embeddings": 300},
    "m2m_100": {"max_position_embeddings": 100},
    "t5": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "mt5": {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128},
}


@pytest.mark.parametrize("model_type", LONGER)
def test_long_pairs_are_the_stock_models_alone(model_type: str):
    family = BY_TYPE[model_type]
    name, settings = generator(family), LONGER[model_type]
    data, stock = pairs(family, name, *LONG), doubled(sharpened(build(family, name, **settings)))
    ours = yanma.unpad(copy.deepcopy(stock))
    with torch.no_grad():
        expected, found = stock_by_pair(stock, data), ours_by_pair(ours, data)
        ours.float()
        together = ours_by_pair(ours, data)
        for index, (truth, own) in enumerate(zip(expected, found, strict=True)):
            torch.testing.assert_close(own["logits"], truth["logits"], rtol=1e-6, atol=1e-5)
            (alone,) = ours_by_pair(ours, data, [index])
            assert torch.equal(alone["logits"], together[index]["logits"]), f"pair {index}"


def test_documents_are_judged_where_their_text_ends():
    family, name = BY_TYPE["bart"], "BartForSequenceClassification"
    data, stock = pairs(family, name), sharpened(build(family, name))
    data.sources[0][3] = EOS  # the last one counts
    ours = yanma.unpad(copy.deepcopy(stock))
    expected = torch.cat([own["logits"] for own in stock_by_pair(stock, data)])
    torch.testing.assert_close(ours(*data.packed()[0]).logits, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"document 1 has no eos_token_id \(2\)"):
        ours(PackedBatch.from_sequences([[5, 6, 2], [5, 6]]))
    with pytest.raises(ValueError, match="decoder_input_ids must be as long"):
        ours(PackedBatch.from_sequences([[5, 2]]), decoder_input_ids=PackedBatch.from_sequences([[5]]))


def test_the_span_loss_is_that_of_pairs_alone():
    family, name = BY_TYPE["t5"], "T5ForQuestionAnswering"
    data, stock = pairs(family, name), sharpened(build(family, name))
    ours, answers = yanma.unpad(copy.deepcopy(stock)), data.labels()
    alone = [
        stock(**data.alone(i), **{key: value[i : i + 1] for key, value in answers.items()}).loss
        for i in range(6)
    ]
    (batch,), _ = data.packed()
    for loss in (ours(batch, **answers).loss, ours(**data.padded(), **answers).loss):
        torch.testing.assert_close(loss, torch.stack(alone).mean(), rtol=1e-5, atol=1e-6)


@HEADS
def test_copies_pickles_and_restored_models_are_the_model(family: Family, name: str):
    stock, data = build(family, name), pairs(family, name)
    classes = [type(module) for module in stock.modules()]
    attributes = [set(vars(module)) for module in stock.modules()]
    ours = yanma.unpad(copy.deepcopy(stock))
    with torch.no_grad():
        expected = ours(**data.padded(), use_cache=False).to_tuple()
        for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            assert is_unpadded(other) and [*map(type, other.modules())] == [*map(type, ours.modules())]
            found = other(**data.padded(), use_cache=False).to_tuple()
            assert expected and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
            yanma.restore(other)
            assert [type(module) for module in other.modules()] == classes
            assert [set(vars(module)) for module in other.modules()] == attributes


def test_a_saved_model_is_the_stock_model(tmp_path):
    name = "BartForConditionalGeneration"
    ours, data = yanma.unpad(build(BY_TYPE["bart"], name)), pairs(BY_TYPE["bart"], name)
    ours.save_pretrained(tmp_path)
    loaded = transformers.BartForConditionalGeneration.from_pretrained(tmp_path)
    assert not is_unpadded(loaded) and loaded.config._attn_implementation == "sdpa"
    expected = ours(**data.padded()).logits
    assert torch.equal(yanma.unpad(loaded)(**data.padded()).logits, expected)


SOURCE, TARGET = PackedBatch.from_sequences([[5, 6, 2], [7, 2]]), PackedBatch.from_sequences([[8], [9, 10]])
IDS = torch.tensor([[5, 6, 2], [7, 2, 1]])
REFUSED = [
    ((SOURCE,), {}, ValueError, "give decoder_input_ids, or labels"),
    ((SOURCE,), {"labels": IDS}, ValueError, "must be a PackedBatch too"),
    ((SOURCE,), {"decoder_input_ids": IDS}, ValueError, "must be a PackedBatch too"),
    ((SOURCE,), {"labels": PackedBatch.from_sequences([[8]])}, ValueError, "2 sources and 1 targets"),
    ((SOURCE,), {"decoder_input_ids": TARGET, "labels": SOURCE}, ValueError, "labels have lengths"),
    ((SOURCE,), {"labels": TARGET, "decoder_attention_mask": IDS}, ValueError, "decoder_attention_mask does not go"),
    ((SOURCE,), {"labels": TARGET, "attention_mask": IDS}, ValueError, "attention_mask is part of a PackedBatch"),
    ((IDS,), {"labels": TARGET}, ValueError, "labels is a PackedBatch: what is read must be one too"),
    ((IDS,), {"labels": IDS, "position_ids": IDS}, yanma.Unsupported, "takes no position_ids"),
    ((IDS,), {"labels": IDS, "output_attentions": True}, yanma.Unsupported, "output_attentions"),
    ((IDS,), {"labels": IDS, "cross_attn_head_mask": IDS}, yanma.Unsupported, "cross_attn_head_mask"),
    ((SOURCE,), {"labels": TARGET, "use_cache": True}, yanma.Unsupported, "use_cache"),
    (
        (IDS,),
        {"decoder_input_ids": IDS, "labels": IDS, "decoder_attention_mask": IDS * 0},
        ValueError,
        "must be -100 where decoder_attention_mask is 0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"), REFUSED, ids=lambda value: str(value)[:40]
)
def test_arguments_that_cannot_be_honoured_are_refused_by_name(arguments, settings, error, message: str):
    model = yanma.unpad(build(BY_TYPE["marian"], "MarianMTModel"))
    with pytest.raises(error, match=message):
        model(*arguments, **settings)


def test_models_that_cannot_be_honoured_are_refused_by_name():
    bart = BY_TYPE["bart"]
    with pytest.raises(yanma.Unsupported, match="encoders with decoders, to which unpad adds no mask"):
        yanma.unpad(build(bart, "BartModel"), mask=window(2, 2))
    model = yanma.unpad(build(bart, "BartModel"))
    with pytest.raises(
        yanma.Unsupported, match="pad on the right, or give decoder_attention_mask too, or decoder_input_ids"
    ):
        model(input_ids=IDS, attention_mask=torch.tensor([[1, 1, 1], [0, 1, 1]]))
    with pytest.raises(yanma.Unsupported, match="encoder_outputs"):
        model(PackedBatch.from_sequences([[5, 6]]), encoder_outputs=(torch.zeros(2, 3, 32),))
    with pytest.raises(ValueError, match="a document has 90 tokens; this model has 80 positions"):
        model(PackedBatch.from_sequences([[5] * 90]))
    with pytest.raises(ValueError, match="decoder_start_token_id is None"):
        yanma.unpad(build(BY_TYPE["t5"], "T5ForConditionalGeneration", decoder_start_token_id=None))(
            SOURCE, labels=TARGET
        )


def test_the_table_has_every_head_that_transformers_has():
    for family in SEQ2SEQ:
        prefix = next(iter(family.heads)).removesuffix("Model")
        starts = tuple(prefix + part for part in ("For", "Model", "MT", "Encoder"))
        theirs = {name for name in dir(transformers) if name.startswith(starts)}
        assert theirs == set(family.heads), f"the table has {set(family.heads)}, transformers {theirs}"
