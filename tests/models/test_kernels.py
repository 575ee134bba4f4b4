"""Linear layers by either kernel, and how the choice between them is made and kept."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict

import pytest
import torch
from torch.nn import functional as F

import yanma
from models.builders import FAMILIES, SMALL, build, gradient, head_named, rectangle
from models.test_exactness import sharpened
from yanma.models import kernels
from yanma.models.kernels import Kernels, fastest
from yanma.models.linear import Linear, linear
from yanma.models.modules import VocabularyLinear

CPU = torch.device("cpu")
BERT = FAMILIES[0]
TOKENS = "BertForTokenClassification"


@pytest.fixture(params=["torch", "onednn"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    choice = Kernels(request.param, request.param, {}, "told by the test")
    monkeypatch.setattr("yanma.models.linear.fastest", lambda dtype, device: choice)
    return request.param


@pytest.fixture
def empty_cache(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """No choice was made yet, and measuring takes no time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = []

    def measure(dtype: torch.dtype) -> Kernels:
        measured.append(dtype)
        return Kernels("onednn", "torch", {"forward onednn": 2.0}, "measured")

    monkeypatch.setattr(kernels, "_measure", measure)
    kernels.chosen.cache_clear()
    yield measured
    kernels.chosen.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (5,), (2, 9), (1, 40), (0,)])
@pytest.mark.parametrize("outputs", [1, 24])
@pytest.mark.parametrize("has_bias", [True, False])
def test_products_and_gradients_are_as_exact_as_torchs(kernel: str, dtype, shape, outputs, has_bias):
    draw = torch.Generator().manual_seed(0)
    shapes = [(*shape, 48), (outputs, 48), (outputs,), (*shape, outputs)]
    x, weight, bias, grad = (torch.randn(s, generator=draw).to(dtype) for s in shapes)
    inputs = [x, weight, bias] if has_bias else [x, weight]

    def run(function, to):
        leaves = [tensor.to(to, copy=True).requires_grad_() for tensor in inputs]
        out = function(*leaves, *([] if has_bias else [None]))
        return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(to))]

    for exact, ours, theirs in zip(
        run(F.linear, torch.float64), run(linear, dtype), run(F.linear, dtype), strict=True
    ):
        assert ours.shape == theirs.shape and ours.dtype == dtype
        if exact.numel():
            step = torch.finfo(dtype).eps * exact.abs().max()
            assert (ours.double() - exact).abs().max() <= 2 * (theirs.double() - exact).abs().max() + step


@pytest.mark.parametrize("wanted", ["x", "weight", "bias"])
def test_a_gradient_is_the_same_whoever_else_wants_one(kernel: str, wanted: str):
    draw = torch.Generator().manual_seed(0)
    tensors = {"x": (20, 32), "weight": (24, 32), "bias": (24,)}
    values = {name: torch.randn(shape, generator=draw) for name, shape in tensors.items()}
    everyone = {name: value.clone().requires_grad_() for name, value in values.items()}
    linear(**everyone).square().sum().backward()
    alone = {name: value.clone().requires_grad_(name == wanted) for name, value in values.items()}
    linear(**alone).square().sum().backward()
    assert torch.equal(alone[wanted].grad, everyone[wanted].grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_after_a_product_is_gelu(kernel: str, approximate: str, dtype: torch.dtype):
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(s, generator=draw).to(dtype) for s in [(40, 48), (24, 48), (24,)])
    exact = F.gelu(F.linear(x.double(), weight.double(), bias.double()), approximate=approximate)
    theirs = F.gelu(F.linear(x, weight, bias), approximate=approximate)
    ours = linear(x, weight, bias, approximate)
    step = torch.finfo(dtype).eps * exact.abs().max()
    assert (ours.double() - exact).abs().max() <= 2 * (theirs.double() - exact).abs().max() + step


