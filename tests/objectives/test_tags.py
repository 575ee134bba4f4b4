"""Schemes of tags: recognised, scored and mended as what they are; classes of words; numbers for tags."""

import json
import random
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOBES
from sklearn.metrics import precision_recall_fscore_support

from data.samples import gold_logits, rows_of, tagged
from yanma.data.rows import Row
from yanma.errors import DataError
from yanma.objectives import TokenClassification
from yanma.objectives.tags import Scheme, scheme_of
from yanma.objectives.token_classification import Tagged

WITH_ENDS = [Scheme.BIOES, Scheme.BILOU, Scheme.BMES, Scheme.BMEWO]


def learned(*tags: str, label_names=None) -> TokenClassification:
    """Of rows with these tags."""
    rows = rows_of(*(tagged(" ".join("a" for _ in row.split()), row) for row in tags))
    return TokenClassification.from_rows(rows, label_names=label_names)


def encoded(task, tokenizer, *rows: dict):
    return task.encode(rows_of(*rows), tokenizer, max_length=64)


def report_of(task, tokenizer, truth: list[list[str]], predicted: list[list[str | None]]):
    rows = [{"tokens": ["a"] * len(tags), "tags": tags} for tags in truth]
    return task.report(encoded(task, tokenizer, *rows).examples, [Tagged(tuple(tags)) for tags in predicted])


# Recognised


@pytest.mark.parametrize(
    ("rows", "scheme", "labels"),
    [
        (["O I-X I-Y"], "IO", "O I-X I-Y"),
        (["O B-X I-X", "B-X B-X"], "BIO", "O B-X I-X"),
        (["O B-X"], "BIO", "O B-X I-X"),
        (["O I-X B-X I-X", "I-X"], "IOB1", "O B-X I-X"),
        (["I-X B-X", "O B-X"], "BIO", "O B-X I-X"),
        (["I-X B-Y"], "BIO", "O B-X I-X B-Y I-Y"),
        (["S-X"], "BIOES", "O B-X I-X E-X S-X"),
        (["B-X I-X E-X O"], "BIOES", "O B-X I-X E-X S-X"),
        (["U-X"], "BILOU", "O B-X I-X L-X U-X"),
        (["B-X L-X", "B-Y I-Y L-Y"], "BILOU", "O B-X I-X L-X U-X B-Y I-Y L-Y U-Y"),
        (["B-X M-X E-X S-X"], "BMES", "O B-X M-X E-X S-X"),
        (["M-X"], "BMES", "O B-X M-X E-X S-X"),
        (["B-X E-X W-X"], "BMEWO", "O B-X M-X E-X W-X"),
        (["B I O"], "BIO", "O B I"),
        (["I B I"], "IOB1", "O B I"),
        (["I O"], "IO", "O I"),
        (["B M E S"], "BMES", "O B M E S"),
        (["U O B L"], "BILOU", "O B I L U"),
        (["DET NOUN VERB"], "classes of words", "DET NOUN VERB"),
        (["NN $ -LRB- NN-TL ``"], "classes of words", "$ -LRB- NN NN-TL ``"),
        (["NN M VV"], "classes of words", "M NN VV"),
    ],
)
def test_a_scheme_is_recognised_and_its_tags_are_the_models_own(rows, scheme, labels):
    task = learned(*rows)
    assert (task.scheme, task.labels) == (scheme, tuple(labels.split()))
    saved = TokenClassification(task.labels)
    assert saved.scheme == ("BIO" if scheme == "IOB1" else scheme), "a saved model knows it by its labels"


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("L-X", "E-X", "no scheme has both L and E"),
        ("I-X", "M-X", "no scheme has both I and M"),
        ("U-X", "S-X", "no scheme has both U and S"),
        ("W-X", "S-X", "no scheme has both W and S"),
        ("W-X", "I-X", "no scheme has both W and I"),
        ("B-X", "B", "one has a type and the other has none"),
        ("S", "B-X", "one has a type and the other has none"),
        ("B-X", "NOUN", "a tag is O, or a letter of a scheme"),
        ("O", "NOUN", "classes of words, such as NOUN, have no O among them"),
        ("O", "", "a tag is O"),
    ],
)
def test_mixed_schemes_are_refused_with_both_tags_and_their_places(one, other, why):
    rows = rows_of(tagged("a", one), {"tokens": ["a", "b"], "tags": [one, other]})
    with pytest.raises(DataError) as caught:
        TokenClassification.from_rows(rows)
    assert str(caught.value).startswith(f"data.jsonl:2: tag {other!r}, and data.jsonl:1: {one!r}: ")
    assert why in str(caught.value)


