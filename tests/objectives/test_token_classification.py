"""Tags on words: alignment with tokens, schemes, metrics, and what is refused."""

import itertools
import math
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers, processors
from transformers import CanineTokenizer, RobertaTokenizer

from data.samples import gold_logits, rows_of, tagged
from yanma.data.columns import Columns
from yanma.data.examples import IGNORE, NO_TOKEN
from yanma.data.rows import Row
from yanma.errors import ConfigError, DataError, Unsupported
from yanma.objectives import TokenClassification
from yanma.objectives.task import Score, summed_cross_entropy
from yanma.objectives.token_classification import Tagged

BIO = TokenClassification(("O", "B-X", "I-X"))
BIOES = TokenClassification(("O", "B-X", "I-X", "E-X", "S-X"))


def encode(tokenizer, words: str, tags: str, *, task=BIO, max_length=64):
    (example,) = task.encode(rows_of(tagged(words, tags)), tokenizer, max_length=max_length).examples
    return example


@pytest.mark.parametrize(
    ("words", "tags", "tokens", "labels", "starts"),
    [
        (
            "a unbelievable card",
            "O B-X I-X",
            "[CLS] a un ##believ ##able card [SEP]",
            "_ 0 1 _ _ 2 _",
            (1, 2, 5),
        ),
        ("我们 北", "B-X O", "[CLS] 我 们 北 [SEP]", "_ 1 _ 0 _", (1, 3)),
        ("a \u200b card", "B-X I-X O", "[CLS] a card [SEP]", "_ 1 0 _", (1, NO_TOKEN, 2)),
        ("\u200b\ufe0f b", "B-X O", "[CLS] b [SEP]", "_ 0 _", (NO_TOKEN, 1)),
        ("b \ufffd", "B-X O", "[CLS] b [SEP]", "_ 1 _", (1, NO_TOKEN)),
        ("\u200b", "B-X", "[CLS] [SEP]", "_ _", (NO_TOKEN,)),
        ("zzz New,York", "B-X I-X", "[CLS] [UNK] new , york [SEP]", "_ 1 2 _ _ _", (1, 2)),
        ("a [SEP] b", "O B-X O", "[CLS] a [SEP] b [SEP]", "_ 0 1 0 _", (1, 2, 3)),
    ],
)
def test_a_words_first_token_has_its_tag_and_the_others_none(
    tokenizer, pieces, words, tags, tokens, labels, starts
):
    example = encode(tokenizer, words, tags)
    assert " ".join(pieces(example)) == tokens, "the tokens of the row"
    assert example.targets.labels == tuple(IGNORE if label == "_" else int(label) for label in labels.split())
    assert example.targets.starts == starts, "the first token of each word, NO_TOKEN for words that vanish"
    assert BIO.num_scored(example) == sum(start != NO_TOKEN for start in starts), "one scored token a word"


def test_words_that_vanish_are_outside_and_counted(tokenizer):
    encoded = BIO.encode(
        rows_of(tagged("a \u200b card", "B-X I-X O"), tagged("b", "O")), tokenizer, max_length=9
    )
    assert (encoded.words_vanished, encoded.words_cut, encoded.truncated) == (1, 0, 0)
    assert "1 word without any token" in encoded.notes[0]
    predictions = BIO.decode(gold_logits(BIO, encoded.examples), encoded.examples)
    assert [p.tags for p in predictions] == [("B-X", "O", "O"), ("O",)], (
        "a vanished word does not shift the others"
    )
    report = BIO.report(encoded.examples, predictions)
    assert report.headline == 0, "an entity that cannot be predicted whole is not found"


def test_an_empty_word_is_one_without_a_token(tokenizer):
    row = Row({"tokens": ["a", "", "card"], "tags": ["B-X", "I-X", "O"]}, "a.jsonl:1")
    encoded = BIO.encode([row], tokenizer, max_length=9)
    assert encoded.words_vanished == 1 and "(empty words, " in encoded.notes[0]
    (prediction,) = BIO.decode(gold_logits(BIO, encoded.examples), encoded.examples)
    assert prediction.tags == ("B-X", "O", "O")


