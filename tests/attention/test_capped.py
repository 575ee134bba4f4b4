"""Soft-capped attention: against the formula in float64, forward and backward, alone and in company."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from yanma.attention.capped import soft_capped_attention
from yanma.masks import Mask, causal, documents, window

LENGTHS = (127, 1, 128, 129, 5)
MASKS = {
    "documents": documents(LENGTHS),
    "causal": documents(LENGTHS) & causal(),
    "window": documents(LENGTHS) & window(20, 0),
    "neighbours, not itself": documents(LENGTHS) & (window(1, 1) - window(0, 0)),
}


def inputs(dtype: torch.dtype) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    tokens = sum(LENGTHS)
    shapes = (tokens, 4, 16), (tokens, 2, 16), (tokens, 2, 16), (tokens, 4, 16)
    return [(2 * torch.randn(shape, generator=draw)).to(dtype) for shape in shapes]


def by_the_formula(q: Tensor, k: Tensor, v: Tensor, mask: Mask, cap: float) -> Tensor:
    k, v = (x.repeat_interleave(2, 1) for x in (k, v))
    scores = cap * torch.tanh(torch.einsum("qhd,khd->hqk", q, k) / 4 / cap)
    weights = scores.exp() * mask.dense(len(q))  # no score exceeds the cap
    return torch.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdim=True).clamp(min=1e-300), v)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("mask", MASKS)
def test_output_and_gradients_are_the_formulas(mask: str, dtype: torch.dtype):
    *tensors, grad = inputs(dtype)
    leaves = [x.clone().requires_grad_() for x in tensors]
    exact = [x.double().requires_grad_() for x in tensors]
    out = soft_capped_attention(*leaves, MASKS[mask], 1.5)
    expected = by_the_formula(*exact, MASKS[mask], 1.5)
    found = [out, *torch.autograd.grad(out, leaves, grad)]
    truth = [expected, *torch.autograd.grad(expected, exact, grad.double())]
    bound = 1e-12 if dtype == torch.float64 else 1e-5
    for value, right in zip(found, truth, strict=True):
        assert bool(right.isfinite().all()) and (value.double() - right).norm() <= bound * right.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_documents_bits_are_its_own_in_any_company(dtype: torch.dtype):
    q, k, v, _ = inputs(dtype)
    together = soft_capped_attention(q, k, v, MASKS["causal"], 1.5).split(LENGTHS)
    for index, parts in enumerate(zip(*(x.split(LENGTHS) for x in (q, k, v)), strict=True)):
        alone = soft_capped_attention(*parts, documents(LENGTHS[index : index + 1]) & causal(), 1.5)
        assert torch.equal(alone, together[index]), f"document {index}"
