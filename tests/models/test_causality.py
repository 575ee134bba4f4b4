"""Who may read what comes after it: as the config, the call and the modules of the stock model say."""

import copy

import pytest
import torch

import yanma
from models.builders import TABLE, build, every_head, head_named, rectangle
from yanma.models.families import SPEECH

BY_TYPE = {family.model_type: family for family in (*TABLE, *SPEECH)}
DECODERS = [
    (family, name)
    for family, name in every_head()
    if family.is_causal(build(family, name).config) and not family.always_told_causal
]
BY_WINDOW = ("mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "modernbert")
LENGTHS = (17, 3, 9, 1, 12)


def outputs(model, head, data, **more):
    with torch.no_grad():
        found = model(**{key: data.kwargs[key] for key in ("input_ids", "attention_mask")}, **more)
    names = [name for name in (*head.token_outputs, *head.document_outputs) if found.get(name) is not None]
    return [found[name][data.valid] if name in head.token_outputs else found[name] for name in names]


@pytest.mark.parametrize(("family", "name"), DECODERS, ids=lambda value: getattr(value, "model_type", value))
def test_a_decoder_reads_both_ways_where_config_or_call_say_so(family, name):
    head, stock, data = family.heads[name], build(family, name), rectangle(family, name, LENGTHS)
    ours = yanma.unpad(copy.deepcopy(stock))
    expected = outputs(stock, head, data, is_causal=False)
    assert not torch.allclose(expected[0], outputs(stock, head, data)[0]), "nothing is read ahead"
    batch = yanma.PackedBatch.from_sequences(data.documents)

    def check(**more):
        with torch.no_grad():
            packed = ours(batch, **more)
        flat = [
            packed[key]
            for key in (*head.token_outputs, *head.document_outputs)
            if packed.get(key) is not None
        ]
        for found in (outputs(ours, head, data, **more), flat):
            for got, want in zip(found, expected, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-5, atol=5e-6)

    check(is_causal=False)
    ours.config.is_causal = False
    check()
    causal = outputs(stock, head, data)[0]
    torch.testing.assert_close(outputs(ours, head, data, is_causal=True)[0], causal, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("model_type", BY_WINDOW)
def test_windows_are_those_of_the_config_at_hand(model_type, both_ways):
    family = BY_TYPE[model_type]
    name = head_named(family, "ForTokenClassification")
    head, data = family.heads[name], rectangle(family, name, LENGTHS)
    settings = {} if model_type == "modernbert" or not both_ways else {"is_causal": False}
    stock = build(family, name, **settings)
    assert stock.config.sliding_window is not None
    ours = yanma.unpad(copy.deepcopy(stock))
    before = outputs(ours, head, data)[0]
    for model in (stock, ours):
        model.config.sliding_window = 2
    got, want = outputs(ours, head, data)[0], outputs(stock, head, data)[0]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=5e-6)
    assert not torch.allclose(got, before), "the window is not heeded"


@pytest.mark.parametrize(
    ("model_type", "suffix", "says", "words"),
    [
        ("llama", "ForCausalLM", None, "is_causal is None"),
        ("bert", "Model", True, "is_causal is True"),
        ("modernbert", "Model", True, "is_causal is True"),
        ("clip_text_model", "Model", False, "is_causal is False"),
        ("bart", "Model", False, "parts of both kinds"),
        ("t5", "ForConditionalGeneration", True, "parts of both kinds"),
        ("wav2vec2", "Model", True, "parts of both kinds"),
    ],
)
def test_what_would_go_by_padding_is_refused_by_name(model_type, suffix, says, words):
    family = BY_TYPE[model_type]
    name = next(name for name in family.heads if name.endswith(suffix))
    model = build(family, name)
    model.config.is_causal = says
    with pytest.raises(yanma.Unsupported, match=words):
        yanma.unpad(model)


@pytest.mark.parametrize(
    ("model_type", "suffix", "says"), [("bert", "Model", True), ("bart", "Model", False)]
)
def test_a_call_that_would_go_by_padding_is_refused_by_name(model_type, suffix, says):
    family = BY_TYPE[model_type]
    name = next(name for name in family.heads if name.endswith(suffix))
    model, ids = yanma.unpad(build(family, name)), torch.tensor([[7, 8, 9]])
    targets = {"decoder_input_ids": ids} if family.cross_attention else {}
    with pytest.raises(yanma.Unsupported, match=f"is_causal is {says}"):
        model(input_ids=ids, **targets, is_causal=says)


@pytest.mark.parametrize(
    "family",
    [family for family in TABLE if family.by_interface and not family.always_told_causal],
    ids=lambda family: family.model_type,
)
def test_an_attention_that_was_told_otherwise_is_refused_by_name(family):
    name = next(iter(family.heads))
    model = build(family, name)
    attention = [module for module in model.modules() if type(module).__name__ == family.attention][-1]
    attention.is_causal = not attention.is_causal
    with pytest.raises(yanma.Unsupported, match=r"is_causal of .*config\.is_causal=False"):
        yanma.unpad(model)
    attention.is_causal = not attention.is_causal
    yanma.unpad(model)
    attention.is_causal = not attention.is_causal
    ids = torch.tensor([[7, 8, 9]])
    with pytest.raises(yanma.Unsupported, match="after unpad"), torch.no_grad():
        model(input_ids=ids, **({"decoder_input_ids": ids} if family.cross_attention else {}))
    attention.is_causal = not attention.is_causal
    yanma.restore(model)
    assert not any("_yanma_is_causal" in vars(module) for module in model.modules())
