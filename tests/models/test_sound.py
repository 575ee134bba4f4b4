"""Models that hear: what they give for each recording alone, whatever is recorded, hidden or padded beside it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import yanma
from models.builders import SMALL, build, doubled, gradient
from models.measured import sharpened
from models.sounds import FRAMES, SAMPLES, alone, by_recording, padded, recordings
from yanma.masks import window
from yanma.models import spec_augment
from yanma.models.families import SPEECH
from yanma.models.family import Family
from yanma.models.layout import Layout, own_mask

WAV2VEC2, HUBERT = SPEECH
CTC, BASE = "Wav2Vec2ForCTC", "Wav2Vec2Model"
STABLE = {
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
    "num_conv_pos_embeddings": 5,
}
"""As in the large models; the width of positions is odd here."""
EVERY = [(family, name) for family in SPEECH for name in family.heads]
HEADS = pytest.mark.parametrize(("family", "name"), EVERY, ids=[name for _, name in EVERY])
SOUNDS = recordings()


def pair(name: str, family: Family = WAV2VEC2, **settings: Any) -> tuple[nn.Module, nn.Module]:
    """A stock model in float64, and the same unpadded."""
    stock = doubled(sharpened(build(family, name, **settings)))
    return stock, yanma.unpad(copy.deepcopy(stock))


def doubles() -> dict[str, Tensor]:
    return padded(SOUNDS, torch.float64)


def layout_of(frames: tuple[int, ...], seed: int = 0, ids: tuple[int, ...] = ()) -> Layout:
    mask = own_mask(frames, False)
    return Layout(frames, mask, False, False, seed, ids or tuple(range(len(frames))), torch.device("cpu"))


def assert_each(found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    assert len(found) == len(expected) > 1
    for own, theirs in zip(found, expected, strict=True):
        assert own.keys() == theirs.keys() and theirs
        for key, value in theirs.items():
            assert torch.allclose(own[key], value, rtol=1e-10, atol=1e-10), key


@HEADS
@pytest.mark.parametrize("settings", [{}, STABLE], ids=["group", "stable"])
def test_outputs_states_and_gradients_are_those_of_each_recording_alone(
    family: Family, name: str, settings: Any
):
    stock, ours = pair(name, family, **settings)
    head = family.heads[name]
    expected = alone(stock, SOUNDS, head, output_hidden_states=True)
    found = by_recording(ours(**doubles(), output_hidden_states=True), head, FRAMES)
    assert "hidden_states.2" in expected[0]
    assert_each(found, expected)
    for outputs in (found, expected):
        sum(value.square().sum() for own in outputs for value in own.values()).backward()
    theirs = gradient(stock)
    assert (gradient(ours) - theirs).norm() <= 1e-10 * theirs.norm() > 0


@HEADS
def test_what_stands_in_padding_moves_no_bit(family: Family, name: str):
    model, inputs = yanma.unpad(build(family, name)), padded(SOUNDS)
    noise = inputs["input_values"].where(inputs["attention_mask"].bool(), torch.tensor(float("nan")))
    head = family.heads[name]
    with torch.no_grad():
        before = by_recording(model(**inputs), head, FRAMES)
        after = by_recording(model(**inputs | {"input_values": noise}), head, FRAMES)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(before, after, strict=True) for key in a)


def test_stock_models_count_padding_in_a_norm_over_time_and_not_in_one_over_channels():
    for settings, is_same in ((STABLE, True), ({}, False)):
        stock, ours = pair(CTC, **settings)
        head, inputs = WAV2VEC2.heads[CTC], doubles()
        (theirs,), (found,) = (
            [row[:n] for row, n in zip(model(**inputs).logits[:1], FRAMES[:1], strict=True)]
            for model in (stock, ours)
        )
        assert torch.allclose(found, theirs, rtol=1e-9, atol=1e-9) == is_same, settings
        torch.testing.assert_close(found, alone(stock, SOUNDS[:1], head)[0]["logits"])


def test_without_a_mask_all_slots_are_recorded():
    stock, ours = pair(CTC)
    values = doubles()["input_values"]
    torch.testing.assert_close(ours(values).logits, stock(values).logits, rtol=1e-10, atol=1e-10)
    assert isinstance(ours(values, return_dict=False), tuple)


@pytest.mark.parametrize("family", SPEECH, ids=lambda family: family.model_type)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_ctc_loss_is_that_of_each_recording_alone(family: Family, reduction: str):
    name = next(name for name in family.heads if name.endswith("ForCTC"))
    settings = {"ctc_loss_reduction": reduction, "ctc_zero_infinity": True}
    stock, ours = pair(name, family, **settings)
    texts = [
        [5, 6, 6, 9],
        [7],
        [8, 5, 4],
        [3],
        [2, 9, 9, 9],
        [1, 2, 3, 4, 5],
    ]  # the fifth is too long for two frames
    labels = torch.full((6, 5), -100)
    for row, text in zip(labels, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    loss = ours(**doubles(), labels=labels).loss
    each = torch.stack(
        [
            stock(sound[None].double(), labels=torch.tensor([text])).loss
            for sound, text in zip(SOUNDS, texts, strict=True)
        ]
    )
    assert each[4] == 0 and (each > 0).sum() == 5
    expected = each.sum() if reduction == "sum" else each.mean()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    loss.backward()
    expected.backward()
    assert (gradient(ours) - gradient(stock)).norm() <= 1e-6 * gradient(stock).norm()
    with pytest.raises(ValueError, match="labels has 100; this model's vocabulary has 100 entries"):
        ours(**doubles(), labels=labels.clamp(min=100))


def test_losses_by_frame_and_by_recording_are_over_what_was_recorded():
    name = "Wav2Vec2ForAudioFrameClassification"
    stock, ours = pair(name)
    draw = torch.Generator().manual_seed(3)
    classes = torch.randint(3, (6, max(FRAMES)), generator=draw)
    loss = ours(**doubles(), labels=torch.nn.functional.one_hot(classes, 3)).loss
    logits = torch.cat([own["logits"] for own in alone(stock, SOUNDS, WAV2VEC2.heads[name])])
    scored = torch.cat([row[:n] for row, n in zip(classes, FRAMES, strict=True)])
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, scored))
    stock, ours = pair("Wav2Vec2ForSequenceClassification", use_weighted_layer_sum=True)
    labels = torch.tensor([0, 2, 1, 1, 0, 2])
    logits = torch.stack([stock(sound[None].double()).logits[0] for sound in SOUNDS])
    output = ours(**doubles(), labels=labels)
    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(logits, labels))


def test_adapters_in_layers_are_the_stock_ones():
    stock, ours = pair(BASE, **STABLE, adapter_attn_dim=8)
    head = WAV2VEC2.heads[BASE]
    assert_each(by_recording(ours(**doubles()), head, FRAMES), alone(stock, SOUNDS, head))


def test_a_window_is_added_to_what_frames_of_a_recording_read():
    stock = doubled(sharpened(build(WAV2VEC2, BASE)))
    ours = yanma.unpad(copy.deepcopy(stock), mask=window(1, 2))

    def windowed(module, q, k, v, mask, scaling, **kwargs):
        places = torch.arange(q.shape[2])
        far = places - places[:, None]
        visible = (far >= -1) & (far <= 2)
        weights = (q @ k.mT * scaling).masked_fill(~visible, float("-inf")).softmax(-1)
        return (weights @ v).transpose(1, 2), None

    transformers.AttentionInterface.register("windowed", windowed)
    stock.set_attn_implementation("windowed")
    head = WAV2VEC2.heads[BASE]
    expected = alone(stock, SOUNDS, head)
    assert_each(by_recording(ours(**doubles()), head, FRAMES), expected)
    plain = by_recording(yanma.unpad(yanma.restore(ours))(**doubles()), head, FRAMES)
    assert not torch.allclose(plain[0]["last_hidden_state"], expected[0]["last_hidden_state"], atol=1e-3)


MASKED = {"mask_time_prob": 0.5, "mask_time_length": 3}


@pytest.mark.parametrize("family", SPEECH, ids=lambda family: family.model_type)
def test_masks_in_time_and_dropout_are_each_recordings_own(family: Family):
    dropouts = dict.fromkeys(SMALL[family.model_type].dropouts, 0.2)
    name = next(name for name in family.heads if name.endswith("ForCTC"))
    model = yanma.unpad(sharpened(build(family, name, **MASKED, **dropouts))).train()

    def heard(count: int, seed: int) -> list[dict[str, Tensor]]:
        return by_recording(model(**padded(SOUNDS[:count]), seed=seed), family.heads[name], FRAMES[:count])

    six, two, other = heard(6, 1), heard(2, 1), heard(6, 2)
    assert all(torch.equal(six[i]["logits"], two[i]["logits"]) for i in range(2))
    assert not any(torch.equal(six[i]["logits"], other[i]["logits"]) for i in range(6))
    again = heard(6, 1)
    assert all(torch.equal(six[i]["logits"], again[i]["logits"]) for i in range(6))
    torch.manual_seed(5)
    first = model(**padded(SOUNDS)).logits
    torch.manual_seed(5)
    assert torch.equal(first, model(**padded(SOUNDS)).logits), (
        "without a seed it is torch's generator that says"
    )


@pytest.mark.parametrize("settings", [{}, STABLE], ids=["group", "stable"])
def test_masks_in_time_hide_what_the_stock_model_would_hide_there(
    settings: Any, monkeypatch: pytest.MonkeyPatch
):
    stock, ours = (model.train() for model in pair(BASE, **settings, **MASKED))
    drawn = []

    def seen(*args: Any) -> Tensor:
        drawn.append(spec_augment.masked_frames(*args))
        return drawn[-1]

    monkeypatch.setattr("yanma.models.sound.masked_frames", seen)
    found = by_recording(ours(**doubles(), seed=3), WAV2VEC2.heads[BASE], FRAMES)
    order = sorted(range(6), key=SAMPLES.__getitem__)
    by_row = dict(zip(order, drawn[0].split([FRAMES[i] for i in order]), strict=True))
    assert [int(by_row[i].sum()) > 0 for i in range(6)] == [n >= 3 for n in FRAMES]
    assert not by_row[0].all()
    rows = torch.nn.utils.rnn.pad_sequence([by_row[i] for i in range(6)], batch_first=True)
    for i, sound in enumerate(SOUNDS):
        expected = stock(sound[None].double(), mask_time_indices=by_row[i][None])
        torch.testing.assert_close(found[i]["last_hidden_state"], expected.last_hidden_state[0])
    given = by_recording(ours(**doubles(), mask_time_indices=rows), WAV2VEC2.heads[BASE], FRAMES)
    assert all(
        torch.equal(own["last_hidden_state"], f["last_hidden_state"])
        for own, f in zip(given, found, strict=True)
    )
    plain = by_recording(ours.eval()(**doubles()), WAV2VEC2.heads[BASE], FRAMES)
    assert not torch.allclose(plain[0]["last_hidden_state"], found[0]["last_hidden_state"], atol=1e-3)
    ours.train().config.apply_spec_augment = False
    assert_each(by_recording(ours(**doubles()), WAV2VEC2.heads[BASE], FRAMES), plain)


def test_spans_are_as_many_as_the_stock_models_and_their_places_all_as_likely():
    frames = (40,) * 4000
    hidden = spec_augment.masked_frames(layout_of(frames), 0.13, 4, 0).view(-1, 40)
    transformers_mask = transformers.models.wav2vec2.modeling_wav2vec2._compute_mask_indices
    theirs = torch.cat([torch.from_numpy(transformers_mask((4, 40), 0.13, 4)) for _ in range(1000)])
    assert abs(hidden.float().mean() - theirs.float().mean()) < 0.004
    assert abs(hidden[:, 10:30].float().mean(0) - hidden[:, 10:30].float().mean()).max() < 0.03
    assert set(hidden.sum(1).tolist()) <= set(range(4, 9)), "one span or two, which may overlap"
    least = spec_augment.masked_frames(layout_of((40, 8, 7, 3, 1)), 0.0, 4, 2).split([40, 8, 7, 3, 1])
    assert 5 <= least[0].sum() <= 8 and 5 <= least[1].sum() <= 8
    assert least[2].sum() == 4 and not least[3].any() and not least[4].any(), (
        "no more spans than fit in side by side"
    )
    alone = spec_augment.masked_frames(layout_of((40,), ids=(7,)), 0.13, 4, 0)
    assert torch.equal(alone, hidden[7])
    assert not torch.equal(
        spec_augment.masked_frames(layout_of(frames, seed=1), 0.13, 4, 0).view(-1, 40), hidden
    )


def test_checkpointed_layers_give_the_same_bits_with_dropout():
    dropouts = dict.fromkeys(SMALL["wav2vec2"].dropouts, 0.2)
    model = yanma.unpad(build(WAV2VEC2, CTC, **dropouts)).train()
    other = copy.deepcopy(model)
    other.gradient_checkpointing_enable()
    assert any(getattr(module, "gradient_checkpointing", False) for module in other.modules())
    losses = [m(**padded(SOUNDS), seed=5).logits.square().sum() for m in (model, other)]
    for loss in losses:
        loss.backward()
    assert torch.equal(*losses)
    assert torch.equal(gradient(model), gradient(other)) and gradient(model).abs().sum() > 0


@HEADS
def test_copies_and_restored_models(family: Family, name: str):
    stock, inputs = build(family, name), padded(SOUNDS)
    classes, keys = [type(module) for module in stock.modules()], list(stock.state_dict())
    with torch.no_grad():
        before = stock(**inputs).to_tuple()[0]
        ours = yanma.unpad(stock)
        found = ours(**inputs).to_tuple()[0]
        copied = copy.deepcopy(ours)
        assert torch.equal(copied(**inputs).to_tuple()[0], found) and list(ours.state_dict()) == keys
        restored = yanma.restore(ours)
        assert [type(module) for module in restored.modules()] == classes
        assert torch.equal(restored(**inputs).to_tuple()[0], before) and not torch.equal(before, found)


def test_autocast_and_a_part_called_by_itself():
    model, inputs = yanma.unpad(build(WAV2VEC2, CTC)), padded(SOUNDS)
    stock = build(WAV2VEC2, CTC)
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = model(**inputs).logits
        assert cast.dtype == torch.bfloat16
        torch.testing.assert_close(cast.float(), model(**inputs).logits, rtol=0.05, atol=0.05)
        part, whole = (m.wav2vec2(**inputs).last_hidden_state for m in (model, stock))
    torch.testing.assert_close(part, whole, msg="a part called by itself is stock")


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        (CTC, {"add_adapter": True}, "add_adapter is True: an adapter makes fewer frames"),
        (
            CTC,
            {"ctc_loss_reduction": "none"},
            "ctc_loss_reduction is 'none'; unpad supports 'sum' and 'mean'",
        ),
        ("HubertModel", {"conv_pos_batch_norm": True}, "conv_pos_batch_norm is True: in training"),
    ],
)
def test_settings_that_are_refused_before_anything_is_changed(name: str, settings: Any, says: str):
    family = HUBERT if name.startswith("Hubert") else WAV2VEC2
    model = build(family, name, **settings)
    with pytest.raises(yanma.Unsupported, match=says):
        yanma.unpad(model)
    assert not yanma.models.is_unpadded(model) and says in str(yanma.explain(model))


def test_what_training_would_draw_for_all_recordings_at_once_is_refused():
    model = yanma.unpad(build(WAV2VEC2, CTC, mask_feature_prob=0.1))
    assert model(**padded(SOUNDS)).logits.isfinite().all(), "in eval it is idle"
    with pytest.raises(yanma.Unsupported, match=r"mask_feature_prob is 0\.1: .*set model\.config\.\S+ to 0"):
        model.train()(**padded(SOUNDS))
    model.config.mask_feature_prob = 0
    assert model(**padded(SOUNDS)).logits.isfinite().all()


def test_heads_that_mix_frames_or_draw_at_random_are_refused_by_name():
    for name in ("Wav2Vec2ForXVector", "Wav2Vec2ForPreTraining"):
        model = getattr(transformers, name)(build(WAV2VEC2, CTC).config)
        with pytest.raises(
            yanma.Unsupported, match=f"{name} is not a head of wav2vec2 that unpad knows: Wav2Vec2Model"
        ):
            yanma.unpad(model)


def test_calls_that_are_refused():
    model, inputs = yanma.unpad(build(WAV2VEC2, CTC)), padded(SOUNDS)
    values, mask = inputs["input_values"], inputs["attention_mask"]
    with pytest.raises(
        yanma.Unsupported, match="Wav2Vec2ForCTC reads recordings, of which a PackedBatch has none"
    ):
        model(yanma.PackedBatch.from_sequences([[5, 6]]))
    with pytest.raises(yanma.Unsupported, match="row 0 of attention_mask has hidden samples before others"):
        model(values, attention_mask=mask.flip(1))
    with pytest.raises(yanma.Unsupported, match=r"attention_mask must be \(6, 200\).*got \(6, 1\)"):
        model(values, attention_mask=mask[:, :1])
    with pytest.raises(ValueError, match=r"row 1 has 10 samples; this model makes no frame of less than 11"):
        model(values, attention_mask=mask * (torch.arange(200) < torch.tensor([[200], [10], *[[200]] * 4])))
    with pytest.raises(ValueError, match="row 0 has 0 samples"):
        model(values, attention_mask=mask * 0)
    with pytest.raises(ValueError, match="input_values is not given"):
        model(None, attention_mask=mask)
    with pytest.raises(ValueError, match=r"input_values is \(6, 1, 200\)"):
        model(values[:, None])
    with pytest.raises(ValueError, match="built with mask_time_prob 0 and has no masked_spec_embed"):
        model(**inputs, mask_time_indices=torch.ones(6, 32, dtype=torch.bool))
    later = yanma.unpad(build(WAV2VEC2, CTC)).train()
    later.config.mask_time_prob = 0.5
    with pytest.raises(ValueError, match="has no masked_spec_embed to put there; build or load it with"):
        later(**inputs)
    with pytest.raises(ValueError, match=r"labels is \(5, 3\); there are 6 documents"):
        model(**inputs, labels=torch.ones(5, 3, dtype=torch.long))
    with pytest.raises(yanma.Unsupported, match="does not do output_attentions"):
        model(**inputs, output_attentions=True)
    with pytest.raises(yanma.Unsupported, match="exact='bits' is tried on texts"):
        yanma.unpad(build(WAV2VEC2, CTC), exact="bits")
    masked = yanma.unpad(build(WAV2VEC2, BASE, **MASKED))
    with pytest.raises(ValueError, match=r"mask_time_indices is \(6, 31\); it must begin with \(6, 32\)"):
        masked(**inputs, mask_time_indices=torch.ones(6, 31, dtype=torch.bool))
