"""Spans of characters as annotation tools write them become words and tags, or are refused by their place."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yanma.data.standoff import Span, half_words, is_standoff, passed_over, read_ann, spans_of, tagged, words
from yanma.errors import DataError

TEXT = "Ann Lee flew from Oslo to Rio."
PEOPLE, PLACES = (("Ann Lee", "PER"),), (("Oslo", "LOC"), ("Rio", "LOC"))
FOUND = PEOPLE + PLACES


def spans(text=TEXT, found=FOUND):
    """Where each stands in the text, counted apart from the code under test."""
    return [Span(text.index(piece), text.index(piece) + len(piece), label) for piece, label in found]


LISTS = [[0, 7, "PER"], [18, 22, "LOC"], [26, 29, "LOC"]]
OFFSETS = [
    {"id": i, "label": name, "start_offset": a, "end_offset": b} for i, (a, b, name) in enumerate(LISTS)
]
PLAIN = [{"start": a, "end": b, "label": name} for a, b, name in LISTS]
VALUES = [{"start": a, "end": b, "text": TEXT[a:b], "labels": [name]} for a, b, name in LISTS]
RESULTS = [
    {
        "value": value,
        "id": f"r{i}",
        "from_name": "label",
        "to_name": "text",
        "type": "labels",
        "origin": "manual",
    }
    for i, value in enumerate(VALUES)
]


def task(*annotations, **data):
    return {"id": 1, "data": data or {"text": TEXT}, "annotations": list(annotations), "predictions": []}


def annotation(*results, was_cancelled=False):
    return {"id": 9, "completed_by": 1, "result": list(results), "was_cancelled": was_cancelled}


SHAPES = {
    "doccano 1.0": {"id": 3, "text": TEXT, "meta": {}, "annotation_approver": None, "labels": LISTS},
    "doccano": {"id": 3, "text": TEXT, "label": LISTS, "Comments": []},
    "doccano, data": {"id": 3, "data": TEXT, "label": LISTS},
    "doccano with relations": {"id": 3, "text": TEXT, "entities": OFFSETS, "relations": [], "Comments": []},
    "Label Studio": task(annotation(*RESULTS)),
    "Label Studio, another name": task(annotation(*RESULTS), title=TEXT, number=4),
    "Label Studio, two texts": task(annotation(*RESULTS), text=TEXT, source="a.txt"),
    "Label Studio, JSON-MIN": {"text": TEXT, "id": 1, "label": VALUES, "annotator": 1, "annotation_id": 9},
    "Label Studio, JSON-MIN, another name": {"text": TEXT, "id": 1, "ner": VALUES, "annotation_id": 9},
    "spaCy, doc.to_json": {"text": TEXT, "ents": PLAIN, "tokens": [{"id": 0, "start": 0, "end": 3}]},
    "spaCy, pair": [TEXT, {"entities": LISTS}],
    "entities": {"text": TEXT, "entities": PLAIN},
    "Prodigy": {
        "text": TEXT,
        "_task_hash": 5,
        "tokens": [{"text": "Ann", "start": 0, "end": 3, "id": 0}],
        "spans": [span | {"token_start": 0, "token_end": 1} for span in PLAIN],
        "answer": "accept",
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_gives_the_same_spans(shape):
    assert is_standoff(SHAPES[shape])
    assert spans_of(SHAPES[shape], "a.jsonl:1") == (TEXT, spans())
    assert not passed_over(SHAPES[shape])


def test_words_have_tags():
    found = tagged(TEXT, spans(), "a.jsonl:1")
    assert found["tokens"] == ["Ann", "Lee", "flew", "from", "Oslo", "to", "Rio", "."]
    assert found["tags"] == ["B-PER", "I-PER", "O", "O", "B-LOC", "O", "B-LOC", "O"]
    assert tagged(TEXT, spans()[::-1], "a.jsonl:1") == found, "the order of spans says nothing"


@pytest.mark.parametrize(
    "record",
    [
        {"text": "Ann", "label": "PER"},
        {"text": "Ann", "labels": ["a", "b"]},
        {"text": "Ann"},
        {"tokens": ["Ann"], "tags": ["B-PER"]},
        {"text": TEXT, "tokens": ["Ann"], "spans": PLAIN},
        {"text": "Ann", "annotations": "none"},
        ["Ann", "PER"],
        "Ann",
        None,
    ],
)
def test_other_rows_are_no_texts_with_spans(record):
    assert not is_standoff(record)


@pytest.mark.parametrize(
    "record",
    [
        {"text": TEXT, "label": []},
        {"text": TEXT, "entities": [], "relations": []},
        {"text": TEXT, "spans": [], "answer": "accept"},
        {"text": TEXT, "_task_hash": 5, "answer": "accept"},
        {"text": TEXT, "id": 1, "annotator": 1, "annotation_id": 9},
        task(annotation()),
    ],
)
def test_a_text_without_entities_is_one(record):
    assert is_standoff(record)
    assert spans_of(record, "a.jsonl:1") == (TEXT, [])
    assert set(tagged(TEXT, (), "a.jsonl:1")["tags"]) == {"O"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": TEXT, "spans": PLAIN, "answer": "reject"}, "its annotator answered 'reject'"),
        ({"text": TEXT, "answer": "ignore", "_task_hash": 5}, "its annotator answered 'ignore'"),
        (task(), "0 annotations of one text"),
        (
            task(annotation(*RESULTS, was_cancelled=True)) | {"predictions": [{"result": RESULTS}]},
            "0 annotations",
        ),
    ],
)
def test_a_text_whose_annotation_nobody_stands_by_is_no_text_without_entities(record, message):
    assert is_standoff(record)
    with pytest.raises(DataError, match=f"^a:1: {message}"):
        spans_of(record, "a:1")


def test_what_is_no_span_is_counted():
    relation = {"from_id": "r0", "to_id": "r1", "type": "relation", "direction": "right"}
    choice = {"value": {"choices": ["news"]}, "from_name": "topic", "to_name": "text", "type": "choices"}
    record = task(annotation(was_cancelled=True), annotation(*RESULTS, relation, choice, choice))
    assert spans_of(record, "a") == (TEXT, spans())
    assert passed_over(record | {"predictions": [{"result": RESULTS}], "drafts": []}) == {
        "cancelled annotations": 1,
        "results of type 'relation'": 1,
        "results of type 'choices'": 2,
        "predictions": 1,
    }
    record = {
        "text": TEXT,
        "entities": OFFSETS,
        "relations": [{"id": 0, "from_id": 0, "to_id": 1, "type": "in"}],
    }
    assert spans_of(record, "a") == (TEXT, spans())
    assert passed_over(record) == {"relations": 1}
    assert not passed_over([TEXT, {"entities": LISTS}])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (task(annotation(), annotation(*RESULTS)), "2 annotations of one text; leave the one"),
        (task(annotation(*RESULTS), title=TEXT, body="x"), "'data' has 2 texts and none called 'text'"),
        (task(annotation({"type": "hypertextlabels", "value": {}})), "a result of type 'hypertextlabels'"),
        (task(annotation(RESULTS[0], RESULTS[1] | {"to_name": "title"})), "spans of 2 texts, text, title;"),
        (
            task(annotation(RESULTS[0] | {"value": VALUES[0] | {"labels": ["A", "B"]}})),
            ".* is no span .* one label",
        ),
        (task(annotation(RESULTS[0] | {"value": VALUES[0] | {"labels": []}})), ".* is no span .* one label"),
        (
            {"text": TEXT, "entities": [PLAIN[0], {"start": "0", "end": 3, "label": "X"}]},
            ".*'0'.* is no span",
        ),
        ({"text": TEXT, "label": [[0, True, "X"]]}, ".*True.* is no span"),
        ({"text": TEXT, "label": [[0, 3, 7]]}, ".*7.* is no span"),
        ({"text": TEXT, "label": [LISTS[0], "X"]}, "'X' is no span"),
        ({"text": TEXT, "label": LISTS, "spans": PLAIN}, "spans are in 'label' and in 'spans'; leave one"),
        ({"text": TEXT, "label": "news", "annotation_id": 4}, "no spans; it has: text, label, annotation_id"),
        ({"text": [TEXT], "label": LISTS}, "spans without a 'text'"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_place(record, message):
    with pytest.raises(DataError, match=f"^a:1: {message}"):
        spans_of(record, "a:1")


EMOJI = "😀 Ann met 👩‍👧 Bo"


def test_offsets_that_count_utf16_are_called_so():
    good = {"text": EMOJI, "label": [{"start": 2, "end": 5, "text": "Ann", "labels": ["PER"]}]}
    assert [EMOJI[span.start : span.end] for span in spans_of(good, "a:1")[1]] == ["Ann"]
    javascript = {"text": EMOJI, "label": [{"start": 3, "end": 6, "text": "Ann", "labels": ["PER"]}]}
    with pytest.raises(DataError, match=r"span 3 to 6 .* 'nn ' is 'Ann' by .*; these count UTF-16 units$"):
        spans_of(javascript, "a:1")
    other = {"text": EMOJI, "label": [{"start": 2, "end": 5, "text": "Bob", "labels": ["PER"]}]}
    with pytest.raises(DataError, match=r"'Ann' is 'Bob' by .*; or the text has changed since$"):
        spans_of(other, "a:1")
    units = len(EMOJI.encode("utf-16-le")) // 2
    with pytest.raises(DataError, match=r"does not lie in the text, which has 16 characters; 😀 is one"):
        tagged(EMOJI, [Span(units - 2, units, "PER")], "a:1")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([Span(18, 31, "LOC")], r"span 18 to 31 \(LOC\) does not lie in the text, which has 30 characters$"),
        ([Span(-3, 2, "LOC")], "span -3 to 2 .* does not lie in"),
        ([Span(4, 4, "PER")], "span 4 to 4 .* does not lie in"),
        ([Span(7, 4, "PER")], "span 7 to 4 .* does not lie in"),
        ([Span(7, 8, "PER")], "span 7 to 8 .* covers no word: ' '"),
        ([Span(0, 3, " ")], "span 0 to 3 .* has an empty label"),
        ([Span(4, 12, "X"), Span(0, 7, "PER")], "span 0 to 7 .* 'Ann Lee' and span 4 to 12 .* share a word"),
        ([Span(0, 5, "X"), Span(4, 7, "PER")], "span 0 to 5 .* and span 4 to 7 .* share a word"),
        ([Span(0, 12, "X"), Span(4, 7, "PER")], "span 0 to 12 .* and span 4 to 7 .* share a word"),
        ([Span(0, 3, "A"), Span(0, 3, "B")], ".*A.* and .*B.* share a word"),
        ([Span(18, 20, "A"), Span(20, 22, "B")], "span 18 to 20 .* and span 20 to 22 .* share a word"),
    ],
)
def test_spans_that_tags_cannot_say_are_refused(found, message):
    with pytest.raises(DataError, match=f"^a:1: {message}"):
        tagged(TEXT, found, "a:1")


def test_a_text_without_words_is_refused():
    for text in ("", " \n", "\u200b\x00"):
        with pytest.raises(DataError, match=r"^a:1: a text without words"):
            tagged(text, [], "a:1")
    with pytest.raises(DataError, match=r"^a:1: span 1 to 2 \(X\) covers no word"):
        tagged("a\u200bb", [Span(1, 2, "X")], "a:1")


def test_spaces_at_the_ends_of_a_span_do_not_count():
    wide = [Span(0, 8, "PER"), Span(9, 14, "LOC")]
    neat = tagged("Ann Lee, Oslo", [Span(0, 7, "PER"), Span(9, 13, "LOC")], "a:1")
    assert tagged(" Ann Lee, Oslo", wide, "a:1") == neat
    assert half_words(" Ann Lee, Oslo", wide) == 0
    met = tagged("Ann Oslo", [Span(0, 4, "PER"), Span(3, 8, "LOC")], "a:1")
    assert met["tags"] == ["B-PER", "B-LOC"], "spans that share a space do not overlap"


@pytest.mark.parametrize(
    ("span", "tags", "halves"),
    [
        (Span(0, 2, "X"), "B-X O O", 1),
        (Span(1, 2, "X"), "B-X O O", 1),
        (Span(1, 5, "X"), "B-X I-X O", 2),
        (Span(1, 9, "X"), "B-X I-X I-X", 2),
        (Span(4, 7, "X"), "O B-X O", 0),
    ],
)
def test_a_word_covered_in_part_belongs_to_the_span_and_is_counted(span, tags, halves):
    text = "Ann Lee Oslo"
    assert tagged(text, [span], "a:1")["tags"] == tags.split()
    assert half_words(text, [span]) == halves
    assert half_words(text, [Span(3, 4, "X")]) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("U.S. $5.50, 3rd", "U|.|S|.|$|5|.|50|,|3rd"),
        ("don't_go e-mail", "don|'|t|_|go|e|-|mail"),
        ("張三在东京", "張|三|在|东|京"),
        ("ｱｲ コーヒーはカフェ々〇", "ｱ|ｲ|コ|ー|ヒ|ー|は|カ|フ|ェ|々|〇"),
        ("서울에서 12명", "서|울|에|서|12|명"),
        ("ที่นี่", "ที่|นี่"),  # marks stay with their letter
        ("ປະເທດ 2024", "ປ|ະ|ເ|ທ|ດ|2024"),
        ("ภูเก็ต๑๒", "ภู|เ|ก็|ต|๑๒"),
        ("हिन्दी में", "हिन्दी|में"),
        ("می‌خواهم، שָׁלוֹם", "می‌خواهم|،|שָׁלוֹם"),
        ("e\u0301te\u0301 Straße", "e\u0301te\u0301|Straße"),
        ("❤️ 1️⃣ a\u00adb", "❤️|1️⃣|a\u00adb"),
        ("a\tb\u00a0c\u3000d\u200be\x00f", "a|b|c|d|e|f"),
        ("\u0301 \u200e", "\u0301"),
        ("东京2020奥运", "东|京|2020|奥|运"),
    ],
)
def test_words_of(text, expected):
    assert [text[begin:end] for begin, end in words(text)] == expected.split("|")


def decoded(tags):
    """(label, first word, past its last) of each entity of BIO tags, by the letter of the scheme."""
    entities = []
    for place, tag in enumerate(tags):
        if tag[0] == "B":
            entities.append((tag[2:], place, place + 1))
        elif tag[0] == "I":
            label, first, last = entities.pop()
            assert (label, last) == (tag[2:], place), "an I goes on with the word before it"
            entities.append((label, first, place + 1))
    return entities


@st.composite
def annotated(draw):
    """A text, and spans of whole words that do not overlap, some with spaces at their ends."""
    text = draw(st.text("aé3 \u0301 京の.\t-😀ก่한\u00a0", min_size=1, max_size=40))
    places = words(text)
    cuts = sorted(draw(st.sets(st.integers(0, len(places)), max_size=8)))
    found = []
    for first, last in zip(cuts[::2], cuts[1::2], strict=False):
        start, end = places[first][0], places[last - 1][1]
        while draw(st.booleans()) and text[start - 1 : start].isspace() and start > 0:
            start -= 1
        while draw(st.booleans()) and text[end : end + 1].isspace():
            end += 1
        found.append(Span(start, end, draw(st.sampled_from(["PER", "LOC", "B-x"]))))
    return text, found


@given(annotated())
def test_tags_tell_the_spans_they_were_made_of(case):
    text, found = case
    if not text.strip():
        return
    made = tagged(text, found, "a:1")
    assert "".join(made["tokens"]) == "".join(text.split()), "words leave out nothing but spaces"
    told = [(label, "".join(made["tokens"][first:last])) for label, first, last in decoded(made["tags"])]
    assert told == [(span.label, "".join(text[span.start : span.end].split())) for span in found]
    assert half_words(text, found) == 0


@given(st.text(max_size=30))
def test_words_of_any_text_leave_out_only_spaces_and_controls(text):
    places = words(text)
    assert all(one[1] <= other[0] for one, other in pairwise(places))
    covered = {index for begin, end in places for index in range(begin, end)}
    for index in set(range(len(text))) - covered:
        assert text[index].isspace() or unicodedata.category(text[index]) in ("Cc", "Cf")
    assert not any(text[index].isspace() for index in covered)


ANN = "T1\tPER 0 7\tAnn Lee\nT2\tLOC 18 22\tOslo\nT3\tLOC 26 29\tRio\n"


def test_brat():
    assert read_ann(ANN, TEXT, "a.ann") == (spans(), 0)
    assert read_ann(ANN.replace("\n", " \r\n") + "\r\n", TEXT, "a.ann") == (spans(), 0)
    assert read_ann("", TEXT, "a.ann") == ([], 0)


def test_other_lines_of_brat_are_counted():
    more = (
        "R1\tFrom Arg1:T1 Arg2:T2\n*\tEquiv T2 T3\nE1\tMove:T1 To:T3\nA1\tSure T1\nM1\tOld T1\n"
        "N1\tReference T2 Wikidata:Q585\tOslo\n#1\tAnnotatorNotes T1\tthe pilot\n"
    )
    assert read_ann(ANN + more, TEXT, "a.ann") == (spans(), 7)


def test_a_span_that_brat_cut_at_the_end_of_a_line_is_one():
    text = "He saw New\nYork."
    cut = read_ann("T1\tLOC 7 10;11 15\tNew York", text, "a.ann")
    assert cut == ([Span(7, 15, "LOC")], 0)
    assert cut == read_ann("T1\tLOC 7 15\tNew York", text, "a.ann")


def test_only_a_newline_ends_a_line_of_brat():
    text = "New\u2028York"
    assert read_ann(f"T1\tLOC 0 8\t{text}\n", text, "a.ann") == ([Span(0, 8, "LOC")], 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("T2\tLOC 0 3;18 22\tAnn Oslo", "an entity in several pieces, 'LOC' at 0 3;18 22"),
        ("T2\tLOC 4 7;0 3\tLee Ann", "an entity in several pieces"),
        ("T2\tLOC 18 22\tRio", "span 18 to 22 .* 'Oslo' is 'Rio' by"),
        ("T2 LOC 18 22 Oslo", "not a line of brat's such as .*: 'T2 LOC 18 22 Oslo'"),
        ("T2\tLOC 18\tOslo", "not a line of brat's such as"),
        ("T2\tLOC 18 22", "not a line of brat's such as"),
        ("Oslo", "not a line of brat's: 'Oslo'"),
    ],
)
def test_a_line_of_brat_that_cannot_be_read_is_refused(line, message):
    with pytest.raises(DataError, match=rf"^a\.ann:4: {message}"):
        read_ann(f"{ANN}{line}\n", TEXT, "a.ann")
