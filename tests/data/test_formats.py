"""Files as people have them give the rows that they hold, or one line that says what to do."""

import csv
import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.samples import write
from yanma.data.columns import Columns
from yanma.data.reading import Reading
from yanma.data.rows import Row, read_rows
from yanma.data.sentences import task_rows
from yanma.data.standoff import Span, tagged
from yanma.data.unusable import Unusable
from yanma.errors import ConfigError, DataError

WORDS = [(["EU", "says", "#", "no"], ["B-ORG", "O", "O", "O"]), (["Ann", "Lee"], ["B-PER", "I-PER"])]
TEXTS = [("Where is my card?", "card"), ('He said "no"; twice', "no")]


def words_of(path, columns=("tokens", "tags"), **how) -> list[tuple[list[str], list[str]]]:
    rows = read_rows(path, list(columns), reading=Reading(**how))
    return [(row.words(columns[0]), row.words(columns[1])) for row in rows]


def texts_of(path, columns=("text", "label"), **how) -> list[tuple[str, str]]:
    rows = read_rows(path, list(columns), reading=Reading(**how))
    return [(row.text(columns[0]), row.label(columns[1])) for row in rows]


def refused(read, *given, **how) -> str:
    with pytest.raises(DataError) as caught:
        read(*given, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lines(shape: str) -> str:
    """The sentences with each word in a line of this shape: {w} the word, {t} its tag, {n} its number."""
    return "\n".join(
        "".join(shape.format(w=w, t=t, n=n) + "\n" for n, (w, t) in enumerate(zip(*own, strict=True), 1))
        for own in WORDS
    )


@pytest.mark.parametrize("suffix", [".conll", ".bio", ".iob", ".bmes", ".annotated", ".bioes"])
@pytest.mark.parametrize("shape", ["{w}\t{t}", "{w} {t}", "{w} NN I-NP {t}", "{w}\tNN\tI-NP\t{t}"])
def test_words_and_tags_are_the_first_and_the_last_column(tmp_path, suffix, shape):
    path = tmp_path / f"a{suffix}"
    path.write_text("-DOCSTART- -X- O\n\n" + lines(shape))
    assert words_of(path) == WORDS


def test_columns_of_words_are_said_by_number_and_others_may_come_and_go(tmp_path):
    path = tmp_path / "germeval.tsv"
    path.write_text("#\thttp://de.wikipedia.org [2009-10-17]\n" + lines("{n}\t{w}\t{t}\tO"))
    assert words_of(path, ("2", "3"), format="conll") == WORDS
    assert "the first column counts the words" in refused(words_of, path, format="conll")
    path.write_text(lines("{w}\t{t}").replace("says\tO", "says\tO\tmeta: data"))
    assert words_of(path, ("1", "2"), format="conll") == WORDS
    assert f"{path}:2, read as CoNLL: 3 columns, but the lines before have 2" in refused(
        words_of, path, format="conll"
    )
    assert "column 3 is asked for" in refused(words_of, path, ("1", "3"), format="conll")


def test_conll_u_is_read_by_the_names_of_its_columns(tmp_path):
    path = tmp_path / "a.conllu"
    path.write_text("# sent_id = 1\n# text = EU\n" + lines("{n}\t{w}\t_\t{t}\t_\t_\t0\troot\t_\t_"))
    text = path.read_text().replace("1\tAnn", "1-2\tAnnLee\t_\t_\t_\t_\t_\t_\t_\t_\n1\tAnn")
    path.write_text(text.replace("2\tLee", "1.1\tnull\t_\t_\t_\t_\t_\t_\t_\t_\n2\tLee"))
    assert words_of(path, ("FORM", "UPOS")) == WORDS
    assert "say which are the words and the tags" in refused(words_of, path)
    assert "did you mean 'UPOS'" in refused(words_of, path, ("FORM", "UPO"))


def test_columns_that_a_file_names_itself(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("# global.columns = N WORD NER\n# a comment\n" + lines("{n}\t{w}\t{t}"))
    assert words_of(path, ("WORD", "NER")) == WORDS


def test_a_hash_is_a_word_where_its_line_has_the_columns_of_words(tmp_path):
    path = tmp_path / "tweets.conll"
    path.write_text("# O\n#tag O\nEU B-ORG\n\n#one O\n")
    assert words_of(path) == [(["#", "#tag", "EU"], ["O", "O", "B-ORG"]), (["#one"], ["O"])]


def test_digits_behind_characters_are_noticed_and_left_out(tmp_path):
    path = tmp_path / "weibo.conll"
    path.write_text("科0\tB-ORG\n技1\tI-ORG\n\n我0\tO\n")
    assert "`format` weibo leaves the digits out" in refused(words_of, path)
    assert words_of(path, format="weibo") == [(["科", "技"], ["B-ORG", "I-ORG"]), (["我"], ["O"])]


@pytest.mark.parametrize("delimiter", [";", "|", "\t", "\\t"])
def test_a_table_with_another_delimiter(tmp_path, delimiter):
    path, mark = tmp_path / "a.csv", delimiter.replace("\\t", "\t")
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=mark).writerows([("text", "label"), *TEXTS])
    assert texts_of(path, delimiter=delimiter) == TEXTS
    assert "the header is one column with a" in refused(texts_of, path)


def test_a_table_without_a_header_is_read_by_numbers(tmp_path):
    path, told = tmp_path / "a.tsv", []
    path.write_text("".join(f"{label}\t7\t{text}\n" for text, label in TEXTS))
    assert texts_of(path, ("3", "1"), note=told.append) == TEXTS
    assert told == [
        f"{path}: columns are said by number, so its first line is a row: card | 7 | Where is my card?"
    ]
    assert "no column '4'" in refused(texts_of, path, ("4", "1"))


def test_columns_that_are_not_read_are_told(tmp_path):
    told = []
    rows = [{"id": 1, "text": text, "title": "t", "label": label} for text, label in TEXTS]
    texts_of(write(tmp_path / "a.csv", rows), note=told.append)
    assert told == [f"{tmp_path / 'a.csv'}: columns that are not read: id, title"]


def test_a_label_behind_each_line_in_another_encoding(tmp_path):
    path = tmp_path / "phrases.txt"
    path.write_bytes("Umsatz für 2 @ 3 € .@neutral\nÜber Plan.@positive\n".encode("cp1252"))
    assert texts_of(path, format="text", delimiter="@", encoding="cp1252") == [
        ("Umsatz für 2 @ 3 € .", "neutral"),
        ("Über Plan.", "positive"),
    ]
    assert "not UTF-8" in refused(texts_of, path, format="text", delimiter="@")
    assert "say its `encoding`" in refused(texts_of, path, format="text", delimiter="@")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1", "gb18030"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_encodings(tmp_path, encoding, kind):
    path, texts = (
        tmp_path / f"a.{kind}",
        [("äö" if encoding == "latin-1" else "我的卡\u3000ä", "a"), ("b", "c")],
    )
    rows = [{"text": text, "label": label} for text, label in texts]
    written = json.dumps(rows, ensure_ascii=False) if kind == "json" else write(path, rows).read_text()
    path.write_bytes(written.encode(encoding))
    assert texts_of(path, encoding=encoding) == texts


def test_an_array_of_objects(tmp_path):
    path, rows = tmp_path / "a.json", [{"text": text, "label": label} for text, label in TEXTS]
    path.write_text(json.dumps(rows))
    assert texts_of(path) == TEXTS
    told = []
    path.write_text(json.dumps({"version": 1, "data": rows}))
    assert texts_of(path, note=told.append) == TEXTS and told == [f"{path}: its rows are those of 'data'"]


def test_several_files_a_folder_a_pattern_and_an_archive_are_one_source(tmp_path):
    rows = [{"text": text, "label": label} for text, label in TEXTS]
    for index, row in enumerate(rows):
        write(tmp_path / "parts" / f"part{index}.csv", [row]) if (tmp_path / "parts").exists() else None
        (tmp_path / "parts").mkdir(exist_ok=True)
        write(tmp_path / "parts" / f"part{index}.csv", [row])
    (tmp_path / "parts" / "README.md").write_text("no rows")
    (tmp_path / "parts" / "table").unlink()
    told = []
    assert texts_of(tmp_path / "parts", note=told.append) == TEXTS
    assert told == [f"{tmp_path / 'parts'}: 2 files are read: part0.csv, part1.csv"]
    assert texts_of(f"{tmp_path}/parts/part*.csv") == TEXTS
    assert texts_of([str(tmp_path / "parts" / f"part{index}.csv") for index in (0, 1)]) == TEXTS
    assert "no file matches" in refused(texts_of, f"{tmp_path}/parts/*.tsv")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("set/train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        archive.writestr("__MACOSX/set/._train.jsonl", "x")
        archive.writestr("__MACOSX/train.jsonl", "x")
        archive.writestr("set/readme.txt", "no rows")
    assert texts_of(tmp_path / "a.zip") == TEXTS
    assert texts_of(tmp_path / "a.zip" / "set" / "train.jsonl") == TEXTS
    assert "did you mean 'set/train.jsonl'" in refused(texts_of, tmp_path / "a.zip" / "set" / "trian.jsonl")
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("set/test.jsonl", "{}")
    assert "2 files in it; name the one" in refused(texts_of, tmp_path / "a.zip")


def test_what_is_learned_from_and_what_is_measured_on_are_not_read_as_one(tmp_path):
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("text,label\na,b\n")
    assert "a folder with test.csv and train.csv" in refused(texts_of, tmp_path)


SENTENCE = "Ann's in New York."
SPANS = [(0, 3, "PER"), (9, 17, "LOC")]
TAGS = (["Ann", "'", "s", "in", "New", "York", "."], ["B-PER", "O", "O", "O", "B-LOC", "I-LOC", "O"])


def results(**more):
    value = [
        {"type": "labels", "value": {"start": s, "end": e, "text": SENTENCE[s:e], "labels": [label]}}
        for s, e, label in SPANS
    ]
    return [{"result": value, **more}]


STANDOFF = {
    "doccano": {"id": 1, "text": SENTENCE, "label": SPANS},
    "doccano, older": {"data": SENTENCE, "labels": SPANS},
    "doccano, with relations": {
        "text": SENTENCE,
        "entities": [{"id": 1, "start_offset": s, "end_offset": e, "label": x} for s, e, x in SPANS],
        "relations": [],
    },
    "Label Studio": {"id": 3, "data": {"ner": SENTENCE, "n": 3}, "annotations": results(was_cancelled=False)},
    "Label Studio, JSON-MIN": {
        "text": SENTENCE,
        "label": [{"start": s, "end": e, "text": SENTENCE[s:e], "labels": [x]} for s, e, x in SPANS],
    },
    "spaCy": [SENTENCE, {"entities": SPANS}],
    "Prodigy": {
        "text": SENTENCE,
        "tokens_": [],
        "spans": [{"start": s, "end": e, "label": x} for s, e, x in SPANS],
        "answer": "accept",
    },
}


@pytest.mark.parametrize("tool", STANDOFF)
def test_spans_of_annotation_tools_are_words_with_tags(tmp_path, tool):
    (tmp_path / "a.json").write_text(json.dumps([STANDOFF[tool]] * 2))
    assert words_of(tmp_path / "a.json") == [TAGS] * 2
    if isinstance(STANDOFF[tool], dict):
        (tmp_path / "a.jsonl").write_text(json.dumps(STANDOFF[tool]))
        assert words_of(tmp_path / "a.jsonl") == [TAGS]


def test_brat_is_a_row_a_line_of_its_text(tmp_path):
    (tmp_path / "a.txt").write_text(f"No one.\n{SENTENCE}\n\n我在北京\n", encoding="utf-8")
    shifted = "".join(f"T{n}\t{x} {s + 8} {e + 8}\t{SENTENCE[s:e]}\n" for n, (s, e, x) in enumerate(SPANS, 1))
    path, told = tmp_path / "a.ann", []
    path.write_text(f"{shifted}T3\tLOC 30 32\t北京\nR1\tIn Arg1:T1 Arg2:T2\n#1\tnote\n", encoding="utf-8")
    assert words_of(path, note=told.append) == [
        (["No", "one", "."], ["O"] * 3),
        TAGS,
        (["我", "在", "北", "京"], ["O", "O", "B-LOC", "I-LOC"]),
    ]
    assert told == [f"{path}: 2 lines that name no entity (relations, events, notes) are not read"]
    assert len(words_of(tmp_path)) == 3, "the folder is its .ann files"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"text": "Ann", "label": [[0, 4, "PER"]]}, "span 0 to 4 (PER) does not lie in the text"),
        ({"text": "Ann", "label": [[1, 1, "PER"]]}, "span 1 to 1 (PER) does not lie in the text"),
        ({"text": "A  b", "label": [[1, 3, "PER"]]}, "span 1 to 3 (PER) covers no word"),
        ({"text": "New York", "label": [[0, 8, "LOC"], [4, 8, "X"]]}, "share a word"),
        ({"text": "Newish", "label": [[0, 3, "LOC"], [3, 6, "X"]]}, "share a word"),
        ({"text": "Ann", "label": [[0, 3]]}, "[0, 3] is no span with start, end and one label"),
        ({"text": "Ann", "label": [{"start": 0, "end": 3, "labels": ["A", "B"]}]}, "one label"),
        ({"label": [[0, 3, "PER"]]}, "spans without a 'text'"),
        ({"text": "Ann", "spans": [], "answer": "reject"}, "its annotator answered 'reject'"),
        ({"text": "Ann", "spans": [], "entities": []}, "spans are in 'entities' and in 'spans'"),
        ({"data": {"text": "Ann"}, "annotations": []}, "0 annotations of one text"),
        ({"data": {"text": SENTENCE}, "annotations": results() * 2}, "2 annotations of one text"),
        (
            {"text": "😀 Ann", "label": [{"start": 3, "end": 6, "text": "Ann", "labels": ["PER"]}]},
            "tools that count UTF-16 units are off behind an emoji",
        ),
    ],
)
def test_spans_that_tags_cannot_say_are_refused(tmp_path, record, words):
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    assert words in refused(words_of, tmp_path / "a.jsonl")


