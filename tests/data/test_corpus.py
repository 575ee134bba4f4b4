"""Documents come in order, one by one, from every kind of source; what cannot be read is named by file and line."""

import gzip
import json

import pytest

from yanma.data.corpus import Document, read_documents
from yanma.data.hold_out import hold_out
from yanma.data.reading import Reading
from yanma.errors import ConfigError, DataError

PLAIN = "Where is my card?\r\n\n我来到北京\n  \nIt is here.\nThere.\n"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(text, str):
        text = gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode()
    path.write_bytes(text)
    return str(path)


def jsonl(*texts):
    return "".join(
        json.dumps({"id": n, "text": text}, ensure_ascii=False) + "\n" for n, text in enumerate(texts)
    )


def texts_of(*sources, **how):
    return [document.text for document in read_documents(list(map(str, sources)), **how)]


@pytest.mark.parametrize("name", ["a.txt", "a.text", "A.TXT.gz"])
def test_plain_text_by_each_rule(tmp_path, name):
    path = write(tmp_path / name, PLAIN)
    wanted = {
        "line": [("Where is my card?", 1), ("我来到北京", 3), ("It is here.", 5), ("There.", 6)],
        "paragraph": [("Where is my card?", 1), ("我来到北京", 3), ("It is here.\nThere.", 5)],
        "file": [(PLAIN, 1)],
    }
    for rule, documents in wanted.items():
        found = list(read_documents([path], rule=rule))
        assert found == [Document(text, f"{path}:{line}") for text, line in documents], f"by {rule}"


def test_rows_give_the_text_of_the_column(tmp_path):
    import pyarrow
    from pyarrow import parquet

    table = {"id": [1, 2, 3], "text": ["one", None, "two, three"]}
    parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    sources = [
        write(tmp_path / "a.jsonl.gz", jsonl("eins", "", "zwei\nDrei")),
        write(tmp_path / "a.csv", 'id,text\n1,"uno, dos"\n2,\n3,tres\n'),
        write(tmp_path / "a.tsv", "text\tid\nun\t1\n"),
        str(tmp_path / "a.parquet"),
    ]
    documents = read_documents(sources)
    assert [document.text for document in documents] == [
        "eins", "zwei\nDrei", "uno, dos", "tres", "un", "one", "two, three",
    ]  # fmt: skip
    assert documents.num_empty == 3, "one of jsonl, csv and parquet each is empty"
    other = write(tmp_path / "b.jsonl", '{"body": "here", "text": "not here"}\n')
    assert texts_of(other, column="body") == ["here"]


def test_shards_of_folders_and_globs_come_in_sorted_order(tmp_path):
    for name in ("b/2.txt", "b/10.txt", "a/1.jsonl.gz", "c.txt.gz"):
        write(tmp_path / name, jsonl(name) if "jsonl" in name else name)
    write(tmp_path / "README.md", "about")
    assert texts_of(tmp_path) == ["a/1.jsonl.gz", "b/10.txt", "b/2.txt", "c.txt.gz"], (
        "README.md is passed over"
    )
    assert texts_of(tmp_path / "b/*.txt", tmp_path / "c.txt.gz") == ["b/10.txt", "b/2.txt", "c.txt.gz"]
    assert texts_of(tmp_path / "**/*.txt*") == ["b/10.txt", "b/2.txt", "c.txt.gz"]


def test_documents_are_read_when_they_are_asked_for(tmp_path):
    good, bad = write(tmp_path / "a.txt", "one\ntwo\n"), write(tmp_path / "b.txt", b"three\n\xff\n")
    documents = read_documents([good, bad])
    assert [next(documents).text for _ in range(3)] == ["one", "two", "three"]
    with pytest.raises(DataError, match=r"b\.txt:2: not UTF-8"):
        next(documents)


def test_a_set_of_datasets_is_streamed(monkeypatch):
    import datasets

    asked = []

    def rows():
        yield from ({"text": "one", "kind": 1}, {"text": "", "kind": 0}, {"text": "two", "kind": 1})

    def load_dataset(*names, split, streaming):
        asked.append((names, split, streaming))
        return datasets.IterableDataset.from_generator(rows)

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    documents = read_documents(["who/what:small:train"])
    assert list(documents) == [Document("one", "who/what[train][0]"), Document("two", "who/what[train][2]")]
    assert asked == [(("who/what", "small"), "train", True)] and documents.num_empty == 1
    with pytest.raises(DataError, match=r"who/what\[train\]: no column 'body'; .*it has: text, kind"):
        list(read_documents(["who/what:train"], column="body"))


