"""Every format gives the same rows; every bad source is one line that names file and line."""

import gzip
import json
import os
import threading

import pytest

from data.samples import rows_of, write
from yanma.data.rows import Row, read_rows
from yanma.errors import DataError

TEXTS = [
    {"text": "Where is my card?", "label": "card"},
    {"text": 'He said "no", twice', "label": "no, never"},
    {"text": " \u2028 我的卡, 丢了 \u00a0", "label": "卡"},
]
TAGGED = [
    {"tokens": ["in", "New", "York", '"'], "tags": ["O", "B-LOC", "I-LOC", "O"]},
    {"tokens": ["\u200b", "北京", "#"], "tags": ["O", "B-LOC", "O"]},
]


def refused(path, columns=("text", "label"), **more) -> str:
    """The one line that refuses a source."""
    with pytest.raises(DataError) as caught:
        read_rows(path, columns, **more)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message, (
        f"one line that begins with the file: {message!r}"
    )
    return message.removeprefix(str(path))


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_texts(tmp_path, kind, gz):
    path = write(tmp_path / f"data.{kind}{gz}", [{"id": 7, **row} for row in TEXTS])
    rows = read_rows(path, ["label", "text"])
    assert [row.fields for row in rows] == TEXTS, f"{kind}{gz} gives other rows than were written"
    first = {"jsonl": "1", "csv": "2", "tsv": "2", "parquet": "row 1"}[kind]
    assert rows[0].where == f"{path}:{first}", f"{kind}{gz}: the first row stands at {first}"


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet", "conll"])
def test_every_format_gives_the_same_words(tmp_path, kind, gz):
    rows = read_rows(write(tmp_path / f"data.{kind}{gz}", TAGGED), ["tokens", "tags"])
    words = [{"tokens": row.words("tokens"), "tags": row.words("tags")} for row in rows]
    assert words == TAGGED, f"{kind}{gz} gives other words than were written"


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_field_may_hold_newlines_and_where_is_the_line_on_which_its_row_begins(tmp_path, kind):
    rows = [
        {"text": "one\n\ntwo", "label": "a"},
        {"text": "three\r\nfour", "label": "b"},
        {"text": "5", "label": "a"},
    ]
    read = read_rows(write(tmp_path / f"data.{kind}", rows), ["text", "label"])
    assert [row.fields for row in read] == rows, f"{kind} changes newlines inside a field"
    lines = {"jsonl": ["1", "2", "3"], "csv": ["2", "5", "7"], "parquet": ["row 1", "row 2", "row 3"]}[kind]
    assert [row.where.rpartition(":")[2] for row in read] == lines, f"{kind} counts lines wrongly"


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "conll"])
def test_a_byte_order_mark_and_windows_newlines_change_nothing(tmp_path, kind):
    rows = [{"tokens": ["a", "b"], "tags": ["O", "S-X"]}] * 2
    path = write(tmp_path / f"data.{kind}", rows)
    plain = read_rows(path, ["tokens", "tags"])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert read_rows(path, ["tokens", "tags"]) == plain, f"{kind} with a BOM and \\r\\n reads differently"


def test_conll_has_columns_in_between_and_marks_of_documents(tmp_path):
    path = tmp_path / "eng.conll"
    path.write_text("-DOCSTART- -X- O\n\nEU NNP B-ORG\nsays  VBZ O\n \n\n\nNo UH O\n", encoding="utf-8")
    rows = read_rows(path, ["tokens", "tags"])
    assert [(row.where, row.fields) for row in rows] == [
        (f"{path}:3", {"tokens": ["EU", "says"], "tags": ["B-ORG", "O"]}),
        (f"{path}:8", {"tokens": ["No"], "tags": ["O"]}),
    ], "first column the token, last the tag, the line of the first token"