@given(st.lists(st.tuples(st.text("abüß1我の'.- ", min_size=1, max_size=6), st.booleans()), max_size=8))
@settings(deadline=None)
def test_entities_of_the_tags_are_the_spans(parts):
    text, spans = "", []
    for part, is_entity in parts:
        text += " "
        if is_entity and part.strip():
            spans.append(Span(len(text), len(text) + len(part), "X"))
        text += part
    if not text.strip():
        return
    found = tagged(text, spans, "a:1")
    assert "".join(found["tokens"]) == "".join(text.split())
    entities = []
    for token, tag in zip(found["tokens"], found["tags"], strict=True):
        if tag == "B-X":
            entities.append(token)
        elif tag == "I-X":
            entities[-1] += token
    assert entities == ["".join(text[span.start : span.end].split()) for span in spans]


def check(row: Row) -> None:
    row.text("text")


def test_rows_that_cannot_be_used_are_refused_with_their_number_or_skipped(tmp_path):
    path, columns = tmp_path / "a.jsonl", Columns(("text",), "label")
    good, empty = '{"text": "x", "label": "y"}\n', '{"text": " ", "label": "y"}\n'
    path.write_text(good * 3 + empty + "no json\n" + good + '{"text": "x"}\n')
    said = refused(task_rows, path, columns, check=check)
    assert said.startswith(f"{path}:4: 'text' is empty") or said.startswith(f"{path}:5: not JSON")
    assert "(3 of 7 rows cannot be used); `on_bad_row` skip leaves such rows out" in said
    told = []
    rows = task_rows(path, columns, Reading(note=told.append), Unusable("skip"), check)
    assert [row.where for row in rows] == [f"{path}:{line}" for line in (1, 2, 3, 6)]
    assert len(told) == 1 and told[0].startswith("3 of 7 rows cannot be used and are left out; the first: ")
    path.write_text(empty)
    assert "no row of 1 can be used" in refused(task_rows, path, columns, None, Unusable("skip"), check)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"format": "cvs"}, "`format` is 'cvs'; did you mean 'csv'?"),
        ({"delimiter": "::"}, "`delimiter` is '::'; it must be one character"),
        ({"delimiter": '"'}, "it must be one character"),
        ({"encoding": "latin-99"}, "`encoding` is 'latin-99', which Python does not know"),
    ],
)
def test_ways_of_reading_that_there_are_not(how, words):
    with pytest.raises(ConfigError) as caught:
        Reading(**how)
    assert words in str(caught.value)


