"""Texts with spans of characters, as annotation tools write them, as words and their BIO tags.

doccano         {"text", "label": [[start, end, "PER"]]}, or "entities": [{"start_offset", "end_offset", "label"}]
Label Studio    {"data": {"text"}, "annotations": [{"result": [{"value": {"start", "end", "labels"}}]}]}, and JSON-MIN
spaCy, Prodigy  {"text", "spans": [{"start", "end", "label"}]}, and [text, {"entities": [[start, end, "PER"]]}]
brat            a .ann file beside a .txt file

Offsets count characters (code points) from 0, and an end is behind the last character. Where a tool writes the covered
text down, it is compared.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..errors import DataError


@dataclass(frozen=True)
class Span:
    """Some characters of a text, and what they are."""

    start: int
    end: int
    """Behind the last one."""
    label: str


def tagged(text: str, spans: Iterable[Span], where: str) -> dict[str, object]:
    """The words of a text, and the BIO tag of each. A word that a span covers in part belongs to it.

    >>> tagged("Ann's in New York.", [Span(0, 3, "PER"), Span(9, 17, "LOC")], "a.jsonl:1")["tags"]
    ['B-PER', 'O', 'O', 'O', 'B-LOC', 'I-LOC', 'O']

    Raises DataError for spans that hold no word, have no label, lie outside the text, or share a word with another.
    """
    places = words(text)
    if not places:
        raise DataError(f"{where}: a text without words")
    tags = ["O"] * len(places)
    previous, taken = None, 0
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        _check(span, text, where)
        first, last = _covered(places, span)
        if first == last:
            there = text[span.start : span.end]
            raise DataError(
                f"{where}: span {span.start} to {span.end} ({span.label}) covers no word: {there!r}"
            )
        if previous is not None and first < taken:
            raise DataError(
                f"{where}: {_told(previous, text)} and {_told(span, text)} share a word; a word has one tag, so spans "
                f"that overlap or lie in one another are not read"
            )
        tags[first:last] = [f"B-{span.label}", *[f"I-{span.label}"] * (last - first - 1)]
        previous, taken = span, last
    return {"tokens": [text[start:end] for start, end in places], "tags": tags}


def half_words(text: str, spans: Iterable[Span]) -> int:
    """How many words are tagged as a whole though their span covers them in part. Spaces in a span do not count.

    >>> half_words("Annie left Oslo", [Span(0, 3, "PER"), Span(10, 15, "LOC")])
    1
    """
    places, count = words(text), 0
    for span in spans:
        first, last = _covered(places, span)
        ends = {first, last - 1} if first < last else ()
        count += sum(places[at][0] < span.start or places[at][1] > span.end for at in ends)
    return count


def words(text: str) -> list[tuple[int, int]]:
    """(begin, end) of each word: a run of letters and digits, or any other character that is no space.

    In Chinese, Japanese, Korean, and scripts that put no spaces between words (Thai, Lao, Khmer, Burmese, ...) each
    character is a word. Combining marks and joiners are with the character they follow.

    >>> text = "Zoë's 3rd, 東京とソウル, नमस्ते"
    >>> [text[begin:end] for begin, end in words(text)]
    ['Zoë', "'", 's', '3rd', ',', '東', '京', 'と', 'ソ', 'ウ', 'ル', ',', 'नमस्ते']
    """
    return [match.span() for match in _WORD.finditer(text.translate(_KINDS))]


def is_standoff(fields: object) -> bool:
    """Whether a record is a text with spans, and not words with tags.

    >>> is_standoff({"text": "Ann", "label": [[0, 3, "PER"]]}), is_standoff({"text": "Ann", "label": "PER"})
    (True, False)
    """
    match fields:
        case [str(), {"entities": _}] | {"data": {}, "annotations": list()}:
            return True
        case {"tokens": str() | [] | [str(), *_]}:  # Prodigy and spaCy have tokens too, with their offsets
            return False
        case {}:
            return bool(_lists_of_spans(fields)) or _is_bare(fields)
    return False


def spans_of(fields: Any, where: str) -> tuple[str, list[Span]]:
    """A record's text and its spans.

    >>> spans_of({"text": "Ann lost it", "entities": [{"start_offset": 0, "end_offset": 3, "label": "PER"}]}, "a:1")
    ('Ann lost it', [Span(start=0, end=3, label='PER')])

    Raises DataError where it is not clear what is meant, and where nobody stands by the annotation.
    """
    match fields:
        case [str(text), {"entities": list(given)}]:
            pass
        case {"data": {} as data, "annotations": list(annotations)}:
            text, given = _only_text(data, where), _labelled(annotations, where)
        case {"answer": "reject" | "ignore" as answer}:
            raise DataError(f"{where}: its annotator answered {answer!r}; only what was accepted is read")
        case {"text": str(text)} | {"data": str(text)}:
            given = _list_of_spans(fields, where)
        case _:
            raise DataError(f"{where}: spans without a 'text' that they are of")
    return text, [_span(each, text, where) for each in given]


def passed_over(fields: Any) -> Counter[str]:
    """What a record that `spans_of` reads holds beside its spans, by its name: nothing of that is learned.

    >>> passed_over({"text": "Ann", "entities": [], "relations": [{"from_id": 0, "to_id": 1, "type": "in"}]})
    Counter({'relations': 1})
    """
    found = Counter[str]()
    if not isinstance(fields, Mapping):
        return found
    for name in ("relations", "predictions", "drafts"):
        if isinstance(others := fields.get(name), list) and others:
            found[name] = len(others)
    if isinstance(annotations := fields.get("annotations"), list):
        kept = _kept(annotations)
        found.update(["cancelled annotations"] * (len(annotations) - len(kept)))
        found.update(
            f"results of type {_type(each)!r}" for made in kept for each in made["result"] if _is_other(each)
        )
    return found


def read_ann(annotations: str, text: str, where: str) -> tuple[list[Span], int]:
    r"""The spans of brat's entities (T lines), and how many lines of another kind were passed over.

    >>> read_ann("T1\tPER 0 3\tAnn\nR1\tKnows Arg1:T1 Arg2:T2\n", "Ann lost it", "a.ann")
    ([Span(start=0, end=3, label='PER')], 1)
    """
    spans, others = [], 0
    for number, line in enumerate(
        annotations.split("\n"), start=1
    ):  # a covered text may hold U+2028 and the like
        if line.startswith("T"):
            spans.append(_text_bound(line, text, f"{where}:{number}"))
        elif line.strip() and line[0] not in "REAMN#*":
            raise DataError(f"{where}:{number}: not a line of brat's: {_shown(line)}")
        else:
            others += bool(line.strip())
    return spans, others


_TEXT_BOUND = re.compile(r"T\S*\t(\S+) +(\d+ +\d+(?: *; *\d+ +\d+)*)\s*\t(.*)", re.DOTALL)


def _text_bound(line: str, text: str, where: str) -> Span:
    match = _TEXT_BOUND.fullmatch(line)
    if match is None:
        raise DataError(f"{where}: not a line of brat's such as 'T1<tab>PER 0 3<tab>Ann': {_shown(line)}")
    label, offsets, covered = match.groups()
    pieces = [tuple(map(int, piece.split())) for piece in offsets.split(";")]
    for (_, end), (start, _) in pairwise(pieces):
        if start < end or text[end:start].strip():  # brat itself cuts spans at the ends of lines
            raise DataError(
                f"{where}: an entity in several pieces, {label!r} at {offsets}, which tags of words cannot say"
            )
    span = Span(pieces[0][0], pieces[-1][1], label)
    _compare(span, covered, text, where)
    return span


def _labelled(annotations: Sequence[Any], where: str) -> list[Any]:
    """The spans of the one annotation that Label Studio has of a text."""
    kept = _kept(annotations)
    if len(kept) != 1:
        raise DataError(f"{where}: {len(kept)} annotations of one text; leave the one that is right")
    results = [each for each in kept[0]["result"] if not _is_other(each)]
    for each in results:
        if _type(each) != "labels":
            raise DataError(
                f"{where}: a result of type {_type(each)!r}; spans of plain text have the type 'labels'"
            )
    texts = {each.get("to_name") for each in results}
    if len(texts) > 1:
        raise DataError(
            f"{where}: spans of {len(texts)} texts, {', '.join(sorted(map(str, texts)))}; leave one text's"
        )
    return [each.get("value") for each in results]


def _kept(annotations: Sequence[Any]) -> list[Any]:
    made = (
        each for each in annotations if isinstance(each, Mapping) and isinstance(each.get("result"), list)
    )
    return [each for each in made if not each.get("was_cancelled")]


def _type(result: Any) -> object:
    return result.get("type", "labels") if isinstance(result, Mapping) else result


def _is_other(result: Any) -> bool:
    """Whether a result is no span at all, as a relation or a choice is; one of 'hypertextlabels' is, but of no text."""
    return isinstance(kind := _type(result), str) and not kind.endswith("labels")


def _only_text(data: Mapping[str, object], where: str) -> str:
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    if "text" not in texts and len(texts) != 1:
        raise DataError(f"{where}: 'data' has {len(texts)} texts and none called 'text'; call the one so")
    return texts["text"] if "text" in texts else next(iter(texts.values()))


def _list_of_spans(fields: Mapping[str, object], where: str) -> list[object]:
    lists = _lists_of_spans(fields)
    if len(lists) > 1:
        raise DataError(f"{where}: spans are in {' and in '.join(map(repr, lists))}; leave one")
    if not lists and not _is_bare(fields):
        raise DataError(f"{where}: no spans; it has: {', '.join(fields)}")
    return next(iter(lists.values()), [])


def _lists_of_spans(fields: Mapping[str, object]) -> dict[str, list[object]]:
    """By column: what may be spans, by the usual name or, in JSON-MIN, by what is in it. An empty list may be."""
    found = {}
    for name, value in fields.items():
        match value:
            case [] | [[*_] | {}, *_] if name in _SPANS:
                found[name] = list(value)
            case [{"start": _, "end": _, "labels": list()}, *_]:
                found[name] = list(value)
    return dict(sorted(found.items()))


def _is_bare(fields: Mapping[str, object]) -> bool:
    """Whether it is a text of JSON-MIN or Prodigy with nothing labelled: they leave the column of spans out."""
    return not fields.keys().isdisjoint(("annotation_id", "_task_hash")) and fields.keys().isdisjoint(_SPANS)


_SPANS = ("label", "labels", "entities", "spans", "ents")
"""What tools call the list of spans."""


def _span(given: Any, text: str, where: str) -> Span:
    """One span in any tool's spelling."""
    start: Any = None
    end = label = covered = start
    match given:
        case [start, end, label]:
            pass
        case {"start": start, "end": end} | {"start_offset": start, "end_offset": end}:
            label, covered = given.get("label", given.get("labels")), given.get("text")
    label = label[0] if isinstance(label, list) and len(label) == 1 else label
    if not (type(start) is int and type(end) is int and isinstance(label, str)):
        raise DataError(f"{where}: {given!r} is no span with start, end and one label")
    span = Span(start, end, label)
    if isinstance(covered, str) and covered:
        _compare(span, covered, text, where)
    return span