def test_words_that_are_cut_off_are_outside_and_counted(tokenizer, pieces):
    rows = rows_of(tagged("a unbelievable \u200b card lost", "O B-X I-X O B-X"), tagged("a b", "O O"))
    encoded = BIO.encode(rows, tokenizer, max_length=5)
    example = encoded.examples[0]
    assert " ".join(pieces(example)) == "[CLS] a un ##believ [SEP]", "cut at five tokens, [SEP] among them"
    assert example.targets.starts == (1, 2, NO_TOKEN, NO_TOKEN, NO_TOKEN) and len(example.targets.starts) == 5
    assert (encoded.truncated, encoded.words_cut, encoded.words_vanished) == (1, 2, 1), "cut is not vanished"
    assert encoded.notes[0] == (
        "1 of 2 texts are longer than 5 tokens and were cut there; 2 words lost their tags and count as outside"
    )
    predictions = BIO.decode(gold_logits(BIO, encoded.examples), encoded.examples)
    assert predictions[0].tags == ("O", "B-X", "O", "O", "O")
    report = BIO.report(encoded.examples, predictions)
    assert report.classes["X"].support == 2, "an entity that was cut off is still one to be found"
    assert report.classes["X"].recall == 0, "neither was found whole"


def test_a_row_of_exactly_the_longest_length_is_not_cut(tokenizer):
    encoded = BIO.encode(rows_of(tagged("a b", "O O")), tokenizer, max_length=4)
    assert (encoded.truncated, encoded.notes) == (0, ())


def test_too_little_room_for_special_tokens_is_refused(tokenizer):
    with pytest.raises(ValueError, match="max_length is 2, but 2 special tokens are added"):
        BIO.encode(rows_of(tagged("a", "O")), tokenizer, max_length=2)


def roberta(**more) -> RobertaTokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet, "Ġa", "Ġb"]
    return RobertaTokenizer(
        vocab={piece: i for i, piece in enumerate(vocab)}, merges=[("Ġ", "a"), ("Ġ", "b")], **more
    )


@pytest.mark.parametrize("more", [{}, {"add_prefix_space": True}])
def test_words_read_to_roberta_as_they_do_in_a_text(more):
    example = encode(roberta(**more), "a b  a", "O B-X I-X O")
    pieces = roberta().convert_ids_to_tokens(example.tokens.input_ids)
    assert pieces == ["<s>", "Ġa", "Ġb", "Ġa", "</s>"], "every word begins with its space"
    assert example.targets.labels == (IGNORE, 0, 1, 0, IGNORE) and example.targets.starts == (
        1,
        2,
        NO_TOKEN,
        3,
    )


def test_a_tokenizer_that_cannot_align_is_refused_by_name():
    with pytest.raises(Unsupported, match="CanineTokenizer cannot say of which word a token is"):
        BIO.encode(rows_of(tagged("a", "O")), CanineTokenizer(), max_length=9)


def test_examples_are_numbered_and_know_their_rows(tokenizer):
    rows = rows_of(*[tagged("a", "O")] * 3000)
    examples = BIO.encode(rows, tokenizer, max_length=9).examples
    assert [e.key for e in examples] == list(range(3000)), "the id is the place in the data"
    assert [e.where for e in examples] == [row.where for row in rows], (
        "in order, over several calls of the tokenizer"
    )
    assert examples[0].tokens.token_type_ids == (0, 0, 0)


# What the data may hold


def test_the_tag_set_is_complete_and_outside_comes_first():
    rows = rows_of(tagged("a b", "B-work-of-art O"), tagged("a", "B-PER"))
    assert TokenClassification.from_rows(rows).labels == (
        "O", "B-PER", "I-PER", "B-work-of-art", "I-work-of-art"
    )  # fmt: skip
    bioes = TokenClassification.from_rows(rows_of(tagged("a", "S-X")))
    assert bioes.labels == ("O", "B-X", "I-X", "E-X", "S-X")
    assert TokenClassification.from_rows(rows_of(tagged("a", "I-X"))).labels == ("O", "I-X"), "plain IO"