def test_a_delimiter_of_a_format_that_has_none_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    assert "read as jsonl, which has no delimiter" in refused(texts_of, tmp_path / "a.jsonl", delimiter=";")


def test_standard_input_is_no_source():
    assert refused(texts_of, "-") == "-: rows are read from files; standard input is read by predict alone"


def test_a_stream_of_bytes_is_what_csv_of_the_library_reads(tmp_path):
    content = 'text,label\r\n"a\nb",c\r\n"d ""e""",f\r\n'
    (tmp_path / "a.csv").write_bytes(content.encode())
    with io.StringIO(content, newline="") as file:
        expected = list(csv.reader(file))[1:]
    assert [list(pair) for pair in texts_of(tmp_path / "a.csv")] == expected


def test_what_is_no_span_and_words_that_are_covered_in_part_are_told(tmp_path):
    told, path = [], tmp_path / "a.jsonl"
    record = {"text": "Annie lost it", "entities": [{"start_offset": 0, "end_offset": 3, "label": "PER"}]}
    path.write_text(json.dumps(record | {"relations": [{"from_id": 1, "to_id": 2, "type": "in"}]}))
    assert words_of(path, note=told.append) == [(["Annie", "lost", "it"], ["B-PER", "O", "O"])]
    assert told == [
        f"{path}: 1 words that a span covers in part are tagged as wholes",
        f"{path}: not read beside spans: 1 relations",
    ]