def refusal(*args, error=DataError, **how):
    with pytest.raises(error) as caught:
        list(read_documents(*args, **how))
    assert "\n" not in str(caught.value), "a refusal is one line"
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", jsonl("one") + "{\n", "a.jsonl:2: not JSON"),
        ("a.jsonl", jsonl("one", 5), "a.jsonl:2: 'text' is 5, not a text"),
        ("a.jsonl", '{"text": "\\ud800"}\n', "a.jsonl:1: 'text' holds \\ud800, half of a surrogate pair"),
        ("a.jsonl", '{"txt": "one"}\n', "a.jsonl:1: no column 'text'; did you mean 'txt'?"),
        ("a.csv", "id,text\n1,one,more\n", "a.csv:2: 3 fields, but the header has 2"),
        (
            "a.txt.gz",
            gzip.compress(b"one\ntwo\n", mtime=0)[:-9],
            "a.txt.gz:3: the gzip file is damaged or cut off",
        ),
        ("a.txt", "one\n".encode("utf-16"), "a.txt:1: not UTF-8 (it looks like UTF-16)"),
        ("a.parquet", "no", "a.parquet: cannot be read as parquet"),
        ("a.doc", "x", "a.doc: the name does not say its format"),
    ],
)
def test_what_cannot_be_read_is_named_by_file_and_line(tmp_path, name, content, said):
    path = write(tmp_path / name, content)
    assert said in refusal([path])


def test_texts_of_other_files_are_read_as_is_said(tmp_path):
    conll = write(tmp_path / "a.conll", "in O\nRio B-LOC\n\nno O\n")
    array = write(tmp_path / "a.json", '[{"body": "one"}, {"body": "two"}]')
    latin = write(tmp_path / "a.csv", "body;n\ncaf\xe9;1\n".encode("latin-1"))
    plain = write(tmp_path / "a.lst", "caf\xe9\n".encode("latin-1"))

    def texts(path, column="text", **how):
        return [d.text for d in read_documents([str(path)], column=column, reading=Reading(**how))]

    assert texts(conll) == ["in Rio", "no"]
    assert texts(array, "body") == ["one", "two"]
    assert texts(latin, "body", delimiter=";", encoding="latin-1") == ["caf\xe9"]
    assert texts(plain, format="text", encoding="latin-1") == ["caf\xe9"]


def test_sources_that_are_not_there_are_refused_before_anything_is_read(tmp_path):
    good = write(tmp_path / "corpus.txt", "one\n")
    for source, said in {
        str(tmp_path / "corpis.txt"): "no such file or folder; did you mean 'corpus.txt'?",
        str(tmp_path / "pos.txt"): "no such file or folder; a set of datasets",
        str(tmp_path / "*.jsonl"): "no file matches",
        str(tmp_path / "none"): "no such file or folder; a set of datasets is NAME:SPLIT",
    }.items():
        with pytest.raises(DataError) as caught:
            read_documents([good, source])
        assert str(caught.value).startswith(f"{source}: {said}")
    (tmp_path / "empty").mkdir()
    assert "a folder without a file of text" in refusal([str(tmp_path / "empty")])
    assert "did you mean 'paragraph'?" in refusal([good], rule="paragraphs", error=ConfigError)
    assert "give a list" in refusal([], error=ConfigError) and "give a list" in refusal(
        good, error=ConfigError
    )


def test_held_out_documents_stay_the_same_when_others_are_added():
    some = [Document(str(number), "") for number in range(1000)]
    train, held = hold_out(some, 0.1, seed=3)
    assert sorted(map(int, (d.text for d in train + held))) == list(range(1000)), "each is in one of the two"
    assert 60 < len(held) < 140, f"about a tenth: {len(held)}"
    more = hold_out([*some, *some], 0.1, seed=3)[1]
    assert more[: len(held)] == held, "later documents move none"
    assert hold_out(some, 0.1, seed=4)[1] != held
    assert [len(part) for part in hold_out(some[:2], 1e-9, seed=0)] == [1, 1], "at least one of either"
    with pytest.raises(DataError, match="cannot be both learned from and held out"):
        hold_out(some[:1], 0.5, seed=0, what="text")
    with pytest.raises(DataError, match="no text to learn from"):
        hold_out([], 0.5, seed=0, what="text")