def test_every_set_of_letters_is_of_a_scheme_or_two_of_them_are_named():
    known = [set(scheme.letters) for scheme in Scheme]
    for chosen in range(1, 256):
        letters = [letter for place, letter in enumerate("BIELSUMW") if chosen >> place & 1]
        tags = [f"{letter}-X" for letter in letters]
        if any(set(letters) <= own for own in known):
            assert set(letters) <= set(scheme_of(tags).letters)
            continue
        with pytest.raises(ValueError, match="no scheme has both") as caught:
            scheme_of(tags)
        two = {caught.value.tag[0], caught.value.other[0]}
        assert not any(two <= own for own in known), f"{letters}: the two that are named do not go together"


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["NOUN", ""], "data.jsonl:1: a tag is empty"),
        (["NOUN", "b-PER"], "data.jsonl:1: tag 'b-PER': a scheme's letters are capitals, B-PER"),
        (["3", "0"], "data.jsonl:1: tag '3' is a number; say which tag each number is (`label_names`)"),
        (["[3,", "0]"], "data.jsonl:1: tag '[3,' is a number; say which tag each number is (`label_names`)"),
        (["NOUN", "NOUN"], "data.jsonl:1: all tags of these rows are NOUN: there is nothing to learn"),
    ],
)
def test_what_is_no_class_of_a_word_is_refused(tags, message):
    with pytest.raises(DataError) as caught:
        TokenClassification.from_rows(rows_of({"tokens": ["a", "b"], "tags": tags}))
    assert str(caught.value).startswith(message)


# Scored

NEW_NAMES = {"L": "E", "U": "S", "M": "I", "W": "S"}


def random_rows(task, seed: int, count: int) -> list[list[str]]:
    """Rows of tags as a model may give them, most of them broken."""
    draw = random.Random(seed)
    return [[draw.choice(task.labels) for _ in range(1 + draw.randrange(12))] for _ in range(count)]


def assert_counted_as_seqeval_does(report, counted):
    types = {name for name in counted if not name.endswith(" avg")}
    assert set(report.classes) == types and types, "there is something to compare"
    for name in types | {"micro avg", "macro avg", "weighted avg"}:
        ours = report.classes.get(name) or report.averages[name.removesuffix(" avg")]
        theirs = counted[name]
        assert (ours.precision, ours.recall, ours.f1, ours.support) == (
            theirs["precision"],
            theirs["recall"],
            theirs["f1-score"],
            theirs["support"],
        )


@pytest.mark.parametrize("kinds", ["XY", ""])
@pytest.mark.parametrize("scheme", WITH_ENDS)
def test_schemes_with_ends_are_scored_as_seqevals_strict_mode_does_tags_that_are_renamed(
    tokenizer, scheme, kinds
):
    tags = [f"{letter}-{kind}" for letter in scheme.letters for kind in kinds] or list(scheme.letters)
    task = learned(" ".join(tags))
    assert task.scheme == scheme
    truth = [scheme.repaired(row) for row in random_rows(task, 0, 60)]
    predicted = random_rows(task, 1, 60)
    predicted = [(guess + ["O"] * 12)[: len(row)] for row, guess in zip(truth, predicted, strict=True)]
    predicted[::3] = truth[::3]
    by_hand = [
        [[NEW_NAMES.get(tag[0], tag[0]) + tag[1:] for tag in row] for row in rows]
        for rows in (truth, predicted)
    ]
    counted = classification_report(*by_hand, mode="strict", scheme=IOBES, output_dict=True, zero_division=0)
    report = report_of(task, tokenizer, truth, predicted)
    assert_counted_as_seqeval_does(report, counted)
    assert report.headline_name == "f1_micro" and 0 < report.headline == counted["micro avg"]["f1-score"] < 1
    assert report.accuracy == sum(
        t == p for ts, ps in zip(truth, predicted, strict=True) for t, p in zip(ts, ps, strict=True)
    ) / sum(map(len, truth))


@pytest.mark.parametrize(
    "rows", [["O B-X I-X B-Y"], ["O I-X B-X I-X I-Y"], ["O I-X I-Y"], ["O B I"], ["I B"]]
)
def test_schemes_without_ends_are_scored_as_conlleval_does(tokenizer, rows):
    task = learned(*rows)
    truth, predicted = random_rows(task, 2, 60), random_rows(task, 3, 60)
    predicted = [(guess + ["O"] * 12)[: len(row)] for row, guess in zip(truth, predicted, strict=True)]
    report = report_of(task, tokenizer, truth, predicted)
    assert_counted_as_seqeval_does(
        report, classification_report(truth, predicted, output_dict=True, zero_division=0)
    )