def test_an_entity_of_brat_is_of_the_line_in_which_it_begins_and_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"One\nAnn Lee\r\nEnd")  # a character each
    (tmp_path / "a.ann").write_text("T1\tPER 3 7\tAnn\n")  # it begins on the newline
    tags = [tags for _, tags in words_of(tmp_path / "a.ann")]
    assert tags == [["O"], ["B-PER", "O"], ["O"]]
    (tmp_path / "a.ann").write_text("T1\tPER 8 16\tLee End\n")
    assert "a.txt:2: an entity (PER) goes on in the next line, and a row is a line" in refused(
        words_of, tmp_path / "a.ann"
    )


def test_a_file_without_empty_lines_is_told(tmp_path):
    told, path = [], tmp_path / "a.conll"
    path.write_text("word O\n" * 1001)
    assert len(words_of(path, note=told.append)) == 1
    assert told == [f"{path}:1: a sentence of 1001 words; an empty line ends a sentence"]


def test_a_line_of_numbers_without_a_header_is_a_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1,3,good movie 0\n2,4,bad\n")
    assert texts_of(path, ("3", "1")) == [("good movie 0", "1"), ("bad", "2")]
    path.write_text("1,2\nx,y\n")
    assert texts_of(path, ("2", "1")) == [("y", "x")], "a header of numbers alone is one"