@pytest.mark.parametrize(
    "activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu"]
)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_every_activation_is_the_stock_models_with_and_without_gradients(
    kernel: str, family, activation: str
):
    name = head_named(family, "ForTokenClassification")
    setting = {SMALL[family.model_type].activation: activation}
    stock, data = sharpened(build(family, name, **setting)), rectangle(family, name)
    ours = yanma.unpad(copy.deepcopy(stock))
    (output,) = family.heads[name].token_outputs
    expected = stock(**data.kwargs)[output][data.valid]
    torch.testing.assert_close(ours(**data.kwargs)[output][data.valid], expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(ours(**data.kwargs)[output][data.valid], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("register", ["forward_hook", "forward_pre_hook", "global"])
@pytest.mark.parametrize("part", ["dense", "activation"])
@pytest.mark.parametrize(
    "family", [BERT, *(f for f in FAMILIES if f.model_type == "distilbert")], ids=["bert", "distilbert"]
)
def test_hooks_hear_of_a_layer_whose_activation_is_fused_elsewhere(family, part: str, register: str):
    name = head_named(family, "ForTokenClassification")
    model, data = yanma.unpad(build(family, name)), rectangle(family, name)
    names = {"dense": ("lin1", "intermediate.dense"), "activation": ("activation", "intermediate_act_fn")}[
        part
    ]
    layers = [module for path, module in model.named_modules() if path.endswith(names)]
    with torch.no_grad():
        expected = model(**data.kwargs).logits
        heard = []

        def hook(module: torch.nn.Module, *_: object) -> None:
            heard.append(module)

        if register == "global":
            handles = [torch.nn.modules.module.register_module_forward_hook(hook)]
        else:
            handles = [getattr(layer, f"register_{register}")(hook) for layer in layers]
        try:
            torch.testing.assert_close(model(**data.kwargs).logits, expected, rtol=1e-5, atol=1e-6)
        finally:
            for handle in handles:
                handle.remove()
    assert layers and all(layer in heard for layer in layers)


def test_training_under_autocast_gives_the_stock_gradients_to_bfloat16(kernel: str):
    stock, data = sharpened(build(BERT, TOKENS)).train(), rectangle(BERT, TOKENS)
    exact, ours = copy.deepcopy(stock).double(), yanma.unpad(copy.deepcopy(stock))
    exact(**data.kwargs).loss.backward()
    for model in (stock, ours):
        with torch.autocast("cpu", torch.bfloat16):
            output = model(**data.kwargs)
        output.loss.backward()
        assert output.logits.dtype == torch.bfloat16 and gradient(model).dtype == torch.float32
    truth = gradient(exact)
    errors = [(gradient(model).double() - truth).norm() / truth.norm() for model in (ours, stock)]
    assert errors[0] <= 2 * errors[1] and errors[1] > 0
    expected = exact(**data.kwargs).logits[data.valid]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = [model(**data.kwargs).logits[data.valid] for model in (ours, stock)]
    errors = [(logits.double() - expected).norm() for logits in found]
    assert found[0].dtype == torch.bfloat16 and errors[0] <= 2 * errors[1] and errors[1] > 0


def test_frozen_parts_get_no_gradient(kernel: str):
    stock, data = sharpened(build(BERT, TOKENS)).train(), rectangle(BERT, TOKENS)
    for parameter in stock.bert.parameters():
        parameter.requires_grad_(False)
    ours = yanma.unpad(copy.deepcopy(stock))
    for model in (stock, ours):
        model(**data.kwargs).loss.backward()
    torch.testing.assert_close(
        ours.classifier.weight.grad, stock.classifier.weight.grad, rtol=1e-5, atol=1e-6
    )
    assert all(parameter.grad is None for parameter in ours.bert.parameters())


def test_a_linear_layer_keeps_its_class_where_it_may():
    model = yanma.unpad(build(BERT, "BertForMaskedLM"))
    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    *others, last = linears
    assert len(others) > 10 and all(type(module) is Linear for module in others)
    assert last is model.get_output_embeddings() and type(last) is VocabularyLinear


def test_the_choice_is_measured_once_and_kept(empty_cache):
    first = fastest(torch.float32, CPU)
    kernels.chosen.cache_clear()  # as another process would start
    assert fastest(torch.float32, CPU) == first and empty_cache == [torch.float32]
    assert first.measured[:2] == "20", "the file says when"
    assert fastest(torch.bfloat16, CPU).forward == first.forward and empty_cache == [
        torch.float32,
        torch.bfloat16,
    ]
    assert json.loads(kernels.cache_file(torch.float32).read_text()) == asdict(first)
    assert [path.suffix for path in kernels.cache_file(torch.float32).parent.iterdir()] == [".json"] * 2


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b'{"forward": "torch"}', b"\xff\xfe", b'{"extra": 1}']
)
def test_a_choice_that_cannot_be_read_is_measured_again(empty_cache, content: bytes):
    path = kernels.cache_file(torch.float32)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert fastest(torch.float32, CPU).reason == "measured" and empty_cache == [torch.float32]
    kernels.chosen.cache_clear()
    assert fastest(torch.float32, CPU).reason == "measured" and empty_cache == [torch.float32]


