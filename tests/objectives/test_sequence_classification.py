"""Classes of texts: encoding, metrics, and what is refused."""

import math

import pytest
import torch
from transformers import CanineTokenizer

from data.samples import gold_logits, rows_of
from yanma.data.columns import Columns
from yanma.data.examples import IGNORE, Example, Tokens
from yanma.errors import ConfigError, DataError
from yanma.objectives import SequenceClassification
from yanma.objectives.sequence_classification import Classified
from yanma.objectives.task import Score

AB = SequenceClassification(("a", "b"))
PAIRS = SequenceClassification(("a", "b"), Columns(("text", "text_pair"), "label"))


def test_class_names_are_sorted_and_numbers_by_value():
    def labels(*given):
        return SequenceClassification.from_rows(
            rows_of(*[{"text": "x", "label": each} for each in given])
        ).labels

    assert labels("b", "a", "b", "C") == ("C", "a", "b")
    assert labels("10", "9", "-1") == ("-1", "9", "10")
    assert labels(10, 9, 1) == ("1", "9", "10"), "whole numbers of JSON"
    assert labels(True, False) == ("false", "true")
    assert labels("2.5", "10", "2.25") == ("2.25", "2.5", "10")
    assert labels("10", "9", "x") == ("10", "9", "x"), "not all of them are numbers"
    with pytest.raises(DataError, match=r"data\.jsonl:1: all rows have label 'a'"):
        labels("a", "a")
    with pytest.raises(DataError, match="no rows"):
        labels()


def test_a_text_has_its_class(tokenizer, pieces):
    rows = rows_of({"text": "New York, lost", "label": "b"}, {"text": "我们 a", "label": "a"})
    encoded = AB.encode(rows, tokenizer, max_length=16)
    assert [" ".join(pieces(e)) for e in encoded.examples] == [
        "[CLS] new york , lost [SEP]", "[CLS] 我 们 a [SEP]"
    ]  # fmt: skip
    assert [(e.key, e.targets, e.where) for e in encoded.examples] == [
        (0, 1, "data.jsonl:1"), (1, 0, "data.jsonl:2")
    ]  # fmt: skip
    assert (encoded.notes, AB.num_scored(encoded.examples[0])) == ((), 1)


def test_a_pair_of_texts_is_told_apart(tokenizer, pieces):
    rows = rows_of(
        {"text": "a b", "text_pair": "card", "label": "a"},
        {"text": "a b c", "text_pair": "a b", "label": "b"},
    )
    encoded = PAIRS.encode(rows, tokenizer, max_length=7)
    assert [" ".join(pieces(e)) for e in encoded.examples] == [
        "[CLS] a b [SEP] card [SEP]", "[CLS] a b [SEP] a b [SEP]"
    ]  # fmt: skip
    assert encoded.examples[0].tokens.token_type_ids == (0, 0, 0, 0, 1, 1)
    assert encoded.truncated == 1, "the second pair has eight tokens"


def test_columns_have_other_names_in_the_data():
    named = SequenceClassification.columns_named
    assert named({}).all == ("text", "label")
    assert named({"text_pair": "b", "text": "a", "label": "y"}).all == ("a", "b", "y")
    with pytest.raises(ConfigError, match="no column 'lable'; did you mean 'label'"):
        named({"lable": "y"})


def test_texts_that_are_too_long_are_cut_and_counted(tokenizer):
    rows = rows_of(*[{"text": "a " * n, "label": "a"} for n in (1, 4, 5, 600)], {"text": "b", "label": "b"})
    encoded = AB.encode(rows, tokenizer, max_length=6)
    assert [len(e.tokens.input_ids) for e in encoded.examples] == [3, 6, 6, 6, 3]
    assert encoded.truncated == 2 and encoded.notes == (
        "2 of 5 texts are longer than 6 tokens and were cut there",
    )


@pytest.mark.parametrize("text", ["", "  ", None, "\u200b", "\ufffd \ufe0f"])
def test_a_text_of_which_nothing_is_left_is_refused(tokenizer, text):
    rows = rows_of({"text": "a", "label": "a"}, {"text": text, "label": "a"})
    with pytest.raises(DataError, match=r"^data\.jsonl:2: .*(empty|null)"):
        AB.encode(rows, tokenizer, max_length=9)


def test_an_unknown_class_is_refused_with_the_nearest(tokenizer):
    task = SequenceClassification(tuple(f"class_{n}" for n in range(40)))
    with pytest.raises(DataError) as caught:
        task.encode(rows_of({"text": "a", "label": "clas_7"}), tokenizer, max_length=9)
    message = str(caught.value)
    assert message.startswith(
        "data.jsonl:1: label 'clas_7' does not stand in the training data; did you mean 'class_7'?"
    )
    assert message.endswith("class_9, ... 40 in all"), "a long list of classes is cut"


def test_a_case_that_could_mean_two_classes_means_none(tokenizer):
    rows = rows_of(*({"text": "a b", "label": name} for name in ("us", "US", "Us")))

    def labels(classes, rows):
        return [
            example.targets
            for example in SequenceClassification(classes).encode(rows, tokenizer, max_length=9).examples
        ]

    assert labels(("US", "us"), rows[:2]) == [1, 0]
    with pytest.raises(DataError, match=r"data\.jsonl:3: label 'Us' does not stand in the training data"):
        labels(("US", "us"), rows)
    assert labels(("uk", "us"), rows) == [1, 1, 1]