def _compare(span: Span, covered: str, text: str, where: str) -> None:
    """Raise DataError where the text that a tool says a span covers is another; spaces may differ."""
    if _spaceless(text[span.start : span.end]) == _spaceless(covered):
        return
    units = text.encode("utf-16-le", "surrogatepass")[2 * span.start : 2 * span.end].decode(
        "utf-16-le", "replace"
    )
    fits = (
        "these count UTF-16 units"
        if _spaceless(units) == _spaceless(covered)
        else "or the text has changed since"
    )
    raise DataError(
        f"{where}: {_told(span, text)} is {_shown(covered)} by its annotator; offsets must count characters (tools "
        f"that count UTF-16 units are off behind an emoji); {fits}"
    )


def _spaceless(text: str) -> str:
    return "".join(text.split())


def _check(span: Span, text: str, where: str) -> None:
    if not span.label.strip():
        raise DataError(f"{where}: {_told(span, text)} has an empty label")
    if not 0 <= span.start < span.end <= len(text):
        hint = "; 😀 is one" if max(text) > "\uffff" else ""  # and two where UTF-16 is counted
        raise DataError(
            f"{where}: {_told(span, text)} does not lie in the text, which has {len(text)} characters{hint}"
        )


def _covered(places: Sequence[tuple[int, int]], span: Span) -> tuple[int, int]:
    """The first word that has characters of the span, and the first behind them."""
    first = bisect_right(places, span.start, key=lambda place: place[1])
    return first, max(first, bisect_left(places, span.end, key=lambda place: place[0]))