def test_conll_without_tags_can_be_read_for_predictions(tmp_path):
    path = tmp_path / "data.conll"
    path.write_text("EU\nsays\n\nNo\n", encoding="utf-8")
    assert [row.words("tokens") for row in read_rows(path, ["tokens"])] == [["EU", "says"], ["No"]]
    assert ":1, read as CoNLL: one column" in refused(path, ["tokens", "tags"]), (
        "tags are wanted but the file has none"
    )


def test_tsv_takes_quotes_as_they_stand(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text('text\tlabel\n"Hi\ta\n"Ho" he said\tb\n', encoding="utf-8")
    assert [row.fields["text"] for row in read_rows(path, ["text"])] == ['"Hi', '"Ho" he said']


def test_csv_takes_a_field_of_any_length(tmp_path):
    path = write(tmp_path / "data.csv", [{"text": "x" * 200_000, "label": "a"}])
    (row,) = read_rows(path, ["text"])
    assert len(row.text("text")) == 200_000, "csv's own limit of 131,072 characters a field is lifted"


def test_a_file_is_read_once(tmp_path):
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)  # a pipe has nothing to give to a second reader, which waits for ever: hence the threads
    content = "".join(json.dumps(row) + "\n" for row in TEXTS)
    read: list[Row] = []
    threads = [
        threading.Thread(target=lambda: path.write_text(content, encoding="utf-8"), daemon=True),
        threading.Thread(target=lambda: read.extend(read_rows(path, ["text", "label"])), daemon=True),
    ]
    for thread in threads:
        thread.start()
    threads[1].join(timeout=10)
    assert len(read) == len(TEXTS), "rows of a file that can be read only once"


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "conll", "parquet"])
def test_an_empty_file_is_refused(tmp_path, kind):
    path = tmp_path / f"data.{kind}"
    path.touch()
    assert ":" in refused(path, ["tokens", "tags"])
    path.with_suffix(f".{kind}.gz").write_bytes(gzip.compress(b""))
    assert ":" in refused(path.with_suffix(f".{kind}.gz"), ["tokens", "tags"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x", "label": "y"}\n{"text": "x"\n', ":2: not JSON: Expecting ',' delimiter"),
        ("a.jsonl", b'\n["x", "y"]\n', ':2: a row must be one JSON object {...}; this is ["x", "y"]'),
        ("a.jsonl", b"[" * 100_000 + b"\n", ":1: not JSON"),
        (
            "a.jsonl",
            b'{"text": "x", "labels": 1}\n',
            ":1: no column 'label'; did you mean 'labels'? it has: text, labels",
        ),
        ("a.jsonl", b'{"text": "x", "label": "y"}\n{"zzz": 1}\n', ":2: no column 'text'; it has: zzz"),
        ("a.jsonl", b"\n \n", ": no rows in it"),
        ("a.jsonl", b'{"text": "\xe4"}\n', ":1: not UTF-8: byte 11 of the line is 0xe4"),
        ("a.csv", b"text,label\nx,y\nx\xff,y\n", ":3: not UTF-8: byte 2 of the line is 0xff"),
        ("a.csv", "text,label\nx,y\n".encode("utf-16"), ":1: not UTF-8 (it looks like UTF-16)"),
        (
            "a.jsonl",
            gzip.compress(b'{"text": "x"}', mtime=0),
            ":1: not UTF-8 (it looks like gzip: name it .gz)",
        ),
        ("a.csv", b"text,label\n", ": no rows in it"),
        (
            "a.csv",
            b"text,label\nx,y\n\nx,y,z\n",
            ":4: 3 fields, but the header has 2; a comma inside a field needs",
        ),
        ("a.csv", b"text,label\nx\n", ":2: 1 fields, but the header has 2"),
        (
            "a.csv",
            b'text,label\nx,y\n"x\ny,z\n',
            ":3: not CSV: unexpected end of data; it begins on this line",
        ),
        ("a.csv", b'text,label\n"x"y,z\n', ":2: not CSV: ',' expected after '\"'"),
        ("a.csv", b"text,Label\nx,y\n", ":1: no column 'label'; did you mean 'Label'? it has: text, Label"),
        ("a.csv", b"text,label,text\nx,y,z\n", ":1: 2 columns are called 'text'"),
        ("a.tsv", b"text\tlabel\nx y\n", ":2: 1 fields, but the header has 2"),
        ("a.tsv", b"text,label\nx,y\n", ":1: no column 'text'; it has: text,label"),
        ("a.conll", b"a O\nb\n", ":2, read as CoNLL: 1 columns, but the lines before have 2"),
        ("a.conll", b"a O\nb O\n", ":1, read as CoNLL: no column 'text'; it has: tokens, tags"),
        (
            "a.txt",
            b"a O\nb O\n",
            ": .txt is plain text, and rows are wanted here; say what it holds: `format` conll",
        ),
        ("a.parquet", b"PAR1 this is none", ": cannot be read as parquet: "),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "x", "label": "y"}\n' * 500, mtime=0)[:-20],
            ": the gzip file is damaged or cut off",
        ),
        ("a.parquet.gz", gzip.compress(b"x" * 500, mtime=0)[:-20], ": the gzip file is damaged or cut off"),
        ("a.csv.gz", b"text,label\nx,y\n", ":1: the gzip file is damaged or cut off: Not a gzipped file"),
        ("a.json", b"[]", ": no rows in it"),
        (
            "a.json",
            b'{"text": "x", "label": "y"}\n{"text": "x"}',
            ": not JSON: Extra data: line 2 column 1 (char 28); one",
        ),
        ("a.json", b'{"text": "x"}', ": one JSON object, and an array of objects is wanted: it has text"),
        (
            "a.json",
            b'[{"text": "x", "label": "y"}, 5]',
            "[1]: a row must be one JSON object {...}; this is 5",
        ),
        (
            "a.xlsx",
            b"PK",
            ': a spreadsheet; save it as CSV (in UTF-8), or with pandas: pandas.read_excel("a.xlsx")',
        ),
        (
            "a.doc",
            b"",
            ": the name does not say its format; say `format`, or name it one of .jsonl",
        ),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    columns = ["tokens", "tags"] if name == "a.conll" and b"b\n" in content else ["text", "label"]
    said = refused(path, columns)
    assert message in said, f"{name}: {said!r} does not say {message!r}"