@pytest.mark.parametrize("tag", ["U-X", "L-X", "M-X", "W-X", "S-X", "E"])
def test_a_tag_of_another_scheme_than_the_training_rows_is_refused(tokenizer, tag):
    with pytest.raises(DataError, match=r"data\.jsonl:1: tag ") as caught:
        BIO.encode(rows_of(tagged("a", tag)), tokenizer, max_length=9)
    assert f"tag {tag!r} is not of BIO, of which the training rows are: its letters are O, B, I" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("tag", "advice"),
    [
        ("PER", "a tag is O, or a letter of a scheme (B, I, E, S; L, U; M, W) and a type, such as B-PER"),
        ("X-B", "a tag is O"),
        ("B_X", "a tag is O"),
        ("B-", "a tag is O"),
        ("b-X", "a tag is O"),
        ("BI-X", "a tag is O"),
        ("o", "a tag is O"),
        ("0", "a tag is O"),
        ("", "a tag is O"),
    ],
)
def test_a_tag_of_no_scheme_is_refused_with_what_to_write(tokenizer, tag, advice):
    rows = rows_of(tagged("a", "B-X"), {"tokens": ["a", "b"], "tags": ["O", tag]})
    for refuse in (TokenClassification.from_rows, lambda rows: BIO.encode(rows, tokenizer, max_length=9)):
        with pytest.raises(DataError, match=r"data\.jsonl:2: tag ") as caught:
            refuse(rows)
        assert repr(tag) in str(caught.value) and advice in str(caught.value)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("B-X O", "tag 2 is 'O' after 'B-X'"),
        ("B-X I-X", "the row ends after 'I-X'"),
        ("B-X S-X", "tag 2 is 'S-X' after 'B-X'"),
        ("B-X B-X", "tag 2 is 'B-X' after 'B-X'"),
        ("B-X E-Y", "tag 2 is 'E-Y' after 'B-X'"),
        ("O I-X", "tag 2 is 'I-X' after 'O': I and E go on with an entity of their type that B began"),
        ("E-X O", "tag 1 is 'E-X': I and E go on"),
        ("S-X E-X", "tag 2 is 'E-X' after 'S-X'"),
    ],
)
def test_broken_bioes_is_refused(tokenizer, tags, message):
    task = TokenClassification.from_rows(rows_of(tagged("a b", "S-X S-Y")))
    with pytest.raises(DataError, match=r"data\.jsonl:1: not BIOES: ") as caught:
        task.encode(rows_of(tagged("a b", tags)), tokenizer, max_length=9)
    assert message in str(caught.value)


def test_bio_may_begin_with_i_as_conlleval_reads_it(tokenizer):
    rows = rows_of(tagged("a b c a", "O I-X B-X I-X"))
    examples = BIO.encode(rows, tokenizer, max_length=9).examples
    report = BIO.report(examples, BIO.decode(gold_logits(BIO, examples), examples))
    assert report.classes == {"X": Score(1.0, 1.0, 1.0, 2)}, "I-X after O begins an entity, B-X the next"


def test_tags_and_words_of_different_number_are_refused(tokenizer):
    rows = rows_of(tagged("a", "O"), tagged("a b c", "O B-X"))
    with pytest.raises(DataError, match=r"data\.jsonl:2: 3 tokens but 2 tags"):
        BIO.encode(rows, tokenizer, max_length=9)


def test_an_unknown_tag_is_refused_with_the_nearest(tokenizer):
    with pytest.raises(DataError) as caught:
        BIO.encode(rows_of(tagged("a", "B-Xx")), tokenizer, max_length=9)
    assert str(caught.value) == (
        "data.jsonl:1: label 'B-Xx' does not stand in the training data; did you mean 'B-X'? known: O, B-X, I-X"
    )


def test_rows_without_words_and_data_without_entities_are_refused(tokenizer):
    with pytest.raises(DataError, match=r"data\.jsonl:1: 'tokens' is empty"):
        BIO.encode(rows_of({"tokens": [], "tags": []}), tokenizer, max_length=9)
    with pytest.raises(DataError, match=r"data\.jsonl:1: all tags of these rows are O"):
        TokenClassification.from_rows(rows_of(tagged("a", "O")))
    with pytest.raises(DataError, match="no rows"):
        TokenClassification.from_rows([])


def test_words_of_which_nothing_is_left_at_all_are_refused():
    bare = roberta()
    bare.backend_tokenizer.post_processor = processors.ByteLevel()  # adds no special tokens
    with pytest.raises(DataError, match=r"data\.jsonl:1: the tokenizer makes nothing of these words"):
        encode(bare, "", "O")