@pytest.mark.parametrize("scheme", WITH_ENDS)
def test_a_report_of_nothing_but_broken_entities_is_zero(tokenizer, scheme):
    task = learned(" ".join(f"{letter}-X" for letter in scheme.letters))
    report = report_of(task, tokenizer, [["O", "O"]], [[f"{scheme.letters[1]}-X", "O"]])
    assert (report.headline, report.accuracy, report.classes) == (0.0, 0.5, {})


def test_a_type_without_a_name_is_called_as_seqeval_calls_it(tokenizer):
    task = learned("B I L U")
    report = report_of(task, tokenizer, [["B", "L", "O", "U"]], [["B", "L", "O", "O"]])
    assert set(report.classes) == {"_"} and report.classes["_"].recall == 0.5
    (example,) = encoded(task, tokenizer, tagged("a b", "O U")).examples
    assert task.classes(example) == {"_"}


# Classes of words


def test_classes_of_words_are_scored_as_scikit_learn_does(tokenizer):
    task = learned("DET NOUN VERB $")
    draw = random.Random(0)
    truth = [[draw.choice(task.labels) for _ in range(5)] for _ in range(40)]
    predicted = [[tag if draw.random() < 0.6 else draw.choice(task.labels) for tag in row] for row in truth]
    report = report_of(task, tokenizer, truth, predicted)
    flat = list(chain(*truth)), list(chain(*predicted))
    accuracy = sum(t == p for t, p in zip(*flat, strict=True)) / 200
    assert (report.headline_name, report.headline, report.accuracy) == ("accuracy", accuracy, accuracy)
    assert 0.4 < accuracy < 0.9
    scores = precision_recall_fscore_support(*flat, labels=list(task.labels), zero_division=0)
    for name, *theirs in zip(task.labels, *scores, strict=True):
        ours = report.classes[name]
        assert [ours.precision, ours.recall, ours.f1, ours.support] == theirs
    for name in ("macro", "weighted"):
        p, r, f1, _ = precision_recall_fscore_support(*flat, average=name, zero_division=0)
        assert (report.averages[name].precision, report.averages[name].recall) == (p, r)
        assert report.averages[name].f1 == f1
    assert json.dumps(report.as_dict())


def test_a_word_without_a_token_has_no_class_and_counts_as_wrong(tokenizer):
    task = learned("DET NOUN")
    found = encoded(task, tokenizer, tagged("a \u200b card", "DET NOUN NOUN"))
    assert found.notes == (
        "1 word without any token (empty words, zero-width characters and the like) count as wrong",
    )
    (prediction,) = task.decode(gold_logits(task, found.examples), found.examples)
    assert prediction.as_dict() == {"tags": ["DET", None, "NOUN"]}
    report = task.report(found.examples, [prediction])
    assert report.accuracy == 2 / 3
    assert (report.classes["NOUN"].precision, report.classes["NOUN"].recall) == (1.0, 0.5)
    assert report.classes["DET"].f1 == 1.0, "no class is said to be predicted for it"
    assert report.averages["macro"].recall == 0.75
    cut = task.encode(rows_of(tagged("a b card", "DET NOUN NOUN")), tokenizer, max_length=4)
    assert cut.notes[0].endswith("were cut there; 1 word lost their tags and count as wrong")


def test_an_example_is_of_the_classes_of_its_words(tokenizer):
    task = learned("DET NOUN VERB")
    (example,) = encoded(task, tokenizer, tagged("a b c", "DET NOUN DET")).examples
    assert task.classes(example) == {"DET", "NOUN"} and task.num_scored(example) == 3


def test_a_class_that_is_not_known_is_refused_and_case_alone_is_no_difference(tokenizer):
    task = learned("DET NOUN")
    with pytest.raises(DataError, match=r"data\.jsonl:1: label 'NUON' does not stand in .* mean 'NOUN'\?"):
        encoded(task, tokenizer, tagged("a", "NUON"))
    assert encoded(task, tokenizer, tagged("a", "noun")).recased == ("noun",)


# Numbers for tags

NAMES = ("O", "B-X", "L-X", "U-X")


