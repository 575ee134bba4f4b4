"""Causal heads: no look ahead, padding on the left, and no loss across the border of two documents."""

from __future__ import annotations

import pytest
import torch

import yanma
from models.builders import build, every_head, rectangle
from models.test_arguments import COUNT_DISTANCES, assert_same, pair
from models.test_exactness import sharpened
from yanma.models.family import Family

CAUSAL = [(family, name) for family, name in every_head() if family.heads[name].loss == "next_token"]


@pytest.mark.parametrize(("family", "name"), CAUSAL, ids=[name for _, name in CAUSAL])
def test_a_causal_head_never_looks_ahead(family: Family, name: str):
    model = yanma.unpad(sharpened(build(family, name)))
    documents = rectangle(family, name).documents
    batch = yanma.PackedBatch.from_sequences(documents)
    with torch.no_grad():
        before = batch.unpack(model(batch).logits)
        for place in (1, 5, 16):
            changed = [document.clone() for document in documents]
            changed[0][place] = 99 if changed[0][place] != 99 else 98
            after = batch.unpack(model(yanma.PackedBatch.from_sequences(changed)).logits)
            assert torch.equal(after[0][:place], before[0][:place]), f"token {place} was seen before its turn"
            assert not torch.equal(after[0][place:], before[0][place:])
            assert all(torch.equal(a, b) for a, b in zip(after[1:], before[1:], strict=True))


@pytest.mark.parametrize(("family", "name"), CAUSAL, ids=[name for _, name in CAUSAL])
def test_causal_logits_with_padding_on_the_left_and_holes_are_the_stock_models(family: Family, name: str):
    stock, ours, inputs, data = pair(name, family)
    holes = inputs["attention_mask"].clone()
    holes[0, 4:6], holes[5, 0] = 0, 0
    left = {key: value.flip(1) for key, value in inputs.items()}
    for changed in (left, inputs | {"attention_mask": holes}):
        valid = changed["attention_mask"].bool()
        if changed is not left and family.model_type in COUNT_DISTANCES:
            with pytest.raises(yanma.Unsupported, match="hidden slots between its tokens"):
                ours(**changed)
            continue
        assert_same(ours(**changed), stock(**changed), family.heads[name], valid)
    del data


@pytest.mark.parametrize(("family", "name"), CAUSAL, ids=[name for _, name in CAUSAL])
def test_no_document_predicts_the_first_token_of_the_next(family: Family, name: str):
    model = yanma.unpad(sharpened(build(family, name)))
    documents = rectangle(family, name).documents
    batch = yanma.PackedBatch.from_sequences(documents)
    logits = batch.unpack(model(batch).logits)
    by_hand = [
        torch.nn.functional.cross_entropy(scores[:-1], document[1:], reduction="none")
        for scores, document in zip(logits, documents, strict=True)
    ]
    torch.testing.assert_close(model(batch, labels=batch.input_ids).loss, torch.cat(by_hand).mean())
    alone = [yanma.PackedBatch.from_sequences([document]) for document in documents if len(document) > 1]
    losses = [model(one, labels=one.input_ids).loss * (len(one.input_ids) - 1) for one in alone]
    scored_tokens = sum(len(one.input_ids) - 1 for one in alone)
    torch.testing.assert_close(model(batch, labels=batch.input_ids).loss, sum(losses) / scored_tokens)
