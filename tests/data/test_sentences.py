"""A word a row: words are gathered to sentences, or the file is refused by name."""

import csv
import json
import re

import pytest

from data.samples import rows_of, write
from yanma.data.columns import Columns
from yanma.data.sentences import task_rows
from yanma.errors import ConfigError, DataError
from yanma.objectives import TokenClassification

SENTENCES = {
    "1": ("in New York", "O B-LOC I-LOC"),
    "2": ("Ann", "B-PER"),
    "3": ("a lost card", "O O O"),
}
NAMED = {"tokens": "word", "tags": "tag", "sentence": "Sentence #"}
COLUMNS = TokenClassification.columns_named(NAMED)


def word_a_row(*, filled=True):
    rows = []
    for number, (words, tags) in SENTENCES.items():
        for place, (word, tag) in enumerate(zip(words.split(), tags.split(), strict=True)):
            own = number if filled or place == 0 else ""
            rows.append({"Sentence #": own, "word": word, "pos": "X", "tag": tag})
    return rows


@pytest.mark.parametrize("filled", [True, False], ids=["every row", "the first row"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz"])
def test_words_are_gathered_by_the_id_in(tmp_path, name, filled):
    rows = task_rows(write(tmp_path / name, word_a_row(filled=filled)), COLUMNS)
    found = [(" ".join(row.words("word")), " ".join(row.words("tag"))) for row in rows]
    assert found == list(SENTENCES.values())
    assert TokenClassification.from_rows(rows, COLUMNS).labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def test_an_id_may_be_a_number_and_null_goes_on_with_it(tmp_path):
    rows = [
        {"id": 7, "word": "a", "tag": "O"},
        {"id": None, "word": "b", "tag": "O"},
        {"id": 8, "word": "c", "tag": "O"},
    ]
    columns = Columns(("word",), "tag", "id")
    assert [row.words("word") for row in task_rows(write(tmp_path / "a.jsonl", rows), columns)] == [
        ["a", "b"],
        ["c"],
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_word_a_row_without_its_sentence_is_refused(tmp_path, tokenizer, name):
    columns = TokenClassification.columns_named({"tokens": "word", "tags": "tag"})
    rows = task_rows(write(tmp_path / name, word_a_row()), columns)
    with pytest.raises(
        DataError, match=r"'word' is one word here and in each of the 7 rows: .*sentence=NAME"
    ):
        TokenClassification.from_rows(rows, columns)
    with pytest.raises(DataError, match="one word here"):
        TokenClassification(("O", "B-LOC", "I-LOC", "B-PER"), columns).check(rows)


def test_rows_that_are_a_word_on_purpose_are_lists(tokenizer):
    rows = rows_of({"tokens": ["Ann"], "tags": ["B-X"]}, {"tokens": ["in"], "tags": ["O"]})
    task = TokenClassification.from_rows(rows)
    assert len(task.encode(rows, tokenizer, max_length=9).examples) == 2
    asked = rows_of({"tokens": "Ann"}, {"tokens": "in"})
    assert len(task.encode(asked, tokenizer, max_length=9).examples) == 2, (
        "to predict a word alone is no slip"
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("", "a"), ("1", "b")], "a.jsonl:1: 'id' is empty, and no row before says the sentence"),
        (
            [("1", "a"), ("2", "b"), ("1", "c")],
            "a.jsonl:3: sentence '1' of column 'id' goes on here after another one",
        ),
        ([("1", "a"), ("1", "")], "a.jsonl:2: 'word' is empty"),
        ([("1", ["a", "b"])], "a.jsonl:1: 'word' is a list; with a column for the sentence"),
    ],
)
def test_words_whose_sentence_is_not_clear_are_refused_by_their_place(tmp_path, monkeypatch, rows, message):
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"id": number, "word": word, "tag": "O"}) + "\n" for number, word in rows]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    with pytest.raises(DataError, match=re.escape(message)):
        task_rows("a.jsonl", Columns(("word",), "tag", "id"))


def test_a_task_that_learned_from_a_word_a_row_is_asked_for_lists(tokenizer):
    task = TokenClassification(("O", "B-X"), COLUMNS)
    with pytest.raises(
        DataError, match="'word' is a text; give all words of a sentence in one row, as a list"
    ):
        task.encode(rows_of({"word": "Ann"}), tokenizer, max_length=9)
    assert len(task.encode(rows_of({"word": ["in", "a"]}), tokenizer, max_length=9).examples) == 1


def test_a_text_has_no_column_for_its_sentence():
    from yanma.objectives import SequenceClassification

    with pytest.raises(ConfigError, match="no column 'sentence'"):
        SequenceClassification.columns_named({"sentence": "id"})


@pytest.mark.parametrize(
    "cell",
    [
        "['Maria', 'lives']",
        "['Maria' 'lives']",
        '["Maria", "lives"]',
        "array(['Maria', 'lives'], dtype=object)",
    ],
)
def test_a_list_as_python_prints_it_is_refused(tmp_path, cell):
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["tokens", "tags"], [cell, "B-PER O"], ["in Rio", "O B-LOC"]])
    columns = TokenClassification.columns_named({})
    with pytest.raises(
        DataError, match=r"a.csv:2: 'tokens' is a list as Python prints it, .*; write its words"
    ):
        TokenClassification.from_rows(task_rows(path, columns), columns)


@pytest.mark.parametrize("text", ["[ 1 ] the", "[ 'a' ] b", "['tis true", "a ['b']", "[ ]"])
def test_brackets_that_are_words_are_words(text):
    (row,) = rows_of({"tokens": text})
    assert row.words("tokens") == text.split()
