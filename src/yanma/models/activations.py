"""Activations with bits that do not depend on where in a tensor a number stands.

torch computes SiLU, sigmoids and the tanh form of GELU by two formulas: one for whole vectors of a chip's registers,
one for what is left over at the end of each thread's share. Which tokens fall there depends on the company. The
functions here are made of operations that have one formula.
"""

from __future__ import annotations

import math
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
        return _GeluTanh.apply(input)  # type: ignore[no-any-return, no-untyped-call]


class SteadyQuickGelu(nn.Module):
    """transformers' `QuickGELUActivation` of a model that runs unpadded."""

    def forward(self, input: Tensor) -> Tensor:
        if running() is None:
            out: Tensor = super().forward(input)
            return out
        return quick_gelu(input)


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