def test_a_damaged_gz_file_is_refused_in_the_middle(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    damaged = bytearray(gzip.compress(os.urandom(5000).hex().encode()))
    damaged[2000:2100] = bytes(100)
    path.write_bytes(bytes(damaged))
    assert "the gzip file is damaged" in refused(path)


def test_a_missing_file_is_named_with_the_nearest(tmp_path):
    write(tmp_path / "train.jsonl", TEXTS)
    assert refused(tmp_path / "trian.jsonl") == ": no such file; did you mean 'train.jsonl'?"
    assert "there is no folder" in refused(tmp_path / "nowhere" / "train.jsonl")


def test_a_folder_and_an_unreadable_file_are_refused(tmp_path, monkeypatch):
    assert "a folder without a file of rows; known: .jsonl" in refused(tmp_path)
    path = write(tmp_path / "a.jsonl", TEXTS)
    assert "a file has no splits" in refused(path, split="train")

    def denied(*_args, **_more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", denied)
    assert refused(path) == ": Permission denied"


def test_a_missing_column_of_parquet_is_named_with_the_nearest(tmp_path):
    path = write(tmp_path / "a.parquet", TEXTS)
    said = refused(path, ["texts"])
    assert said.startswith(
        ": no column 'texts'; did you mean 'text'? it has: text, label (`columns` says which is meant"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "'x' is null, not a text"),
        (5, "'x' is 5, not a text"),
        ("", "'x' is empty"),
        (" \t\u3000", "'x' is empty"),
        ("half \ud83d", "'x' holds \\ud83d, half of a surrogate pair"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(value, message):
    with pytest.raises(DataError, match=r"^data\.jsonl:1: ") as caught:
        rows_of({"x": value})[0].text("x")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "'x' is null, not a list"),
        ([], "'x' is empty"),
        (" ", "'x' is empty"),
        (["a", 5], "x[1] is 5, not a string"),
        (["a", None], "x[1] is null, not a string"),
        (["\udc00"], "half of a surrogate pair"),
    ],
)
def test_words_that_cannot_be_used_are_refused(value, message):
    with pytest.raises(DataError, match=r"^data\.jsonl:1: ") as caught:
        rows_of({"x": value})[0].words("x")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "is null, not the name of a class"),
        (0.5, "is 0.5, not the name of a class"),
        (["a"], "is ['a'], not the name"),
        (" ", "is empty; a class needs a name"),
    ],
)
def test_a_label_that_cannot_be_used_is_refused(value, message):
    with pytest.raises(DataError, match=r"^data\.jsonl:1: ") as caught:
        rows_of({"x": value})[0].label("x")
    assert message in str(caught.value)


