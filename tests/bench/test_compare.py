"""side_by_side: four ways, one answer."""

import random

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification, BertModel

from yanma import unpad
from yanma.bench import ours
from yanma.bench.compare import side_by_side
from yanma.bench.parity import ParityError
from yanma.models import is_unpadded

CONFIG = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
DRAW = random.Random(0)
SEQUENCES = [[DRAW.randrange(1, 50) for _ in range(DRAW.choice([1, 2, 5, 30]))] for _ in range(70)]


@pytest.mark.parametrize("unpadded", [False, True], ids=["stock", "unpadded"])
@pytest.mark.parametrize("head", [BertModel, BertForSequenceClassification, BertForTokenClassification])
def test_four_ways_of_masking_give_one_answer(head, unpadded):
    torch.manual_seed(0)
    model = head(BertConfig(**CONFIG)).train()
    if unpadded:
        unpad(model)
    heard = []
    result = side_by_side(model, SEQUENCES, rounds=2, width=32, told=heard.append)
    assert [row.name for row in result.rows] == ["static 32", "longest", "length-sorted", "dynamic (yanma)"]
    assert 0 < result.largest_difference < 1e-5
    static, longest, by_length, dynamic = (row.padding for row in result.rows)
    assert static > longest > by_length > dynamic == 0
    assert heard == 3 * [row.name for row in result.rows], "once for parity, then two rounds"
    assert model.training and is_unpadded(model) == unpadded, "the caller's model is left as it was"
    assert result.as_dict()["tokens"] == sum(map(len, SEQUENCES))
    assert len(result.table().rows) == 4


def test_static_rows_hold_the_longest_text():
    result = side_by_side(BertModel(BertConfig(**CONFIG)), [[1] * 7, [2]], rounds=1, width=4)
    assert result.rows[0].name == "static 7"


def test_a_packed_model_that_computes_something_else_is_not_timed(monkeypatch):
    real = ours.of_pack
    monkeypatch.setattr(ours, "of_pack", lambda *arguments: [out * 1.001 for out in real(*arguments)])
    timed = []
    with pytest.raises(ParityError, match="dynamic"):
        side_by_side(BertModel(BertConfig(**CONFIG)), SEQUENCES, rounds=1, width=32, told=timed.append)
    assert len(timed) == 4, "one turn each, for parity"


def test_nothing_to_compute_is_refused():
    with pytest.raises(ValueError, match="no sequences"):
        side_by_side(BertModel(BertConfig(**CONFIG)), [])
