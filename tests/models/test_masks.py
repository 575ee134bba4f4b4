"""A mask on top of a model's own: the stock model with the same 4-D mask is what it is compared with."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import yanma
from models.builders import FAMILIES, build, doubled, gradient
from models.test_exactness import sharpened
from yanma.attention import plans
from yanma.masks import (
    Mask,
    additive,
    causal,
    chunked,
    documents,
    from_dense,
    from_mask_mod,
    global_tokens,
    padding,
    parse,
    prefix,
    random_drop,
    segments,
    strided,
    tree,
    visible,
    window,
)
from yanma.models import is_unpadded
from yanma.models.family import Family

BY_TYPE = {family.model_type: family for family in FAMILIES}
BERT = BY_TYPE["bert"]
LENGTHS = (129, 1, 128, 7, 127, 7, 300)
SMALL = (17, 3, 9, 9, 1, 12)
WINDOWED = window(4, 4) | global_tokens(first=1)
CLASSES = "BertForSequenceClassification"

MASKS = {
    "one for all": (WINDOWED, (WINDOWED, WINDOWED)),
    "one a layer": ([chunked(5) | strided(3), window(2, 0)], (chunked(5) | strided(3), window(2, 0))),
    "by layer": ({0: WINDOWED}, (WINDOWED, None)),
    "as text": (parse("documents & window(3, 3) | chunked(9)"), (window(3, 3) | chunked(9),) * 2),
}
"""What is given to unpad, and what that is for each layer."""


def random_documents(lengths: tuple[int, ...]) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    return [torch.randint(5, 99, (length,), generator=draw) for length in lengths]


def with_masks(stock: nn.Module, family: Family, masks: tuple[Mask | None, ...]) -> nn.Module:
    """The stock model, each layer of which is handed the mask as a tensor of 0 and -inf."""
    layers = [module for module in stock.modules() if type(module).__name__ == family.attention]
    assert len(layers) == len(masks) == 2

    def hook(mask):
        def replace(module, args, kwargs):
            return args, kwargs | {"attention_mask": additive(mask, args[0].dtype, args[0].shape[1])}

        return replace

    for layer, mask in zip(layers, masks, strict=True):
        if mask is not None:
            layer.register_forward_pre_hook(hook(mask), with_kwargs=True)
    return stock


def padded(found: list[torch.Tensor], value: int) -> dict[str, torch.Tensor]:
    ids = nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=value)
    valid = nn.utils.rnn.pad_sequence([torch.ones_like(x) for x in found], batch_first=True)
    return {"input_ids": ids, "attention_mask": valid}


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("bert", "BertForTokenClassification"),
        ("bert", CLASSES),
        ("distilbert", "DistilBertForTokenClassification"),
        ("distilbert", "DistilBertForSequenceClassification"),
        ("roberta", "RobertaForTokenClassification"),
        ("roberta", "RobertaForSequenceClassification"),
    ],
)
def test_outputs_and_gradients_are_the_stock_models_with_the_same_mask(model_type: str, name: str, masks):
    family, (given, by_layer) = BY_TYPE[model_type], MASKS[masks]
    stock = doubled(sharpened(build(family, name, max_position_embeddings=320)))
    ours = yanma.unpad(copy.deepcopy(stock), mask=given)
    unmasked = copy.deepcopy(stock)
    with_masks(stock, family, by_layer)
    found, pad = random_documents(LENGTHS), stock.config.pad_token_id
    batch = yanma.PackedBatch.from_sequences(found)

    expected = torch.cat([stock(input_ids=ids[None]).logits[0].view(-1, 3) for ids in found])
    without = torch.cat([unmasked(input_ids=ids[None]).logits[0].view(-1, 3) for ids in found])
    expected.square().sum().backward()
    assert (expected - without).abs().max() > 1e-3, "the mask changes nothing, so the test shows nothing"
    packed = ours(batch).logits
    packed.square().sum().backward()
    assert torch.allclose(packed, expected, rtol=0, atol=1e-10)
    assert (gradient(ours) - gradient(stock)).norm() <= 1e-10 * gradient(stock).norm()
    rectangle = padded(found, pad)
    again = ours(**rectangle).logits
    if "Token" in name:
        again = again[rectangle["attention_mask"].bool()]
    assert torch.equal(again, packed), "padded and packed differ"


def test_a_4d_argument_of_the_stock_model_says_the_same():
    stock = doubled(sharpened(build(BERT, CLASSES)))
    ours = yanma.unpad(copy.deepcopy(stock), mask=WINDOWED)
    found = random_documents(SMALL)
    expected = [
        stock(input_ids=ids[None], attention_mask=additive(WINDOWED, torch.float64, len(ids))).logits
        for ids in found
    ]
    got = ours(yanma.PackedBatch.from_sequences(found)).logits
    assert torch.allclose(got, torch.cat(expected), rtol=0, atol=1e-10)


def test_a_decoder_stays_causal():
    stock = doubled(sharpened(build(BERT, "BertLMHeadModel")))
    ours = yanma.unpad(copy.deepcopy(stock), mask=WINDOWED)
    with_masks(stock, BERT, (WINDOWED & causal(),) * 2)
    found = random_documents(SMALL)
    expected = [stock(input_ids=ids[None]).logits[0] for ids in found]
    got = ours(yanma.PackedBatch.from_sequences(found)).logits
    assert torch.allclose(got, torch.cat(expected), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_documents_bits_are_its_own_in_any_company(mode: str, dtype: torch.dtype):
    settings = {
        "max_position_embeddings": 320,
        "hidden_dropout_prob": 0.2,
        "attention_probs_dropout_prob": 0.2,
    }
    model = yanma.unpad(sharpened(build(BERT, "BertForTokenClassification", **settings)).to(dtype), WINDOWED)
    model.train(mode == "train")
    found = random_documents(LENGTHS)
    batch = yanma.PackedBatch.from_sequences(found, ids=range(10, 10 + len(found)))
    with torch.no_grad():
        together = batch.unpack(model(batch, seed=3).logits)
        for index, ids in enumerate(found):
            alone = model(yanma.PackedBatch.from_sequences([ids], ids=[10 + index]), seed=3).logits
            assert torch.equal(alone, together[index]), f"document {index} of {len(ids)} tokens"


def test_what_the_mask_hides_moves_no_bit():
    """Two layers with two tokens on each side reach four tokens far."""
    model = yanma.unpad(sharpened(build(BERT, "BertForTokenClassification")), mask=window(2, 2))
    ids, other = (random_documents((40,))[0] for _ in range(2))
    other[20] = 3
    with torch.no_grad():
        before, after = (model(yanma.PackedBatch.from_sequences([x])).logits for x in (ids, other))
    moved = (before != after).any(1).nonzero()[:, 0].tolist()
    assert moved == list(range(16, 25)), f"tokens {moved} moved"


def test_a_token_that_may_read_nothing_attends_to_zero():
    """The neighbours, but not itself: the token of a document of one has none."""
    neighbours = window(1, 1) - window(0, 0)
    stock = sharpened(build(BERT, "BertForTokenClassification"))
    ours = yanma.unpad(copy.deepcopy(stock), mask=neighbours)
    for layer in stock.modules():
        if type(layer).__name__ == "BertSelfAttention":
            layer.register_forward_hook(lambda module, args, out: (torch.zeros_like(out[0]), None))
    one = torch.tensor([7])
    got = ours(yanma.PackedBatch.from_sequences([[5, 6, 9], one])).logits
    assert bool(got.isfinite().all())
    assert torch.allclose(got[3:], stock(input_ids=one[None]).logits[0], rtol=1e-5, atol=1e-6)
    got.sum().backward()
    assert bool(gradient(ours).isfinite().all())


def test_layers_with_equal_masks_share_one_plan(monkeypatch: pytest.MonkeyPatch):
    made = []
    make = plans.make
    monkeypatch.setattr(plans, "make", lambda key: made.append(key) or make(key))
    monkeypatch.setattr(plans, "PLANS", plans.Plans(2**24))
    masks = [window(4, 4) | global_tokens(first=1), window(4, 4) | global_tokens(first=1)]
    model = yanma.unpad(build(BERT, CLASSES), mask=masks)
    for _ in range(2):
        model(yanma.PackedBatch.from_sequences(random_documents((33, 5))))
    assert len(made) == 1, f"{len(made)} plans"


ONE_PACK = {
    "documents(lengths)": documents([3, 2]),
    "prefix": prefix([1, 2]),
    "random_drop": random_drop(0.5, [1, 2]),
    "from_dense": from_dense(torch.ones(5, 5, dtype=torch.bool)),
    "from_mask_mod": from_mask_mod(lambda b, h, q, kv: q >= kv),
    "padding": padding([3, 2], 3),
    "segments": segments("ab", [("a", "b", "full")]),
    "tree": tree([-1, 0, 0]),
    "visible": visible([torch.ones(2, 2, dtype=torch.bool)] * 2),
}


@pytest.mark.parametrize("kind", ONE_PACK)
def test_masks_of_one_pack_are_refused(kind: str):
    model = build(BERT, CLASSES)
    with pytest.raises(yanma.Unsupported, match=r"^mask of layer 1: .* holds for one pack only"):
        yanma.unpad(model, mask={1: window(2, 2) | ONE_PACK[kind]})
    assert not is_unpadded(model) and "_yanma_site" not in vars(model.bert.encoder.layer[0].attention.self)


def test_a_mask_that_would_drop_the_same_pairs_at_every_step_is_refused():
    model = build(BERT, CLASSES)
    with pytest.raises(
        yanma.Unsupported, match=r"random_drop\(0.5, 3\) would hide the same pairs at every step"
    ):
        yanma.unpad(model, mask=causal() & random_drop(0.5, seed=3))
    assert not is_unpadded(model)


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        ({2: causal()}, ValueError, "there is no layer 2; layers are 0 to 1"),
        ({"0": causal()}, ValueError, "there is no layer '0'"),
        ([causal()], ValueError, "1 masks for 2 layers"),
        ("causal", TypeError, "mask is a str"),
        ([None, "causal"], TypeError, r"mask of layer 1 is a str; parse\(\) makes"),
        (torch.ones(2, 2), TypeError, "mask is a Tensor"),
    ],
)
def test_what_is_no_mask_for_these_layers_is_refused(mask, error, words: str):
    with pytest.raises(error, match=words):
        yanma.unpad(build(BERT, CLASSES), mask=mask)


def test_other_masks_on_an_unpadded_model_are_refused_and_restore_undoes():
    stock, batch = build(BERT, CLASSES), random_documents(SMALL)
    model = yanma.unpad(copy.deepcopy(stock), mask=WINDOWED)
    assert yanma.unpad(model, mask=[WINDOWED, WINDOWED]) is model
    for mask in (None, window(1, 1), {0: WINDOWED}):
        with pytest.raises(yanma.Unsupported, match="is unpadded with other masks; restore it first"):
            yanma.unpad(model, mask=mask)
    assert not any("_yanma_mask" in vars(module) for module in yanma.restore(model).modules())
    rectangle = padded(batch, 0)
    assert torch.equal(model(**rectangle).logits, stock(**rectangle).logits)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_keep_the_masks(copied):
    model = yanma.unpad(build(BERT, CLASSES), mask={1: WINDOWED})
    batch = yanma.PackedBatch.from_sequences(random_documents(SMALL))
    model(batch)  # whatever a mask keeps of its first use must not matter
    twin = copied(model)
    assert torch.equal(twin(batch).logits, model(batch).logits)
    assert yanma.unpad(twin, mask={1: WINDOWED}) is twin


def test_a_part_that_is_called_by_itself_does_not_forget_its_mask():
    model = yanma.unpad(build(BERT, CLASSES), mask={1: WINDOWED})
    with pytest.raises(yanma.Unsupported, match=r"called by itself, where its mask .*global_tokens"):
        model.bert(input_ids=torch.tensor([[5, 6]]))


def test_explain_says_the_masks():
    model = build(BERT, CLASSES)
    assert "layer" not in str(yanma.explain(yanma.unpad(copy.deepcopy(model)))).split("linear layers")[0]
    text = str(yanma.explain(yanma.unpad(model, mask=[window(2, 2), None])))
    assert "layer 0: window(2, 2)\nlayer 1: no mask but its own\n" in text