def test_comments_with_as_many_columns_as_words_are_told(tmp_path):
    path, told = tmp_path / "a.conll", []
    path.write_text("# doc0\nNo DT\none NN\n\n# doc1\n# NN\n", encoding="utf-8")
    assert words_of(path, note=told.append) == [(["No", "one"], ["DT", "NN"]), (["#"], ["NN"])]
    assert told == [f"{path}:1: read as a comment, as are others like it: # doc0"]
    path.write_text("# sent 5\nNo\tX\tDT\n", encoding="utf-8")
    assert words_of(path) == [(["No"], ["DT"])], "in a file with tabs a line without one is one column"
    path.write_text("No\tX\tDT\n\n#sent 5 x\nYes\tX\tDT\n", encoding="utf-8")
    assert words_of(path) == [(["No"], ["DT"]), (["Yes"], ["DT"])]


@pytest.mark.parametrize(
    "record",
    [
        {"data": {"text": "Ann"}, "annotations": None},
        {"data": {"text": "Ann"}, "annotations": ["x"]},
        {"data": {"text": "Ann"}, "annotations": [{}]},
        {"data": {"text": "Ann"}, "annotations": [{"result": "x"}]},
        {"data": {"text": "Ann"}, "annotations": [{"result": [{"type": "labels"}]}]},
        {"data": ["Ann"], "annotations": [{"result": []}]},
        ["Ann", {"entities": None}],
    ],
)
def test_records_that_are_nearly_those_of_a_tool_are_one_line(tmp_path, record):
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    assert refused(words_of, tmp_path / "a.jsonl").startswith(f"{tmp_path / 'a.jsonl'}:1: ")