@pytest.mark.parametrize("tags", [[1, 2, 0], "1 2 0", ["1", "L-X", "0"]])
def test_numbers_are_the_tags_that_label_names_has_for_them(tokenizer, tags):
    rows = rows_of({"tokens": ["a", "b", "c"], "tags": tags})
    task = TokenClassification.from_rows(rows, label_names=list(NAMES))
    assert task.labels == ("O", "B-X", "I-X", "L-X", "U-X") and task.scheme == "BILOU"
    (example,) = task.encode(rows, tokenizer, max_length=9).examples
    assert [task.labels[tag] for tag in example.targets.tags] == ["B-X", "L-X", "O"]


@pytest.mark.parametrize(
    ("tags", "names", "message"),
    [
        ([0, 3], None, "data.jsonl:2: tags[0] is 0, a number; say which tag each number is (`label_names`)"),
        ([0, 4], NAMES, "data.jsonl:2: tags[1] is 4, but `label_names` has 4 tags, 0 to 3"),
        ([0, -1], NAMES, "data.jsonl:2: tags[1] is -1, but `label_names` has 4 tags, 0 to 3"),
        (
            [0, -100],
            NAMES,
            "data.jsonl:2: tags[1] is -100, which marks pieces of words: such rows are tokenized",
        ),
        (
            [-100, 0],
            None,
            "data.jsonl:2: tags[0] is -100, which marks pieces of words: such rows are tokenized",
        ),
        ([0, "O"], NAMES, "data.jsonl:2: tags[0] is 0, not a string"),
        ([True, False], NAMES, "data.jsonl:2: tags[0] is True, not a string"),
    ],
)
def test_numbers_that_name_no_tag_are_refused_by_line(tokenizer, tags, names, message):
    rows = rows_of(tagged("a b", "B-X L-X"), {"tokens": ["a", "b"], "tags": tags})
    task = TokenClassification(("O", "B-X", "I-X", "L-X", "U-X"), label_names=names)
    for refuse in (
        lambda: TokenClassification.from_rows(rows, label_names=names),
        lambda: task.encode(rows, tokenizer, max_length=9),
    ):
        with pytest.raises(DataError) as caught:
            refuse()
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize("tags", ["[0, 1]", ["O", "B-Y"]])
def test_tags_that_label_names_has_not_are_refused(tags):
    rows = rows_of(tagged("a b", "B-X L-X"), {"tokens": ["a", "b"], "tags": tags})
    with pytest.raises(
        DataError, match=r"data\.jsonl:2: tag '.*' is not among `label_names`: O, B-X, L-X, U-X"
    ):
        TokenClassification.from_rows(rows, label_names=NAMES)


def test_classes_may_be_called_by_numbers_that_are_named():
    rows = rows_of({"tokens": ["a", "b"], "tags": [1, 0]})
    assert TokenClassification.from_rows(rows, label_names=("0", "1")).labels == ("0", "1")


# Mended

with_ends = st.sampled_from(WITH_ENDS)


@st.composite
def any_row(draw):
    """A scheme, and a row of its tags in any order."""
    scheme = draw(with_ends)
    kinds = draw(st.sampled_from([["-X"], ["-X", "-Y-Z"], [""]]))
    tags = ["O", *(letter + kind for letter in scheme.letters for kind in kinds)]
    return scheme, draw(st.lists(st.sampled_from(tags), max_size=9))


@st.composite
def well_formed_row(draw):
    scheme = draw(with_ends)
    kinds = draw(st.sampled_from([["-X"], ["-X", "-Y-Z"], [""]]))
    begin, inside, end, single = scheme.letters
    tags: list[str] = []
    for length in draw(st.lists(st.integers(0, 4), max_size=5)):
        letters = ["O", single][length] if length < 2 else [begin, *[inside] * (length - 2), end]
        kind = draw(st.sampled_from(kinds)) if length else ""
        tags += [letter + kind for letter in letters]
    return scheme, tags


def spans(scheme: Scheme, tags: list[str]) -> set[tuple[str, int, int]]:
    """(type, first, last) of the entities of a well-formed row."""
    found, begin, (first, _, end, single) = set(), 0, scheme.letters
    for place, tag in enumerate(tags):
        begin = place if tag[0] in (first, single) else begin
        if tag[0] in (end, single):
            found.add((tag[1:], begin, place))
    return found


