"""A document's bits are its own in any company: both kernels, both dtypes, narrow heads, dropout."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch

import yanma
from models.builders import (
    FAMILIES,
    SMALL,
    build,
    every_head,
    few_families,
    few_heads,
    gradient,
    head_named,
    rectangle,
)
from models.test_exactness import DTYPES, sharpened
from yanma.attention import attention
from yanma.attention.biased import attend_biased
from yanma.models.family import Family
from yanma.models.kernels import Kernels
from yanma.models.linear import linear
from yanma.models.modules import _KeyedDropout

BY_TYPE = {family.model_type: family for family in FAMILIES}
KERNELS = pytest.mark.parametrize("kernel", ["torch", "onednn"])


@pytest.fixture
def chosen(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Kernels(kernel, kernel, {}, "told by the test")
    monkeypatch.setattr("yanma.models.linear.fastest", lambda dtype, device: choice)


@contextmanager
def using_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    with using_threads(request.param):
        yield request.param


def random_documents(count: int, longest: int = 40) -> list[torch.Tensor]:
    """Of the lengths that kernels treat apart first, then of any."""
    draw = random.Random(5)
    lengths = [1, 1, 2, 3, 4, 7, 12, 13, 16, 17, longest]
    lengths += [draw.randint(1, longest) for _ in range(count - len(lengths))]
    return [torch.tensor([draw.randint(5, 99) for _ in range(length)]) for length in lengths]


def per_document(output, head, batch) -> list[tuple[torch.Tensor, ...]]:
    """All tensors of an output, cut into documents."""
    cut = [
        batch.unpack(value) if key in head.token_outputs else value.split(1)
        for key, value in output.items()
        if isinstance(value, torch.Tensor)
    ]
    return list(zip(*cut, strict=True))


def assert_same_bits_alone(model, head, documents: list[torch.Tensor], alone: int) -> None:
    """All documents in one pack, and the first few of them by themselves."""
    batch = yanma.PackedBatch.from_sequences(documents)
    with torch.no_grad():
        together = per_document(model(batch), head, batch)
        for index, document in enumerate(documents[:alone]):
            own = yanma.PackedBatch.from_sequences([document])
            (expected,) = per_document(model(own), head, own)
            assert expected, "there is something to compare"
            for whole, part in zip(together[index], expected, strict=True):
                assert torch.equal(whole, part), f"document {index} of {len(document)} tokens"


def assert_same_bits_in_packs_of(size: int, model, head, documents: list[torch.Tensor]) -> None:
    """All documents in one pack, in shuffled packs of that size, and the first few of them alone."""

    def outputs(indices: Sequence[int]) -> list[tuple[torch.Tensor, ...]]:
        batch = yanma.PackedBatch.from_sequences([documents[index] for index in indices])
        with torch.no_grad():
            return per_document(model(batch), head, batch)

    count = len(documents)
    whole, shuffled = outputs(range(count)), random.Random(6).sample(range(count), count)
    packs = [shuffled[first : first + size] for first in range(0, count, size)] + [[i] for i in range(11)]
    for pack in packs:
        for index, found in zip(pack, outputs(pack), strict=True):
            assert found, "there is something to compare"
            for part, expected in zip(found, whole[index], strict=True):
                length = len(documents[index])
                assert torch.equal(part, expected), f"document {index} of {length} tokens among {len(pack)}"


@few_families(FAMILIES)
@DTYPES
@pytest.mark.usefixtures("threads")
def test_a_documents_bits_are_its_own_among_250_or_50_or_alone(family: Family, dtype: torch.dtype):
    name = next(iter(family.heads))
    model = yanma.unpad(sharpened(build(family, name)).to(dtype))
    assert_same_bits_in_packs_of(50, model, family.heads[name], random_documents(250, longest=60))


@few_heads(every_head())
@DTYPES
def test_a_documents_bits_are_its_own_under_every_head(family: Family, name: str, dtype: torch.dtype):
    model = yanma.unpad(sharpened(build(family, name)).to(dtype))
    assert_same_bits_in_packs_of(20, model, family.heads[name], random_documents(40))


@few_heads(every_head())
@DTYPES
@pytest.mark.parametrize("threads", [2], indirect=True)
def test_among_200_documents_each_has_the_bits_that_it_has_alone(
    family: Family, name: str, dtype: torch.dtype, threads: int
):
    model = yanma.unpad(sharpened(build(family, name)).to(dtype))
    assert_same_bits_alone(model, family.heads[name], random_documents(200, longest=60), alone=200)


NARROW = {
    "ElectraForPreTraining": {},
    "BertForSequenceClassification": {"num_labels": 1},
    "RobertaForTokenClassification": {"num_labels": 2, "num_attention_heads": 1},
    "DistilBertModel": {"dim": 64, "n_heads": 1},
    "XLMRobertaModel": {"hidden_size": 128, "num_attention_heads": 2, "hidden_act": "gelu_new"},
}


@KERNELS
@DTYPES
@pytest.mark.parametrize("name", NARROW)
@pytest.mark.usefixtures("chosen", "threads")
def test_bits_do_not_depend_on_company_whatever_the_kernel_and_sizes(
    name: str, dtype: torch.dtype, kernel: str
):
    family = next(family for family, known in every_head() if known == name)
    model = yanma.unpad(sharpened(build(family, name, **NARROW[name])).to(dtype))
    assert_same_bits_alone(model, family.heads[name], random_documents(60), alone=25)


@KERNELS
@DTYPES
@pytest.mark.parametrize(
    ("inputs", "outputs"), [(32, 1), (128, 1), (32, 2), (384, 2), (64, 15), (32, 16), (384, 384)]
)
@pytest.mark.usefixtures("chosen", "threads")
def test_a_row_of_a_product_does_not_depend_on_the_number_of_rows(inputs, outputs, dtype, kernel):
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, generator=draw).to(dtype)
        for shape in ((3000, inputs), (outputs, inputs), (outputs,))
    )
    whole = linear(x, weight, bias)
    for count in (1, 2, 3, 5, 8, 11, 15, 16, 17, 20, 32, 33, 64, 65, 129):
        for start in range(0, min(3000, 200 * count) - count, count):
            part = linear(x[start : start + count], weight, bias)
            assert torch.equal(part, whole[start : start + count]), f"{count} rows from {start}"


DROPPING = few_heads(
    (family, name)
    for family, name in every_head()
    if family.model_type != "gemma2" or name.endswith("ForTokenClassification")
)
"""Gemma 2 drops nothing but in this head."""


@DROPPING
@DTYPES
def test_with_dropout_a_documents_bits_depend_on_its_id_and_the_seed_alone(
    family: Family, name: str, dtype: torch.dtype
):
    head = family.heads[name]
    model = yanma.unpad(sharpened(build(family, name, **dropouts(family)))).train().to(dtype)
    documents = rectangle(family, name).documents
    ids = [40 + index for index in range(len(documents))]
    batch = yanma.PackedBatch.from_sequences(documents, ids=ids)
    other_order = yanma.PackedBatch.from_sequences(documents[::-1], ids=ids[::-1])
    with torch.no_grad():
        together = per_document(model(batch, seed=3), head, batch)
        turned = per_document(model(other_order, seed=3), head, other_order)[::-1]
        other_seed = per_document(model(batch, seed=5), head, batch)
        for index, document in enumerate(documents):
            own = yanma.PackedBatch.from_sequences([document], ids=[ids[index]])
            (alone,) = per_document(model(own, seed=3), head, own)
            for whole, again, part, other in zip(
                together[index], turned[index], alone, other_seed[index], strict=True
            ):
                assert torch.equal(whole, part), f"document {index} has other bits alone"
                assert torch.equal(whole, again), f"document {index} has other bits in another order"
                assert not torch.equal(whole, other), f"document {index} does not follow the seed"


def dropouts(family: Family, attention_only: bool = False) -> dict[str, float]:
    names = SMALL[family.model_type].dropouts
    return {name: 0.0 if attention_only and "att" not in name else 0.2 for name in names}


@pytest.mark.parametrize("attention_only", [False, True], ids=["everywhere", "attention"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_equal_documents_drop_the_same_only_if_their_ids_are_equal(family: Family, attention_only: bool):
    name = head_named(family, "ForTokenClassification")
    if not any(dropouts(family, attention_only).values()):
        assert family.model_type == "gemma2", "only what caps its scores has no dropout in attention"
        return
    model = yanma.unpad(sharpened(build(family, name, **dropouts(family, attention_only)))).train()
    twins = yanma.PackedBatch.from_sequences([[5, 6, 7, 8, 9]] * 3, ids=[1, 2, 1])
    first, second, third = twins.unpack(model(twins, seed=0)[0])
    assert torch.equal(first, third) and not torch.equal(first, second)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_every_layer_and_token_drops_other_things(family: Family, monkeypatch: pytest.MonkeyPatch):
    """No two rows of any two dropout modules, and no two attention layers or documents, share their bits."""
    name = head_named(family, "ForTokenClassification")
    settings = {name: 0.5 for name in dropouts(family)}
    model = yanma.unpad(build(family, name, **settings)).train()
    kept, seeds = [], []

    class Spy(_KeyedDropout):
        @staticmethod
        def forward(ctx, *args):
            out = _KeyedDropout.forward(ctx, *args)
            kept.extend((out != 0).flatten(0, -2)[:, :16].unbind())
            return out

    def spied(attend):
        def spy(*args, seed, **kwargs):
            seeds.extend(seed.tolist())
            return attend(*args, seed=seed, **kwargs)

        return spy

    monkeypatch.setattr("yanma.models.interface.attention", spied(attention))
    monkeypatch.setattr("yanma.models.relative.attend_biased", spied(attend_biased))
    monkeypatch.setattr("yanma.models.modules._KeyedDropout", Spy)
    model(yanma.PackedBatch.from_sequences([[5] * 9, [5] * 6]), seed=0)
    rows = torch.stack(kept) if kept else torch.zeros(0, 16)
    elsewhere = [name for name in settings if "att" not in name and name != "classifier_dropout"]
    assert len(rows) >= 15 * (
        4 if elsewhere else "classifier_dropout" in settings and hasattr(model, "score")
    )
    assert len(rows.unique(dim=0)) >= len(rows) - 2, "16 bits meet by chance now and then, but not so often"
    layers = 2 if any("att" in name for name in settings) else 0
    assert len(seeds) == len(set(seeds)) == 2 * layers, "two documents in two layers"


@pytest.mark.parametrize("attention_only", [False, True], ids=["everywhere", "attention"])
@pytest.mark.parametrize("suffix", ["ForTokenClassification", "ForSequenceClassification"])
@few_families(FAMILIES)
def test_with_dropout_gradients_of_the_parts_add_up_to_the_whole(
    family: Family, suffix: str, attention_only: bool
):
    name = head_named(family, suffix)
    model = yanma.unpad(sharpened(build(family, name, **dropouts(family, attention_only)))).train()
    documents = random_documents(20)

    def summed(*cuts: Sequence[int]) -> torch.Tensor:
        model.zero_grad()
        for cut in cuts:
            batch = yanma.PackedBatch.from_sequences([documents[i] for i in cut], ids=list(cut))
            model(batch, seed=1)[0].square().sum().backward()
        return gradient(model)

    whole = summed(range(20))
    assert whole.norm() > 0
    halves, turned, single = [range(0, 20, 2), range(1, 20, 2)], [range(19, -1, -1)], [[i] for i in range(20)]
    for cuts in (halves, turned, single):
        assert (summed(*cuts) - whole).norm() <= 1e-5 * whole.norm()


def test_dropout_keeps_the_expectation():
    """The mean over many seeds is the model without dropout, as its one dropout stands before a linear layer."""
    name = "BertForTokenClassification"
    model = yanma.unpad(sharpened(build(BY_TYPE["bert"], name, classifier_dropout=0.3)))
    batch = yanma.PackedBatch.from_sequences([[5, 6, 7], [8]])
    with torch.no_grad():
        expected = model.eval()(batch).logits
        model.train()
        draws = torch.stack([model(batch, seed=seed).logits for seed in range(600)])
    deviations = (draws.mean(0) - expected) / (draws.std(0) / 600**0.5)
    assert deviations.abs().max() < 5


def test_padded_rows_are_known_to_dropout_by_their_place():
    name = "BertForTokenClassification"
    family, data = BY_TYPE["bert"], rectangle(BY_TYPE["bert"], name)
    model = yanma.unpad(build(family, name, **dropouts(family))).train()
    batch = yanma.PackedBatch.from_sequences(data.documents, ids=range(len(data.documents)))
    arguments = {key: data.kwargs[key] for key in ("input_ids", "attention_mask")}
    assert torch.equal(model(**arguments, seed=5).logits[data.valid], model(batch, seed=5).logits)


def test_eval_mode_has_no_dropout_and_needs_no_seed():
    name = "BertForTokenClassification"
    model = yanma.unpad(build(BY_TYPE["bert"], name, **dropouts(BY_TYPE["bert"]))).eval()
    batch = yanma.PackedBatch.from_sequences([[5, 6, 7]])
    state = torch.get_rng_state()
    assert torch.equal(model(batch).logits, model(batch, seed=9).logits)
    assert torch.equal(torch.get_rng_state(), state), "torch's generator was advanced"


def test_a_drawn_seed_follows_torchs_generator():
    model = yanma.unpad(
        build(BY_TYPE["bert"], "BertForSequenceClassification", hidden_dropout_prob=0.5)
    ).train()
    batch = yanma.PackedBatch.from_sequences(
        rectangle(BY_TYPE["bert"], "BertForSequenceClassification").documents
    )
    outputs = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        outputs.append(model(batch).logits)
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[1], outputs[2])


def test_documents_with_equal_ids_keep_their_order():
    model = yanma.unpad(build(BY_TYPE["bert"], "BertForSequenceClassification"))
    long, short = torch.tensor([5, 6, 7, 8]), torch.tensor([9])
    with torch.no_grad():
        twice = model(yanma.PackedBatch.from_sequences([long, short], ids=[4, 4])).logits
        alone = model(yanma.PackedBatch.from_sequences([long])).logits
    assert torch.equal(twice[:1], alone)