def test_an_example_is_of_its_class_where_that_is_known(tokenizer):
    rows = rows_of(*[{"text": "a", "label": label} for label in "ab"])
    encoded = AB.encode(rows, tokenizer, max_length=9)
    assert [AB.classes(example) for example in encoded.examples] == [{"a"}, {"b"}]
    (unknown,) = AB.encode(rows_of({"text": "a"}), tokenizer, max_length=9).examples
    assert AB.classes(unknown) == set()


def test_a_row_without_its_class_among_others_is_refused(tokenizer):
    rows = rows_of({"text": "a"}, {"text": "a", "label": "a"})
    with pytest.raises(DataError, match=r"data\.jsonl:1: no column 'label'; it has: text"):
        AB.encode(rows, tokenizer, max_length=9)


def test_rows_without_classes_are_to_predict(tokenizer):
    (example,) = AB.encode(rows_of({"text": "a"}), tokenizer, max_length=9).examples
    assert example.targets == IGNORE and AB.num_scored(example) == 0
    logits = torch.tensor([[0.0, math.log(3)]])
    (prediction,) = AB.decode(logits, [example])
    assert prediction.as_dict() == {"label": "b", "probability": pytest.approx(0.75)}
    assert AB.loss(logits, [example]) == 0
    with pytest.raises(ValueError, match=r"data\.jsonl:1: its true class is not known"):
        AB.report([example], [prediction])


def test_a_slow_tokenizer_will_do():
    rows = rows_of({"text": "abc", "label": "a"}, {"text": "abcdefgh", "label": "b"})
    encoded = AB.encode(rows, CanineTokenizer(), max_length=6)
    assert ([len(e.tokens.input_ids) for e in encoded.examples], encoded.truncated) == ([5, 6], 1)


@pytest.mark.parametrize("labels", [(), ("a",), ("a", "a")])
def test_fewer_than_two_classes_are_refused(labels):
    with pytest.raises(ValueError, match="two or more classes"):
        SequenceClassification(labels)


def test_the_report_has_accuracy_and_the_scores_of_each_class(tokenizer):
    task = SequenceClassification(("a", "b", "c", "d"))
    rows = rows_of(*[{"text": "a", "label": label} for label in "aabb"])
    examples = task.encode(rows, tokenizer, max_length=9).examples
    report = task.report(examples, [Classified(label, 1.0) for label in "abbc"])
    assert report.classes == {
        "a": Score(1.0, 0.5, 2 / 3, 2), "b": Score(0.5, 0.5, 0.5, 2), "c": Score(0.0, 0.0, 0.0, 0)
    }, "d is neither true nor predicted"  # fmt: skip
    assert (report.headline_name, report.headline, report.accuracy) == ("accuracy", 0.5, 0.5)
    assert report.averages["macro"].f1 == pytest.approx((2 / 3 + 0.5) / 3)
    assert report.averages["weighted"].f1 == pytest.approx((2 / 3 + 0.5) / 2)
    assert report.as_dict()["averages"]["macro"]["support"] == 4
    with pytest.raises(ValueError, match="no examples"):
        task.report([], [])


def test_what_is_encoded_is_decoded(tokenizer):
    rows = rows_of(*[{"text": "a " * n, "label": "ab"[n % 2]} for n in range(1, 8)])
    examples = AB.encode(rows, tokenizer, max_length=5).examples
    predictions = AB.decode(gold_logits(AB, examples), examples)
    assert [p.label for p in predictions] == [row.fields["label"] for row in rows]
    assert AB.report(examples, predictions).headline == 1.0
    with pytest.raises(ValueError, match=r"logits are \(7, 3\); these examples need \(7, 2\)"):
        AB.decode(torch.zeros(7, 3), examples)


def test_the_loss_is_the_sum_over_texts_whatever_the_grouping():
    # -log p is 128 n exactly here, and sums of such numbers are exact: any grouping must give the same bits.
    logits = torch.tensor([[128.0 * n, 0.0] for n in range(1, 33)])
    texts = [Example(key, (Tokens((2, 3)),), 1) for key in range(32)]
    total = AB.loss(logits, texts)
    assert total.item() == 128 * sum(range(1, 33)), "a sum, not a mean"
    for cut in (1, 5, 31):
        parts = AB.loss(logits[:cut], texts[:cut]) + AB.loss(logits[cut:], texts[cut:])
        assert parts.item() == total.item(), f"cut after {cut} texts, the loss is another"


def test_many_numbers_with_decimals_are_measures_and_no_classes():
    rows = rows_of(*({"text": "x", "label": f"{number / 8}"} for number in range(30)))
    with pytest.raises(DataError, match="holds 30 different numbers such as"):
        SequenceClassification.from_rows(rows)
    whole = rows_of(*({"text": "x", "label": f"{number}.0"} for number in range(30)))
    assert len(SequenceClassification.from_rows(whole).labels) == 30, "whole numbers may be names"
    assert len(SequenceClassification.from_rows(rows[:20]).labels) == 20, "a few may be ratings"
