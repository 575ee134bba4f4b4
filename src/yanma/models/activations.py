"""Activations with bits that do not depend on where in a tensor a number stands.

torch computes SiLU, sigmoids, the tanh form of GELU and some others by two formulas: one for whole vectors of a chip's
registers, one for what is left over at the end of each thread's share. Which tokens fall there depends on the company.
The functions here are made of operations that have one formula, such as exp, expm1, log1p and tanh.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .layout import running


class SteadySilu(nn.Module):
    """`nn.SiLU` of a model that runs unpadded."""

    def forward(self, input: Tensor) -> Tensor:
        if running() is None:
            out: Tensor = super().forward(input)
            return out
        if not (torch.is_grad_enabled() and input.requires_grad):
            return silu(input)
        return _Silu.apply(input)  # type: ignore[no-any-return, no-untyped-call]


class SteadyGelu(nn.Module):
    """transformers' `GELUActivation`: torch has another formula for tensors whose rows lie apart, as halves do."""

    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = super().forward(input.contiguous())
        return out


class SteadyGeluTanh(nn.Module):
    """transformers' `GELUTanh` of a model that runs unpadded."""

    def forward(self, input: Tensor) -> Tensor:
        if running() is None:
            out: Tensor = super().forward(input)
            return out
        if not (torch.is_grad_enabled() and input.requires_grad):
            return gelu_tanh(input)
        return _GeluTanh.apply(input)  # type: ignore[no-any-return, no-untyped-call]


class SteadyQuickGelu(nn.Module):
    """transformers' `QuickGELUActivation` of a model that runs unpadded."""

    def forward(self, input: Tensor) -> Tensor:
        if running() is None:
            out: Tensor = super().forward(input)
            return out
        return quick_gelu(input)


class SteadyByFormula(nn.Module):
    """A rarer activation of a model that runs unpadded, by its row of `_FORMULAS`; its gradient is the stock one's."""

    _yanma_stock: type[nn.Module]

    def forward(self, input: Tensor) -> Tensor:
        stock: Callable[[Tensor], Tensor] = super().forward
        if running() is None:
            return stock(input)
        formula = _FORMULAS[self._yanma_stock.__name__]
        return _ByFormula.apply(input, lambda x: formula(self, x), stock)  # type: ignore[no-any-return, no-untyped-call]


class RowByRow(nn.Module):
    """An activation behind a model, where no gradient is asked for: of one vector at a time, as each text has one."""

    def forward(self, input: Tensor) -> Tensor:
        stock: Callable[[Tensor], Tensor] = super().forward
        return stock(input) if torch.is_grad_enabled() else row_by_row(stock, input)


def row_by_row(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What `function` gives for each row of x (..., C), or for each number of x (R,), by itself: the bits of one alone.

    >>> row_by_row(torch.sigmoid, torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """
    rows = x.reshape(-1, x.shape[-1]) if x.dim() > 1 else x
    if not len(rows):
        return function(x)
    found = torch.cat([torch.atleast_1d(function(row)) for row in rows.split(1)])
    return found.view(*x.shape[:-1], *found.shape[1:]) if x.dim() > 2 else found


def has_one_formula(function: object) -> bool:
    """Whether a function of torch's is known to give a number the same bits at any place."""
    return type(function).__name__ in _ONE_FORMULA


_ONE_FORMULA = frozenset(
    "Identity ReLU ReLU6 LeakyReLU PReLU Tanh Hardtanh Hardsigmoid Hardswish Softsign".split()
)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), in float32 or float64.

    >>> sigmoid(torch.tensor([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    wide = _wide(x)
    return wide.neg().exp_().add_(1).reciprocal_().to(x.dtype)


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, or x where beta x is above the threshold.

    >>> softplus(torch.tensor([-1000.0, 1000.0])).tolist()
    [0.0, 1000.0]
    """
    scaled = x * beta
    return torch.where(scaled > threshold, x, scaled.exp().log1p_() / beta)


def _elu(x: Tensor, alpha: float, scale: float = 1.0, scale_of_input: float = 1.0) -> Tensor:
    return torch.where(x > 0, x * scale, torch.expm1(x * scale_of_input) * (alpha * scale))


_SELU = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946

_FORMULAS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "Sigmoid": lambda own, x: sigmoid(x),
    "Mish": lambda own, x: x * softplus(x).tanh_(),
    "MishActivation": lambda own, x: x * softplus(x).tanh_(),
    "Softplus": lambda own, x: softplus(x, own.beta, own.threshold),
    "SqrtSoftplusActivation": lambda own, x: softplus(x).sqrt_(),
    "ELU": lambda own, x: _elu(x, own.alpha),
    "SELU": lambda own, x: _elu(x, *_SELU),
    "CELU": lambda own, x: _elu(x, own.alpha, 1.0, 1 / own.alpha),
}
"""Each of (the module, numbers in float32 or float64)."""
BY_FORMULA = tuple(_FORMULAS)
"""Names of the classes that have a formula here."""


def silu(x: Tensor) -> Tensor:
    """x / (1 + exp(-x)), in float32 or float64.

    >>> silu(torch.tensor([-1000.0, 0.0, 1000.0])).tolist()
    [-0.0, 0.0, 1000.0]
    """
    wide = _wide(x)
    return (wide / wide.neg().exp_().add_(1)).to(x.dtype)


def gelu_tanh(x: Tensor) -> Tensor:
    """x / 2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), in float32 or float64.

    >>> gelu_tanh(torch.tensor([-1000.0, 0.0, 1000.0])).tolist()
    [-0.0, 0.0, 1000.0]
    """
    wide = _wide(x)
    inner = (wide * wide).mul_(0.044715).add_(1).mul_(wide).mul_(math.sqrt(2 / math.pi))
    return inner.tanh_().add_(1).mul_(wide).mul_(0.5).to(x.dtype)


def quick_gelu(x: Tensor) -> Tensor:
    """x / (1 + exp(-1.702 x)), CLIP's GELU, in float32 or float64.

    >>> quick_gelu(torch.tensor([-1000.0, 0.0, 1000.0])).tolist()
    [-0.0, 0.0, 1000.0]
    """
    scaled: Tensor = _Silu.apply(1.702 * _wide(x))  # type: ignore[no-untyped-call]
    return (scaled / 1.702).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class _ByFormula(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, formula: Callable[[Tensor], Tensor], stock: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.stock = stock
        return formula(_wide(x)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (found,) = torch.autograd.grad(ctx.stock(x), x, grad)
        return found, None, None


class _Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return silu(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        out: Tensor = torch.ops.aten.silu_backward(grad, *ctx.saved_tensors)
        return out


class _GeluTanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return gelu_tanh(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        out: Tensor = torch.ops.aten.gelu_backward(grad, *ctx.saved_tensors, approximate="tanh")
        return out
