"""Packed and padded, the same examples give the same logits in the same order, and have the same labels."""

import pytest
import torch
from transformers import BertConfig, BertForTokenClassification

from data.samples import flat_labels, gold_logits, rows_of, tagged
from yanma import PackedBatch
from yanma.data.collate import packed, padded
from yanma.data.examples import IGNORE, Tokens
from yanma.objectives import SequenceClassification, TokenClassification

BIO = TokenClassification(("O", "B-X", "I-X"))


@pytest.fixture
def examples(tokenizer):
    rows = rows_of(
        tagged("a unbelievable card", "O B-X I-X"), tagged("b", "B-X"), tagged("我们 lost", "O I-X")
    )
    encoded = BIO.encode(rows, tokenizer, max_length=16).examples
    return [encoded[2], encoded[0], encoded[1]]


def test_a_pack_holds_the_examples_end_to_end_under_their_ids(examples):
    batch = packed(examples)
    assert [tuple(ids.tolist()) for ids in batch.unpack(batch.input_ids)] == [
        e.tokens.input_ids for e in examples
    ]
    assert batch.ids == (2, 0, 1), "an example's id is its place in the data, not in the pack"
    assert batch.token_type_ids.tolist() == [0] * len(batch.input_ids)
    assert flat_labels(examples).tolist() == [label for e in examples for label in e.targets.labels]
    assert flat_labels(examples).dtype == torch.int64


def test_padding_adds_only_what_is_not_valid(examples, tokenizer):
    rectangle = padded(examples, 9, tokenizer.pad_token_id)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in rectangle.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), ((3, 9), torch.int64)
    )
    back = PackedBatch.from_padded(rectangle["input_ids"], rectangle["attention_mask"])
    assert back.input_ids.tolist() == packed(examples).input_ids.tolist(), "the valid slots are the pack"
    hidden = rectangle["input_ids"][rectangle["attention_mask"] == 0]
    assert len(hidden) == 27 - len(back.input_ids) and (hidden == tokenizer.pad_token_id).all()


def test_the_pad_token_is_the_tokenizers(examples):
    rectangle = padded(examples, 9, 77)
    assert (rectangle["input_ids"][rectangle["attention_mask"] == 0] == 77).all()


def test_a_stock_model_reads_the_rectangle_and_both_ways_give_one_loss(examples, tokenizer):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        num_labels=3,
    )  # fmt: skip
    model = BertForTokenClassification(config).eval()
    rectangle = padded(examples, 12, tokenizer.pad_token_id)
    with torch.no_grad():
        in_rows = model(**rectangle).logits[rectangle["attention_mask"].bool()]
        one_by_one = torch.cat(
            [model(packed([e]).input_ids[None]).logits[0] for e in examples]
        )  # fmt: skip
    labels = flat_labels(examples)
    assert (labels != IGNORE).sum() == sum(map(BIO.num_scored, examples)) == 6
    torch.testing.assert_close(BIO.loss(in_rows, examples), BIO.loss(one_by_one, examples), rtol=1e-5, atol=0)
    assert BIO.decode(in_rows, examples) == BIO.decode(one_by_one, examples)
    assert BIO.loss(gold_logits(BIO, examples) * 50, examples) < 1e-6, "the labels are those of these slots"


def test_texts_have_one_label_each(tokenizer):
    task = SequenceClassification(("a", "b"))
    rows = rows_of({"text": "a", "label": "b"}, {"text": "a b", "label": "a"})
    examples = task.encode(rows, tokenizer, max_length=9).examples
    assert flat_labels(examples).tolist() == [1, 0]


def test_an_example_that_does_not_fit_is_refused(examples):
    with pytest.raises(ValueError, match=r"data\.jsonl:1 has 7 tokens; a row is 6 long"):
        padded(examples, 6, 0)


def test_examples_of_two_tokenizers_are_refused(examples):
    from dataclasses import replace

    without = replace(examples[0], sequences=(Tokens(examples[0].tokens.input_ids),))
    assert "token_type_ids" not in padded([without], 9, 0) and packed([without]).token_type_ids is None
    with pytest.raises(ValueError, match="some examples have token_type_ids and some have none"):
        packed([without, examples[1]])
