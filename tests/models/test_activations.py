"""Activations of an unpadded model: a token's numbers have the same bits whatever tokens stand beside it."""

import copy

import pytest
import torch
from torch import nn
from transformers.activations import ACT2CLS, ACT2FN

import yanma
from yanma import PackedBatch
from yanma.models.activations import has_one_formula, row_by_row, sigmoid, softplus
from yanma.models.classes import mix
from yanma.models.layout import Layout, own_mask, run_with
from yanma.models.swaps import BY_CLASS

OF_TORCH = [
    nn.Sigmoid,
    nn.Mish,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.Softplus,
    nn.SiLU,
    nn.GELU,
    nn.Tanh,
    nn.LogSigmoid,
]
ALL = {name: lambda name=name: ACT2FN[name] for name in ACT2CLS} | {kind.__name__: kind for kind in OF_TORCH}
ALL |= {
    "ELU(0.5)": lambda: nn.ELU(0.5),
    "CELU(2)": lambda: nn.CELU(2.0),
    "Softplus(2)": lambda: nn.Softplus(2.0, 5),
}
EACH = pytest.mark.parametrize("name", ALL)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
LAYOUT = Layout((3,), own_mask((3,), False), False, False, 0, (0,), torch.device("cpu"))


def pair(name: str, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """transformers' or torch's own, and what `unpad` makes of it."""
    stock = ALL[name]().to(dtype).eval()
    ours = copy.deepcopy(stock)
    if type(ours).__name__ in BY_CLASS:
        mix(ours, BY_CLASS[type(ours).__name__])
    return stock, ours


def drawn(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return (3 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))).to(dtype)


@EACH
@DTYPES
@torch.no_grad()
def test_a_token_keeps_its_bits_in_any_company(name: str, dtype: torch.dtype):
    stock, ours = pair(name, dtype)
    whole = drawn(500, 74, dtype=dtype)
    with run_with(LAYOUT):
        for x in (whole[:, :37].contiguous(), whole[:, :37]):  # whole rows, and halves as of a gated layer
            together = ours(x)
            for begin, end in ((0, 1), (1, 3), (3, 10), (10, 27), (27, 500)):
                assert torch.equal(ours(x[begin:end].clone()), together[begin:end])
            exact = copy.deepcopy(stock).double()(x.double())
            step = torch.finfo(dtype).eps * exact.abs() + torch.finfo(torch.float32).eps
            allowed = 2 * (stock(x).double() - exact).abs() + 4 * step + 5e-7  # oneDNN's gelu is that far off
            assert bool(((together.double() - exact).abs() <= allowed).all())


@EACH
def test_its_gradient_is_the_stock_ones(name: str):
    x = torch.cat([drawn(999, dtype=torch.float32), torch.tensor([-200.0, -0.0, 0.0, 90.0, 200.0])])
    found = []
    for module in pair(name, torch.float32):
        own = x.clone().requires_grad_()
        with run_with(LAYOUT):
            module(own).backward(torch.ones_like(x))
        found.append(own.grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5, equal_nan=True)


@DTYPES
@pytest.mark.parametrize("name", ["mish", "sigmoid", "sqrtsoftplus"])
def test_a_model_with_a_rare_activation_keeps_its_bits(name: str, dtype: torch.dtype):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=50,
        hidden_act=name,
    )  # fmt: skip
    model = yanma.unpad(BertModel(config).eval().to(dtype))
    draw = torch.Generator().manual_seed(0)
    texts = [torch.randint(5, 32, (n,), generator=draw).tolist() for n in (1, 2, 3, 5, 9, 17, 30, 33, 50, 99)]
    batch = PackedBatch.from_sequences(texts)
    with torch.inference_mode():
        for text, together in zip(texts, batch.unpack(model(batch).last_hidden_state), strict=True):
            assert torch.equal(model(PackedBatch.from_sequences([text])).last_hidden_state, together)


@pytest.mark.parametrize("function", [sigmoid, softplus])
def test_formulas_do_not_overflow(function):
    found = function(torch.tensor([-1e30, -200.0, 200.0, 1e30]))
    assert bool(found[:2].eq(0).all()) and bool(torch.isfinite(found).all())


@pytest.mark.parametrize("shape", [(0, 3), (7,), (7, 1), (7, 3), (2, 3, 4)])
def test_row_by_row_is_the_function_itself(shape: tuple[int, ...]):
    x = drawn(*shape, dtype=torch.float32)
    torch.testing.assert_close(row_by_row(torch.sigmoid, x), torch.sigmoid(x))


def test_functions_that_drop_the_last_size_may_do_so():
    x = drawn(5, 3, dtype=torch.float32)
    assert torch.equal(row_by_row(lambda scores: scores[:, 1], x), x[:, 1])
    assert torch.equal(row_by_row(lambda scores: scores.sum(), x[:, :1]), x[:, 0])
    assert not has_one_formula(torch.sigmoid) and has_one_formula(nn.Tanh())