def test_of_those_who_measure_at_once_the_first_to_write_decides(empty_cache, monkeypatch):
    """While this process measures, another one writes what it has found."""
    theirs = Kernels("torch", "torch", {"forward torch": 3.0}, "theirs", "2026-01-01 00:00")

    def measure_slowly(dtype: torch.dtype) -> Kernels:
        kernels._keep(theirs, kernels.cache_file(dtype))
        return Kernels("onednn", "torch", {}, "mine")

    monkeypatch.setattr(kernels, "_measure", measure_slowly)
    assert fastest(torch.float32, CPU) == theirs
    assert json.loads(kernels.cache_file(torch.float32).read_text()) == asdict(theirs)
    assert len(list(kernels.cache_file(torch.float32).parent.iterdir())) == 1, "nothing is left beside it"


def test_a_file_system_without_links_keeps_the_choice_too(empty_cache, monkeypatch):
    def no_links(*_: object) -> None:
        raise OSError("links are not supported")

    monkeypatch.setattr("os.link", no_links)
    first = fastest(torch.float32, CPU)
    kernels.chosen.cache_clear()
    assert fastest(torch.float32, CPU) == first and len(empty_cache) == 1


def test_another_number_of_threads_is_another_choice_in_the_same_process(empty_cache, monkeypatch):
    for threads in (1, 2, 1):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        fastest(torch.float32, CPU)
        assert f"-{threads}t-" in kernels.cache_file(torch.float32).name
    assert len(empty_cache) == 2, "once with one thread and once with two"


@pytest.mark.parametrize(
    ("torch_speed", "onednn_speed", "forward", "is_tie"),
    [
        (100, 98, "onednn", True),
        (98, 100, "onednn", True),
        (100, 96, "torch", False),
        (50, 99, "onednn", False),
    ],
)
def test_of_two_alike_the_one_whose_rows_do_not_depend_on_the_batch(
    torch_speed, onednn_speed, forward, is_tie
):
    gradient = {"gradient torch": 1.0, "gradient onednn": 2.0}
    choice = kernels._decided({"forward torch": torch_speed, "forward onednn": onednn_speed, **gradient})
    assert choice.forward == choice.weight_gradient == forward
    assert ("within 3 %" in choice.reason) == is_tie


def test_a_home_that_cannot_be_written_to_is_no_reason_to_fail(empty_cache, tmp_path, monkeypatch):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_the_way))
    assert fastest(torch.float32, CPU).reason == "measured"
    kernels.chosen.cache_clear()
    assert fastest(torch.float32, CPU).reason == "measured" and len(empty_cache) == 2


def test_the_choice_is_kept_apart_by_dtype_threads_and_torch(monkeypatch):
    names = {kernels.cache_file(dtype).name for dtype in (torch.float32, torch.bfloat16)}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    names.add(kernels.cache_file(torch.float32).name)
    monkeypatch.setattr(torch, "__version__", "9.9")
    names.add(kernels.cache_file(torch.float32).name)
    assert len(names) == 4


def test_other_dtypes_devices_and_builds_use_torchs_own_kernel(empty_cache, monkeypatch):
    for dtype, device, why in [
        (torch.float64, CPU, "oneDNN is used for float32 and bfloat16, and this is torch.float64"),
        (torch.float32, torch.device("meta"), "the choice is between CPU kernels, and this is meta"),
    ]:
        choice = fastest(dtype, device)
        assert (choice.forward, choice.weight_gradient, choice.reason) == ("torch", "torch", why)
    monkeypatch.setattr(kernels, "has_onednn", lambda dtype, device: False)
    assert fastest(torch.float32, CPU).reason == "this torch has no oneDNN product"
    assert not empty_cache, "nothing was measured where there is nothing to choose"


def test_a_real_measurement_names_both_speeds(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels, "ROWS", 64)
    kernels.chosen.cache_clear()
    choice = fastest(torch.float32, CPU)
    kernels.chosen.cache_clear()
    assert choice.forward in ("torch", "onednn") and choice.weight_gradient in ("torch", "onednn")
    assert set(choice.gflops) == {"forward torch", "forward onednn", "gradient torch", "gradient onednn"}
    assert all(speed > 0 for speed in choice.gflops.values())
    assert "forward" in str(choice) and "GFLOP/s" in str(choice)