@given(any_row())
def test_a_repaired_row_keeps_to_its_scheme_and_marks_the_same_words(case):
    scheme, tags = case
    mended = scheme.repaired(tags)
    assert scheme.first_break(mended) is None, f"{tags} became {mended}"
    assert [tag[1:] for tag in mended] == [tag[1:] for tag in tags], "the types of words are as they were"
    assert [tag == "O" for tag in mended] == [tag == "O" for tag in tags], "and so are the words outside"
    assert scheme.repaired(mended) == mended
    marked = spans(scheme, mended)
    for place, tag in enumerate(tags):
        first, _, end, single = scheme.letters
        if tag[0] in (first, single):
            assert any(begin == place for _, begin, _ in marked), f"{tag} at {place} begins an entity"
        if tag[0] in (end, single):
            assert any(last == place for _, _, last in marked), f"{tag} at {place} ends one"


@given(well_formed_row())
def test_a_well_formed_row_has_no_break_and_is_not_changed_by_repair(case):
    scheme, tags = case
    assert scheme.first_break(tags) is None and scheme.repaired(tags) == tags


@given(any_row())
def test_a_break_is_where_seqeval_finds_less_than_is_marked(case):
    """Without a break strict reading finds all words that are not outside; with one it loses some."""
    from seqeval.scheme import Tokens

    scheme, tags = case
    strict = Tokens([NEW_NAMES.get(tag[0], tag[0]) + tag[1:] for tag in tags], IOBES).entities
    found = {place for entity in strict for place in range(entity.start, entity.end)}
    marked = {place for place, tag in enumerate(tags) if tag != "O"}
    assert (found == marked) == (scheme.first_break(tags) is None)


@pytest.mark.parametrize(
    ("tags", "mended"),
    [
        ("I-X I-X O", "B-X L-X O"),
        ("B-X O L-X", "U-X O U-X"),
        ("B-X I-Y L-Y", "U-X B-Y L-Y"),
        ("B-X I-X B-X L-X", "B-X L-X B-X L-X"),
        ("B-X U-X I-X", "U-X U-X U-X"),
        ("L-X L-X", "U-X U-X"),
        ("B-X I-X I-X", "B-X I-X L-X"),
    ],
)
def test_entities_are_read_leniently_and_written_in_the_scheme(tags, mended):
    task = learned("U-X U-Y")
    row = Row(tagged("a b c d"[: len(tags.split()) * 2 - 1], tags) | {"more": 1}, "a.jsonl:7")
    assert task.repair(row) == Row({**row.fields, "tags": mended.split()}, "a.jsonl:7")


def test_a_row_without_a_break_is_itself_after_repair(tokenizer):
    bilou, bio, classes = learned("U-X"), learned("O B-X I-X"), learned("DET NOUN")
    for task, tags in ((bilou, "O B-X L-X"), (bio, "I-X O I-X"), (classes, "DET DET NOUN")):
        row = Row(tagged("a b c", tags), "a.jsonl:1")
        assert task.repair(row) is row
    numbers = TokenClassification(bilou.labels, label_names=NAMES)
    row = numbers.repair(Row({"tokens": ["a", "b"], "tags": [1, 1]}, "a.jsonl:1"))
    assert row.fields["tags"] == ["U-X", "U-X"]
    with pytest.raises(DataError, match=r"a\.jsonl:1: tag 'E-X' is not of BILOU"):
        bilou.repair(Row(tagged("a", "E-X"), "a.jsonl:1"))


@pytest.mark.parametrize("scheme", WITH_ENDS)
def test_a_broken_row_is_refused_in_the_schemes_own_letters(tokenizer, scheme):
    begin, inside, end, single = scheme.letters
    task = learned(f"{begin}-X {inside}-X {end}-X {single}-X")
    with pytest.raises(DataError) as caught:
        encoded(task, tokenizer, tagged("a b", f"{begin}-X O"))
    assert str(caught.value) == (
        f"data.jsonl:1: not {scheme}: tag 2 is 'O' after 'B-X': an entity that B or {inside} leaves open goes on with "
        f"{inside} or {end} of its type"
    )


def test_tags_of_every_scheme_come_back_from_logits(tokenizer):
    for scheme in WITH_ENDS:
        begin, inside, end, single = scheme.letters
        task = learned(f"{begin}-X {inside}-X {end}-X {single}-X")
        tags = f"{begin}-X {inside}-X {end}-X {single}-X O"
        found = encoded(task, tokenizer, tagged("a b c a b", tags)).examples
        (prediction,) = task.decode(gold_logits(task, found), found)
        assert " ".join(prediction.tags) == tags, "a file of a scheme gives a model that answers in it"
        assert task.report(found, [prediction]).headline == 1
        assert torch.isfinite(task.loss(gold_logits(task, found), found))