def test_an_entity_of_brat_outside_of_its_text_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("Ann")
    (tmp_path / "a.ann").write_text("T1\tPER 900 903\tAnn\n")
    assert f"{tmp_path / 'a.ann'}:1: span 900 to 903 (PER)" in refused(words_of, tmp_path / "a.ann")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.ann", "T1\tPER 0 3\tAnn\n")
    assert "a.zip/a.txt: no such file in the archive" in refused(words_of, tmp_path / "a.zip")


def test_columns_are_told_of_every_format_and_two_of_one_name_are_refused(tmp_path):
    rows = [{"text": text, "id": 1, "label": label} for text, label in TEXTS]
    for kind in ("jsonl", "json", "parquet", "tsv"):
        told, path = [], tmp_path / f"a.{kind}"
        path.write_text(json.dumps(rows)) if kind == "json" else write(path, rows)
        assert texts_of(path, note=told.append) == TEXTS, kind
        assert told == [f"{path}: columns that are not read: id"], kind
    (tmp_path / "b.csv").write_text("id, text,label,id\n1,x,y,2\n")
    assert texts_of(tmp_path / "b.csv") == [("x", "y")], "spaces around names do not count"
    with pytest.raises(DataError, match="two columns have one name"):
        read_rows(tmp_path / "b.csv", None)


def test_what_is_no_encoding_of_text_is_refused():
    for encoding in ("base64", "rot13"):
        with pytest.raises(ConfigError, match="which Python does not know"):
            Reading(encoding=encoding)


def test_utf8_that_is_said_to_be_another_encoding_is_told(tmp_path):
    told, path = [], tmp_path / "a.csv"
    path.write_text("text,label\ncafé,a\n", encoding="utf-8")
    texts_of(path, encoding="latin-1", note=told.append)
    assert told == [f"{path}: read as iso8859-1, as is said, but it begins like UTF-8"]
    for encoding, content in (("latin-1", "text,label\ncafé,a\n"), ("cp1252", "text,label\nplain,a\n")):
        told = []
        path.write_bytes(content.encode(encoding))
        texts_of(path, encoding=encoding, note=told.append)
        assert told == []


def test_what_a_wrong_name_or_a_missing_header_may_mean_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("good movie,pos\nbad,neg\n")
    assert "by numbers, as in text=1,label=2, where there is no header" in refused(
        texts_of, tmp_path / "a.csv"
    )
    (tmp_path / "a.jsonl").write_text('[{"text": "a", "label": "b"}]')
    assert "an array of rows is read with `format` json" in refused(texts_of, tmp_path / "a.jsonl")
    assert texts_of(tmp_path / "a.jsonl", format="json") == [("a", "b")]


def test_a_hashtag_is_a_word_where_columns_were_chosen_and_others_come_and_go(tmp_path):
    (tmp_path / "a.conll").write_text("# doc\nAnn\tX\tB-PER\n\n#tag\tX\tO\tmeta\nLee\tX\tB-PER\n")
    assert words_of(tmp_path / "a.conll", ("1", "3")) == [
        (["Ann"], ["B-PER"]),
        (["#tag", "Lee"], ["O", "B-PER"]),
    ]
