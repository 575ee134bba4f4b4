"""Under autocast attention takes what torch's scaled_dot_product_attention takes, and gives the same dtype."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from attention.packs import error, tensors
from yanma import attention
from yanma.attention import AdaptiveSpan, adaptive_attention, explain, topk_keys
from yanma.attention.biased import attend_biased
from yanma.attention.capped import soft_capped_attention
from yanma.masks import causal, documents, full

LENGTHS = (5, 1, 7, 3)
WAYS = {
    "attention": lambda q, k, v: attention(q, k, v, documents(LENGTHS) & causal()),
    "sdpa": lambda q, k, v: attention(q, k, v, documents(LENGTHS) & causal(), backend="sdpa"),
    "reference": lambda q, k, v: attention(q, k, v, documents(LENGTHS) & causal(), backend="reference"),
    "adaptive": lambda q, k, v: adaptive_attention(q, k, v, documents(LENGTHS), topk_keys(2)),
    "span": lambda q, k, v: AdaptiveSpan(2, 9)(q, k, v, documents(LENGTHS)),
    "capped": lambda q, k, v: soft_capped_attention(q, k, v, documents(LENGTHS), 2.0),
    "biased": lambda q, k, v: attend_biased(q, k, v, LENGTHS, lambda q, k: q.new_zeros(1), 0.5),
}


@pytest.mark.parametrize("way", WAYS)
def test_float32_beside_bfloat16_is_cast_and_gradients_have_the_dtype_of_what_was_given(way: str):
    """As rotary embeddings leave it: queries and keys in float32, values as a linear layer gives them."""
    q, k, v, grad = tensors(16, 16, (2, 2))
    v = v.bfloat16()
    exact = WAYS[way](*(x.bfloat16().float() for x in (q, k, v)))
    given = [x.requires_grad_() for x in (q, k, v)]
    with torch.autocast("cpu", torch.bfloat16):
        out = WAYS[way](*given)
        stock = scaled_dot_product_attention(*(x.transpose(0, 1)[None] for x in given))
    assert out.dtype == stock.dtype == torch.bfloat16
    assert error(out.float(), exact) < 2e-2
    out.backward(grad.bfloat16())
    assert [x.grad.dtype for x in given] == [torch.float32, torch.float32, torch.bfloat16]
    assert all(x.grad.abs().sum() > 0 for x in given)


def test_float64_is_left_as_it_is_and_other_devices_than_autocasts_too():
    q, k, v, _ = tensors(16, 16, (2, 2), torch.float64)
    exact = attention(q, k, v, full())
    with torch.autocast("cpu", torch.bfloat16):
        found = attention(q, k, v, full())
    assert found.dtype == torch.float64 and torch.equal(found, exact)
    with torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_available()):
        assert attention(*(x.float() for x in (q, k, v)), full()).dtype == torch.float32


def test_the_explanation_is_of_what_would_be_computed():
    q, k, v, _ = tensors(16, 16, (2, 2))
    with torch.autocast("cpu", torch.bfloat16):
        said = explain(q, k, v.bfloat16(), full())
    assert said.backend == explain(q.bfloat16(), k.bfloat16(), v.bfloat16(), full()).backend
