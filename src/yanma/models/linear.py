"""Linear layers by the faster of torch's two CPU kernels, as measured on this machine, and with batch-invariant rows.

torch sends fp32 `F.linear` to MKL, which on some chips runs at half of what oneDNN, inside the same torch, reaches.
Both are exact to the same error. A row's result must not depend on how many rows share the product: kernels change
their order of summation for very few rows, so thinner inputs are widened to `MIN_ROWS`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..autocast import as_cast
from .conversions import REFUSES_QUANTIZATION
from .kernels import fastest, has_onednn
from .layout import running

MIN_ROWS = 16
NARROW = 16
"""Layers with fewer outputs always use oneDNN where it is there: torch's own kernel changes its order of summation
with the number of rows for 1 output in fp32, and in bf16 up to 4096 multiplications in all."""


class Linear(nn.Linear):
    """`nn.Linear` with the same parameters and numbers; `unpad` gives this class to a model's linear layers."""

    _yanma_stock = nn.Linear
    qconfig = REFUSES_QUANTIZATION

    def forward(self, input: Tensor) -> Tensor:
        if running() is None:  # a part called by itself, or a call through the stock forward: as stock
            return super().forward(input)
        return linear(input, self.weight, self.bias)


def is_plain(module: nn.Module) -> bool:
    """Whether `Linear` can take its place: a weight of another kind, such as torchao's, has a product of its own."""
    return type(module) is nn.Linear and type(module.weight) is nn.Parameter


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: str | None = None) -> Tensor:
    """x (..., I) times weight (O, I) transposed, plus bias (O,): (..., O).

    `gelu` is `none` (erf) or `tanh`, torch's names of the two approximations; it is fused, and has no gradient.
    """
    x, weight, bias = as_cast(x), as_cast(weight), None if bias is None else as_cast(bias)
    rows = x.reshape(-1, x.shape[-1])
    num_rows = rows.shape[0]
    kernel, least_rows = _way(rows, weight, bias, gelu)
    if num_rows < least_rows:
        rows = F.pad(rows, (0, 0, 0, least_rows - num_rows))
    out = _product(rows, weight, bias, gelu, kernel)
    return out[:num_rows].view(*x.shape[:-1], weight.shape[0])


def product(rows: Tensor, weight: Tensor) -> Tensor:
    """rows (R, I) times weight (O, I) transposed: (R, O), where no gradient is asked for."""
    return _product(rows, weight, None, None, fastest(rows.dtype, rows.device).forward)


def needs_gradient(x: Tensor, weight: Tensor) -> bool:
    """Whether autograd will ask for this product's gradient."""
    return torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)


def _way(rows: Tensor, weight: Tensor, bias: Tensor | None, gelu: str | None) -> tuple[str, int]:
    """The kernel of a product, and the number up to which its rows are filled."""
    is_there = has_onednn(rows.dtype, rows.device)
    kernel = "onednn" if weight.shape[0] < NARROW and is_there else fastest(rows.dtype, rows.device).forward
    layout = running()
    if layout is None or layout.bits is None:
        return kernel, MIN_ROWS
    kernels = dict.fromkeys((kernel, "onednn" if is_there else "torch", "torch"))  # the fastest first
    ways = {
        kernel: lambda rows, kernel=kernel: _product(rows, weight, bias, gelu, kernel) for kernel in kernels
    }
    outputs, inputs = weight.shape
    key = weight.stride(), bias is None
    name = f"product {inputs} x {outputs}" + ("" if gelu is None else " with gelu")
    found = layout.bits.product(name, key, ways, rows, flop=2 * inputs * outputs)
    return found.kernel, found.least_rows


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None, gelu: str | None, kernel: str) -> Tensor:
    if kernel == "torch":
        out = F.linear(rows, weight, bias)
        return out if gelu is None else F.gelu(out, approximate=gelu)
    if needs_gradient(rows, weight) or (bias is not None and bias.requires_grad and torch.is_grad_enabled()):
        return _OneDnnLinear.apply(rows, weight, bias)  # type: ignore[no-any-return, no-untyped-call]
    return onednn(rows, weight, bias, gelu)


def onednn(rows: Tensor, weight: Tensor, bias: Tensor | None, gelu: str | None = None) -> Tensor:
    """One call of oneDNN's product inside torch, with GELU fused where named."""
    kind, algorithm = ("none", "") if gelu is None else ("gelu", gelu)
    out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, kind, [], algorithm)
    return out


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return onednn(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        wants_rows, wants_weight, wants_bias = ctx.needs_input_grad
        grad = grad.contiguous()
        grad_rows = onednn(grad, weight.t(), None) if wants_rows else None
        grad_weight = weight_gradient(grad, rows) if wants_weight else None
        return grad_rows, grad_weight, grad.sum(0) if wants_bias else None


def weight_gradient(grad: Tensor, rows: Tensor) -> Tensor:
    """grad (R, O) transposed times rows (R, I)."""
    if fastest(rows.dtype, rows.device).weight_gradient == "torch":
        return grad.t() @ rows
    return onednn(grad.t(), rows.t(), None)
