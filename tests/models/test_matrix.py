"""Every family with every head, in eval and in training without dropout, in float32 and in bfloat16."""

from __future__ import annotations

import pytest
import torch

import yanma
from models.builders import FAMILIES, TABLE, build, every_head, few_families, few_heads
from models.measured import differing_pairs, measure, sharpened
from yanma.models import linear
from yanma.models.families import SPEECH
from yanma.models.family import Family

EVERY = [
    *every_head(),
    *every_head(decodes=True),
    *((family, name) for family in SPEECH for name in family.heads),
]
HEADS = few_heads(EVERY)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


@HEADS
@DTYPES
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_outputs_gradients_and_isolation_against_one_document_at_a_time(
    family: Family, name: str, mode: str, dtype: torch.dtype
):
    found = measure(family, name, mode, dtype)
    assert found.error <= 2, f"outputs err by {found.error:.2f} times the stock model's error"
    assert found.gradient_error <= 2, f"the gradient errs by {found.gradient_error:.2f} times the stock one's"
    assert dtype != torch.float32 or found.gradient <= 1e-5, f"the gradient differs by {found.gradient:.1e}"
    assert found.pairs == 30 and found.leaks == 0, f"{found.leaks} of {found.pairs} pairs leak"


@DTYPES
@few_families([*TABLE, *SPEECH])
def test_no_pair_of_a_document_and_a_batch_differs_in_any_bit(family: Family, dtype: torch.dtype):
    name = next(iter(family.heads))
    model = yanma.unpad(sharpened(build(family, name)).to(dtype))
    differing, count = differing_pairs(model, family, name, 60)
    assert count >= 60 and differing == 0, f"{differing} of {count} pairs differ"


def test_a_product_that_depends_on_its_rows_is_seen_in_the_pairs(monkeypatch):
    product = linear._product

    def broken(rows: torch.Tensor, *args) -> torch.Tensor:
        return product(rows, *args) * (1 + 2e-7 * (len(rows) > 100))

    monkeypatch.setattr(linear, "_product", broken)
    family = FAMILIES[0]
    model = yanma.unpad(sharpened(build(family, "BertModel")))
    differing, count = differing_pairs(model, family, "BertModel", 60)
    assert count >= differing > 30
