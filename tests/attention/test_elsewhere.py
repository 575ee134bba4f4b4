"""The same expression in plain torch: scaled_dot_product_attention and flex_attention give what attention gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from attention.packs import MASKS, case, error
from yanma import attention
from yanma.masks import additive, block_mask

LENGTHS = [(5, 1, 7, 3), (127, 128, 129)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_torchs_attention_with_the_dense_mask_is_attention(mask: str, lengths):
    made = case(mask, lengths, (2, 2), torch.float32, 0.0)
    q, k, v = (x.transpose(0, 1)[None] for x in made.inputs[:3])
    seen = made.mask.dense(sum(lengths))
    got = scaled_dot_product_attention(q, k, v, attn_mask=seen)[0].transpose(0, 1)
    ours = attention(*made.inputs[:3], made.mask)
    budget = made.budgets("segments")[0]
    assert error(got, made.exact[0]) <= budget and error(ours, made.exact[0]) <= budget
    if bool(seen.any(1).all()):
        added = additive(made.mask, torch.float32, sum(lengths))
        again = scaled_dot_product_attention(q, k, v, attn_mask=added)[0].transpose(0, 1)
        assert error(again, made.exact[0]) <= budget


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_flex_attention_with_the_block_mask_is_attention(mask: str, lengths):
    made = case(mask, lengths, (2, 2), torch.float32, 0.0)
    q, k, v = (x.transpose(0, 1)[None] for x in made.inputs[:3])
    blocks = block_mask(made.mask, sum(lengths))
    got = flex_attention(q, k, v, block_mask=blocks)[0].transpose(0, 1)
    assert error(got, made.exact[0]) <= made.budgets("reference")[0]