def test_an_example_is_of_the_types_of_its_entities(tokenizer):
    task = TokenClassification(("O", "B-X", "I-X", "B-Y", "I-Y"))
    rows = rows_of(tagged("a b", "B-X B-X"), tagged("a b", "B-Y B-X"), tagged("a", "O"))
    encoded = task.encode(rows, tokenizer, max_length=9)
    assert [task.classes(example) for example in encoded.examples] == [{"X"}, {"X", "Y"}, set()]


def test_columns_have_other_names_in_the_data(tokenizer):
    columns = TokenClassification.columns_named({"tokens": "words", "tags": "ner"})
    assert columns == Columns(("words",), "ner") and columns.all == ("words", "ner")
    rows = [Row({"words": "a b", "ner": "O B-X"}, "a.csv:2")]
    task = TokenClassification.from_rows(rows, columns)
    assert task.encode(rows, tokenizer, max_length=9).examples[0].targets.tags == (0, 1)
    with pytest.raises(ConfigError, match="no column 'token'; did you mean 'tokens'"):
        TokenClassification.columns_named({"token": "words"})


@pytest.mark.parametrize("labels", [("B-X",), ("O", "O"), ("O", "LABEL_1")])
def test_labels_that_are_no_tags_are_refused(labels):
    with pytest.raises(ValueError, match="tag"):
        TokenClassification(labels)


def test_rows_without_tags_are_to_predict(tokenizer):
    rows = rows_of({"tokens": ["a", "unbelievable"]})
    (example,) = BIO.encode(rows, tokenizer, max_length=9).examples
    assert BIO.num_scored(example) == 0 and set(example.targets.labels) == {IGNORE}
    logits = torch.zeros(len(example.tokens.input_ids), 3)
    logits[1, 1] = logits[2, 2] = 1
    (prediction,) = BIO.decode(logits, [example])
    assert prediction.as_dict() == {"tags": ["B-X", "I-X"]}
    assert BIO.loss(logits, [example]) == 0, "nothing is scored"
    with pytest.raises(ValueError, match="0 true tags, 2 predicted"):
        BIO.report([example], [prediction])


# Numbers


def report_of(task, tokenizer, truth: str, predicted: str):
    words = " ".join(["a"] * len(truth.split()))
    example = encode(tokenizer, words, truth, task=task)
    return task.report([example], [Tagged(tuple(predicted.split()))])


def test_bio_is_scored_as_conlleval_does(tokenizer):
    task = TokenClassification(("O", "B-X", "I-X", "B-Y", "I-Y"))
    report = report_of(task, tokenizer, "B-X I-X O B-Y O B-X", "I-X I-X O B-X O B-X")
    assert report.classes == {"X": Score(2 / 3, 1.0, 0.8, 2), "Y": Score(0.0, 0.0, 0.0, 1)}
    assert report.averages["micro"] == Score(2 / 3, 2 / 3, 2 / 3, 3)
    assert report.averages["macro"].f1 == pytest.approx(0.4)
    assert (report.headline_name, report.headline, report.accuracy) == ("f1_micro", 2 / 3, 4 / 6)
    assert report.as_dict()["classes"]["X"] == {"precision": 2 / 3, "recall": 1.0, "f1": 0.8, "support": 2}


def test_bioes_is_scored_strictly(tokenizer):
    report = report_of(BIOES, tokenizer, "B-X E-X O S-X", "B-X I-X O S-X")
    assert report.classes["X"] == Score(1.0, 0.5, 2 / 3, 2), "B-X I-X without an end is no entity"
    report = report_of(BIOES, tokenizer, "B-X E-X O S-X", "B-X E-X O S-X")
    assert report.headline == 1.0


def test_a_report_without_any_entity_is_zero(tokenizer):
    report = report_of(BIO, tokenizer, "O O", "O O")
    assert (report.headline, report.accuracy, report.classes) == (0.0, 1.0, {})


def test_logits_of_other_examples_are_refused(tokenizer):
    example = encode(tokenizer, "a b", "O O")
    with pytest.raises(ValueError, match=r"logits are \(5, 3\); these examples need \(4, 3\)"):
        BIO.decode(torch.zeros(5, 3), [example])
    with pytest.raises(ValueError, match=r"need \(R, C\) and \(R,\)"):
        BIO.loss(torch.zeros(5, 3), [example])


WORDS = ["a", "b", "unbelievable", "New,York", "我们", "北京", "\u200b", "\ufe0f", "", "[SEP]", "zzz", "a b"]


