"""exact="bits": what passes keeps its bits, and every kind of part that does not is caught by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

import yanma
from models.builders import FAMILIES, SEQ2SEQ, build, few_families, few_heads, head_named
from models.pairs import generator, ours_by_pair, pairs
from models.test_company import assert_same_bits_in_packs_of, random_documents, using_threads
from models.test_exactness import DTYPES, sharpened
from yanma.attention import attention
from yanma.models import bits, linear, trials
from yanma.models.family import Family
from yanma.models.kernels import Kernels

BERT = FAMILIES[0]
PRODUCT = linear._product


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What other tests have found is not known here, nor what is found here elsewhere."""
    monkeypatch.setattr(bits, "_FOUND", {})
    yield


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models are tried with fewer rows and shorter documents."""
    monkeypatch.setattr(bits, "MANY_ROWS", (1024,))
    monkeypatch.setattr(trials, "LENGTHS", (1, 2, 3, 4, 7, 16, 17, 33, 64, 65, 129))


def bert(**settings) -> nn.Module:
    return sharpened(build(BERT, "BertModel", **settings))


@few_families(FAMILIES)
@DTYPES
@pytest.mark.usefixtures("quick")
def test_every_family_keeps_its_bits_here(family: Family, dtype: torch.dtype):
    name = head_named(family, "ForSequenceClassification") if family.model_type != "opt" else "OPTModel"
    model = yanma.unpad(sharpened(build(family, name)).to(dtype), exact="bits")
    (found,) = yanma.explain(model).bits
    kinds = " ".join(found.parts)
    assert "product" in kinds and "attention" in kinds and "Norm" in kinds and found.num_texts == 7
    assert f"exact in bits in {str(dtype).removeprefix('torch.')} on cpu with 1 thread" in str(
        yanma.explain(model)
    )
    assert_same_bits_in_packs_of(9, model, family.heads[name], random_documents(30))


@pytest.mark.usefixtures("quick")
def test_an_encoder_with_distances_is_tried_beyond_its_batch():
    t5 = next(family for family in SEQ2SEQ if family.model_type == "t5")
    model = yanma.unpad(sharpened(build(t5, "T5EncoderModel")), exact="bits")
    known = set(bits._FOUND)
    assert_same_bits_in_packs_of(9, model, t5.heads["T5EncoderModel"], random_documents(30))
    assert set(bits._FOUND) == known, "longer texts need no further trial"


PAIR_HEADS = [(f, n) for f in SEQ2SEQ for n in f.heads if n == generator(f) or n.startswith(("Bart", "T5"))]


@few_heads((f, n) for f, n in PAIR_HEADS if f.heads[n].decodes)
@DTYPES
@pytest.mark.usefixtures("quick")
def test_encoders_with_decoders_keep_their_bits_here(family: Family, name: str, dtype: torch.dtype):
    model = yanma.unpad(sharpened(build(family, name)).to(dtype), exact="bits")
    (found,) = yanma.explain(model).bits
    kinds = [part.partition(" with")[0] for part in found.parts]
    assert "attention" in kinds and "cross-attention" in kinds and found.num_texts == 7
    data, known = pairs(family, name), set(bits._FOUND)
    with torch.no_grad():
        together = ours_by_pair(model, data)
        for index, expected in enumerate(together):
            (alone,) = ours_by_pair(model, data, [index])
            assert all(bits.same_bits(alone[key], expected[key]) for key in expected), f"pair {index}"
    assert set(bits._FOUND) == known, "other pairs need no further trial"


@pytest.mark.usefixtures("quick")
def test_cross_attention_that_depends_on_its_group_is_refused(monkeypatch):
    def grouped(q: Tensor, k: Tensor, *args, **kwargs) -> Tensor:
        return attention(q, k, *args, **kwargs) * (1 + 2e-7 * (len(q) != len(k)))

    monkeypatch.setattr("yanma.models.interface.attention", grouped)
    bart = next(family for family in SEQ2SEQ if family.model_type == "bart")
    with pytest.raises(
        yanma.Unsupported, match=r"cross-attention with 4 heads of 8 .* a document of 1 tokens"
    ):
        yanma.unpad(sharpened(build(bart, "BartModel")), exact="bits")


def broken_when(is_broken: Callable[[str, int], bool]) -> Callable[..., Tensor]:
    """The product, with a last bit more in every row where kernel and number of rows say so."""

    def product(rows: Tensor, weight: Tensor, bias: Tensor | None, gelu: str | None, kernel: str) -> Tensor:
        out = PRODUCT(rows, weight, bias, gelu, kernel)
        return out * (1 + torch.finfo(out.dtype).eps) if is_broken(kernel, len(rows)) else out

    return product


def choose(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Kernels(kernel, kernel, {}, "told by the test")
    monkeypatch.setattr("yanma.models.linear.fastest", lambda dtype, device: choice)


@DTYPES
@pytest.mark.parametrize("rows", [777, 2048])
def test_a_product_whose_rows_depend_on_their_number_is_refused(dtype, rows: int, monkeypatch):
    monkeypatch.setattr(linear, "_product", broken_when(lambda kernel, count: count == rows))
    model = bert().to(dtype)
    with pytest.raises(yanma.Unsupported, match=rf"product 32 x 32 .* among {rows} rows .* leave exact out"):
        yanma.unpad(model, exact="bits")
    assert type(model).__qualname__ == "BertModel" and not yanma.models.is_unpadded(model), "it is as it was"
    assert not hasattr(type(model.pooler.dense), "_yanma_stock") and "_yanma_exact" not in vars(model)
    assert model(torch.tensor([[5, 6]])).last_hidden_state.shape == (1, 2, 32)
    yanma.unpad(model)  # without the promise nothing is tried


def test_thin_products_are_filled_up_to_where_rows_keep_their_bits(monkeypatch):
    choose("onednn", monkeypatch)
    monkeypatch.setattr(linear, "_product", broken_when(lambda kernel, count: count < 40))
    model = yanma.unpad(bert(), exact="bits")
    (found,) = yanma.explain(model).bits
    products = [how for part, how in found.parts.items() if part.startswith("product")]
    assert products and all("of 64 rows or more" in how for how in products)
    assert_same_bits_in_packs_of(9, model, BERT.heads["BertModel"], random_documents(30))
    loose = yanma.unpad(bert())
    with pytest.raises(AssertionError, match="document"):  # the same product without the promise
        assert_same_bits_in_packs_of(9, loose, BERT.heads["BertModel"], random_documents(30))


def test_where_the_faster_kernel_does_not_keep_bits_the_other_is_taken(monkeypatch):
    choose("torch", monkeypatch)
    monkeypatch.setattr(
        linear, "_product", broken_when(lambda kernel, count: kernel == "torch" and count == 512)
    )
    (found,) = yanma.explain(yanma.unpad(bert(), exact="bits")).bits
    products = [how for part, how in found.parts.items() if part.startswith("product")]
    assert products and all(how.startswith("by onednn") for how in products)


def test_attention_that_depends_on_its_group_is_refused(monkeypatch):
    def grouped(q: Tensor, *args, **kwargs) -> Tensor:
        return attention(q, *args, **kwargs) * (1 + 2e-7 * (len(q) > 100))

    monkeypatch.setattr("yanma.models.interface.attention", grouped)
    with pytest.raises(
        yanma.Unsupported, match=r"attention with 4 heads of 8 in float32 .* a document of 1 tokens"
    ):
        yanma.unpad(bert(), exact="bits")


def test_norms_and_activations_that_depend_on_their_company_are_refused(monkeypatch):
    norm = nn.LayerNorm.forward

    def moved(self: nn.LayerNorm, x: Tensor) -> Tensor:
        return norm(self, x) * (1 + 2e-7 * (x.shape[-2] == 256))

    with monkeypatch.context() as patch:
        patch.setattr(nn.LayerNorm, "forward", moved)
        with pytest.raises(yanma.Unsupported, match=r"LayerNorm of 32 in float32 .* among 256 rows"):
            yanma.unpad(bert(), exact="bits")
    monkeypatch.setattr(nn.Tanh, "forward", lambda self, x: x.tanh() + 1e-6 * len(x.flatten()))
    with pytest.raises(yanma.Unsupported, match="Tanh of 32 in float32"):
        yanma.unpad(bert(), exact="bits")


def test_what_is_neither_product_norm_nor_attention_is_caught_by_whole_documents(monkeypatch):
    table = nn.Embedding.forward
    monkeypatch.setattr(nn.Embedding, "forward", lambda self, ids: table(self, ids) + 1e-5 * ids.shape[-1])
    with pytest.raises(yanma.Unsupported, match="the whole gives a document of"):
        yanma.unpad(bert(), exact="bits")


def test_what_was_found_is_kept_for_a_setting_and_another_is_tried_at_its_first_forward(monkeypatch):
    tried: list[str] = []
    find = bits._steady_product

    def counted(name: str, *args) -> bits.Product:
        tried.append(name)
        return find(name, *args)

    monkeypatch.setattr(bits, "_steady_product", counted)
    model, batch = yanma.unpad(bert(), exact="bits"), yanma.PackedBatch.from_sequences([[5, 6, 7]])
    first = len(tried)
    assert first >= 4
    yanma.unpad(bert(), exact="bits")(batch)
    model(batch)
    assert len(tried) == first, "the same sizes in the same setting are known"
    with torch.autocast("cpu", torch.bfloat16):
        model(batch)
    assert len(tried) > first, "autocast is another setting"
    second = len(tried)
    with using_threads(2):
        model(batch)
    assert len(tried) > second, "another number of threads is another setting"
    settings = [str(found.setting) for found in yanma.explain(model).bits]
    assert settings == [
        "float32 on cpu with 1 thread",
        "float32, autocast to bfloat16 on cpu with 1 thread",
        "float32 on cpu with 2 threads",
    ]


def test_a_setting_that_does_not_keep_bits_is_refused_at_its_forward_and_every_time(monkeypatch):
    model, batch = yanma.unpad(bert(), exact="bits"), yanma.PackedBatch.from_sequences([[5, 6, 7]])
    monkeypatch.setattr(
        linear, "_product", broken_when(lambda kernel, count: torch.get_num_threads() == 2 and count == 512)
    )
    with using_threads(2):
        for _ in range(2):
            with pytest.raises(yanma.Unsupported, match="with 2 threads gives a row other bits"):
                model(batch)
    assert model(batch).last_hidden_state.shape == (3, 32)


def test_the_promise_is_asked_for_once_and_goes_with_copies():
    with pytest.raises(ValueError, match="exact is 'bytes'; it is 'bits', or None"):
        yanma.unpad(bert(), exact="bytes")
    model = yanma.unpad(bert(), exact="bits")
    assert yanma.unpad(model, exact="bits") is model
    with pytest.raises(yanma.Unsupported, match="unpadded with another exact"):
        yanma.unpad(model)
    twin = copy.deepcopy(model)
    assert not yanma.explain(twin).bits
    twin(yanma.PackedBatch.from_sequences([[5]]))
    assert len(yanma.explain(twin).bits) == 1
    yanma.restore(model)
    assert not bits.is_exact(model) and "exact in bits" not in str(yanma.explain(yanma.unpad(model)))


def test_trying_leaves_mode_random_numbers_and_gradients_alone():
    model, state = bert().train(), torch.get_rng_state()
    yanma.unpad(model, exact="bits")
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.gpu
def test_on_a_gpu_the_promise_is_kept_or_refused():
    model = bert().cuda()
    try:
        yanma.unpad(model, exact="bits")
    except yanma.Unsupported as error:
        assert "exact='bits'" in str(error)
        return
    documents = [torch.tensor([5 + i] * (1 + 3 * i), device="cuda") for i in range(9)]
    together = model(yanma.PackedBatch.from_sequences(documents)).last_hidden_state.split(
        [len(d) for d in documents]
    )
    for document, expected in zip(documents, together, strict=True):
        alone = model(yanma.PackedBatch.from_sequences([document])).last_hidden_state
        assert torch.equal(alone, expected)