def _told(span: Span, text: str) -> str:
    there = f", {_shown(text[span.start : span.end])}" if 0 <= span.start < span.end <= len(text) else ""
    return f"span {span.start} to {span.end} ({span.label}){there}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


class _Kinds(dict[int, str]):
    """By code point: l letter or digit, m mark, j joiner and its like, o a word of its own, or a space."""

    def __missing__(self, code: int) -> str:
        self[code] = kind = _kind(chr(code))
        return kind


def _kind(sign: str) -> str:
    category = unicodedata.category(sign)
    if sign.isspace() or category == "Cc" or sign in "\u200b\ufeff":  # zero width, but spaces
        return " "
    if category == "Cf":
        return "j"
    if category[0] == "M":
        return "m"
    is_spaced = category == "Nd" or not unicodedata.name(sign, "").startswith(_UNSPACED)
    return "l" if category[0] in "LN" and is_spaced else "o"


_UNSPACED = (
    *("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "HENTAIGANA", "HANGUL", "BOPOMOFO"),
    *("YI ", "THAI ", "LAO ", "KHMER ", "MYANMAR ", "TAI ", "NEW TAI LUE "),
)
_KINDS = _Kinds()
# A mark that follows nothing is a word, so that no span is lost; a joiner that follows nothing is as good as a space.
_WORD = re.compile("l[lmj]*|[om][mj]*")