@st.composite
def rows_and_groups(draw):
    """Rows of odd words with valid BIOES tags, and an order and grouping of them."""
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        tags: list[str] = []
        while not tags or draw(st.booleans()):
            kind = draw(st.sampled_from("XY"))
            span = draw(st.integers(0, 4))
            inner = [f"I-{kind}"] * (span - 2)
            tags += [["O"], [f"S-{kind}"], [f"B-{kind}", *inner, f"E-{kind}"]][min(span, 2)]
        words = draw(st.lists(st.sampled_from(WORDS), min_size=len(tags), max_size=len(tags)))
        rows.append({"tokens": words, "tags": tags})
    order = draw(st.permutations(range(len(rows))))
    cuts = sorted(draw(st.sets(st.integers(1, len(rows)))) | {0, len(rows)})
    groups = [order[a:b] for a, b in itertools.pairwise(cuts)]
    return rows, groups, draw(st.integers(3, 16))


XY = TokenClassification(("O", *(f"{prefix}-{kind}" for kind in "XY" for prefix in "BIES")))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=rows_and_groups())
def test_what_is_encoded_is_decoded_whatever_the_order_and_grouping(tokenizer, case):
    rows, groups, max_length = case
    encoded = XY.encode(rows_of(*rows), tokenizer, max_length=max_length)
    lost = 0
    for group in groups:
        some = [encoded.examples[index] for index in group]
        assert all(len(example.tokens.input_ids) <= max_length for example in some)
        for index, example, prediction in zip(
            group, some, XY.decode(gold_logits(XY, some), some), strict=True
        ):
            kept = [start != NO_TOKEN for start in example.targets.starts]
            expected = [tag if there else "O" for tag, there in zip(rows[index]["tags"], kept, strict=True)]
            assert list(prediction.tags) == expected, (
                "gold where a word has a token, outside where it has none"
            )
            assert [XY.labels[label] for label in example.targets.tags] == rows[index]["tags"]
            assert len(example.targets.starts) == len(rows[index]["tokens"])
            assert XY.num_scored(example) == sum(kept)
            lost += kept.count(False)
    assert lost == encoded.words_cut + encoded.words_vanished, "every word without a token is counted once"


def test_the_loss_is_the_sum_over_scored_words_whatever_the_grouping(tokenizer):
    rows = rows_of(
        *[
            tagged(" ".join(WORDS[:n]), " ".join(["O", "B-X", "I-X"][i % 3] for i in range(n)))
            for n in (1, 5, 2, 7)
        ]
    )
    examples = list(BIO.encode(rows, tokenizer, max_length=32).examples)
    generator = torch.Generator().manual_seed(0)
    logits = {e.key: torch.randn(len(e.tokens.input_ids), 3, generator=generator) for e in examples}
    per_word = [
        -torch.log_softmax(logits[e.key][start].double(), -1)[label].item()
        for e in examples
        for start, label in zip(e.targets.starts, e.targets.tags, strict=True)
        if start != NO_TOKEN
    ]
    assert len(per_word) == sum(map(BIO.num_scored, examples)) > 10, "there is something to add up"
    oracle = math.fsum(per_word)
    # Each float32 addition rounds by half a unit at most, each term by a few.
    budget = (len(per_word) + 4) * torch.finfo(torch.float32).eps * oracle
    for seed in range(20):
        random.Random(seed).shuffle(examples)
        cut = seed % len(examples)
        total = 0.0
        for group in filter(None, (examples[:cut], examples[cut:])):
            loss = BIO.loss(torch.cat([logits[e.key] for e in group]), group)
            assert loss.shape == () and loss.dtype == torch.float32
            total += loss.item()
        assert abs(total - oracle) <= budget, f"the loss of the groups adds up to {total}, not {oracle}"


def test_the_loss_of_bfloat16_logits_is_computed_in_float32():
    logits = torch.tensor([[128.0, 0.0]] * 3000 + [[0.0, 0.0]], dtype=torch.bfloat16)
    labels = torch.tensor([1] * 3000 + [IGNORE])
    assert summed_cross_entropy(logits.flip(1), labels * 0).dtype == torch.float32
    assert summed_cross_entropy(logits, labels).item() == 3000 * 128, (
        "exactly: bfloat16 would stop adding at 2 ** 15"
    )
