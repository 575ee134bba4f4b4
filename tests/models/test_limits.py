"""The longest text that loading finds for a model is the longest that the stock model computes."""

from types import SimpleNamespace

import pytest
import torch

from models.builders import FAMILIES, build
from yanma.loading.pretrained import longest_text

NO_LIMIT = SimpleNamespace(model_max_length=10**30)
"""A tokenizer that does not say one."""


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_the_longest_text_is_computed_and_one_token_more_is_not(family):
    model = build(family, next(iter(family.heads)))
    limit = longest_text(model, NO_LIMIT)
    assert (limit is not None) == family.position_table, "angles and distances end nowhere"
    with torch.no_grad():
        model(input_ids=torch.full((1, limit or 3 * model.config.max_position_embeddings), 7))
        if limit is not None:
            with pytest.raises((RuntimeError, IndexError, ValueError)):
                model(input_ids=torch.full((1, limit + 1), 7))