def test_a_value_whose_column_was_not_read_is_refused():
    with pytest.raises(DataError, match=r"data.jsonl:1: no column 'y'; it has: x"):
        rows_of({"x": "a"})[0].text("y")


def hub_set():
    import datasets

    tag = datasets.ClassLabel(names=["O", "B-LOC"])
    features = {"tokens": datasets.List(datasets.Value("string")), "ner": datasets.List(tag), "kind": tag}
    return datasets.Dataset.from_dict(
        {"tokens": [["in", "Rio"], ["no"]], "ner": [[0, 1], [0]], "kind": [1, -1]},
        datasets.Features(features),
    )


NAMED = [
    {"tokens": ["in", "Rio"], "ner": ["O", "B-LOC"], "kind": "B-LOC"},
    {"tokens": ["no"], "ner": ["O"], "kind": None},
]


@pytest.mark.parametrize(
    ("source", "split", "asked"),
    [
        ("who/what", "train", ("who/what",)),
        ("who/what:train", None, ("who/what",)),
        ("who/what:small", "train", ("who/what", "small")),
        ("who/what:small:train", None, ("who/what", "small")),
    ],
)
def test_a_set_of_datasets_has_the_names_of_its_classes(monkeypatch, source, split, asked):
    calls = []

    def load_dataset(*names, split):
        calls.append((names, split))
        return hub_set()

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    rows = read_rows(source, ["tokens", "ner", "kind"], split)
    assert calls == [(asked, "train")], "name and configuration go to datasets as they are said"
    assert [row.fields for row in rows] == NAMED, "numbers of classes become their names"
    assert [row.where for row in rows] == ["who/what[train][0]", "who/what[train][1]"]


def test_parquet_written_by_datasets_has_the_names_of_its_classes(tmp_path):
    hub_set().to_parquet(tmp_path / "a.parquet")
    rows = read_rows(tmp_path / "a.parquet", ["tokens", "ner", "kind"])
    assert [row.fields for row in rows] == NAMED, "numbers of classes become their names"


def test_a_set_without_a_split_or_a_column_is_refused(monkeypatch):
    import datasets

    both = datasets.DatasetDict(train=hub_set(), test=hub_set())
    monkeypatch.setattr("datasets.load_dataset", lambda name, split: both if split is None else both[split])
    assert refused("who/what", ["ner"]) == ": say which split, as in who/what:train; it has: train, test"
    with pytest.raises(DataError, match=r"who/what\[test\]: no column 'tags'; it has: tokens, ner, kind"):
        read_rows("who/what:test", ["tags"])


def test_a_name_that_nothing_is_known_by_is_one_line():
    said = refused("no-such-owner/no-such-set", split="train")
    assert "no such file, and datasets cannot load it (mind its spelling, and the network): " in said
