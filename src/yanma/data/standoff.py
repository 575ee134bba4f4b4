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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError

_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\U00020000-\U0003ffff]"
    r"|(?:(?![\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\U00020000-\U0003ffff])\w)+|[^\w\s]"
)
"""A character of a script without spaces; letters, digits and marks that stand together; any other character."""
_SPANS = ("label", "labels", "entities", "spans", "ents")
"""What tools call the list of spans."""
_STARTS, _ENDS = ("start", "start_offset"), ("end", "end_offset")


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

    Raises DataError for spans that hold no word, lie outside the text, or share a word with another.
    """
    words = [(found.start(), found.end()) for found in _WORD.finditer(text)]
    if not words:
        raise DataError(f"{where}: a text without words")
    tags = ["O"] * len(words)
    owner: dict[int, Span] = {}
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise DataError(
                f"{where}: {_shown(span)} does not lie in the text, which has {len(text)} characters"
            )
        own = [place for place, (start, end) in enumerate(words) if start < span.end and span.start < end]
        if not own:
            raise DataError(f"{where}: {_shown(span)} covers no word")
        other = next((owner[place] for place in own if place in owner), None)
        if other is not None:
            raise DataError(
                f"{where}: {_shown(span)} and {_shown(other)} share a word; spans that overlap or lie in one another "
                f"are not read"
            )
        owner |= dict.fromkeys(own, span)
        tags[own[0] : own[-1] + 1] = [f"B-{span.label}", *[f"I-{span.label}"] * (len(own) - 1)]
    return {"tokens": [text[start:end] for start, end in words], "tags": tags}


def is_standoff(fields: object) -> bool:
    """Whether a record is a text with spans, and not words with tags.

    >>> is_standoff({"text": "Ann", "label": [[0, 3, "PER"]]}), is_standoff({"text": "Ann", "label": "PER"})
    (True, False)
    """
    if _is_pair(fields):
        return True
    if not isinstance(fields, Mapping) or "tokens" in fields:
        return False
    return "annotations" in fields or any(isinstance(fields.get(name), list) for name in _SPANS)


def spans_of(fields: Any, where: str) -> tuple[str, list[Span]]:
    """A record's text and its spans.

    >>> spans_of({"text": "Ann lost it", "entities": [{"start_offset": 0, "end_offset": 3, "label": "PER"}]}, "a:1")
    ('Ann lost it', [Span(start=0, end=3, label='PER')])

    Raises DataError where it is not clear what is meant.
    """
    if _is_pair(fields):
        fields = {"text": fields[0], **fields[1]}
    if fields.get("answer", "accept") != "accept":
        raise DataError(
            f"{where}: its annotator answered {fields['answer']!r}; only what was accepted is read"
        )
    if "annotations" in fields:
        return _of_label_studio(fields, where)
    lists = [name for name in _SPANS if isinstance(fields.get(name), list)]
    if len(lists) > 1:
        raise DataError(f"{where}: spans are in {lists[0]!r} and in {lists[1]!r}; leave one")
    text = fields.get("text", fields.get("data"))
    if not isinstance(text, str):
        raise DataError(f"{where}: spans without a 'text' that they are of")
    return text, [_span(each, text, where) for each in fields[lists[0]]]


def read_ann(annotations: str, text: str, where: str) -> tuple[list[Span], int]:
    r"""The spans of brat's entities (T lines), and how many lines of another kind were passed over.

    >>> read_ann("T1\tPER 0 3\tAnn\nR1\tKnows Arg1:T1 Arg2:T2\n", "Ann lost it", "a.ann")
    ([Span(start=0, end=3, label='PER')], 1)
    """
    spans, others = [], 0
    for number, line in enumerate(annotations.splitlines(), start=1):
        if not line.startswith("T"):
            others += bool(line.strip())
            continue
        found = re.fullmatch(r"T\S*\t(\S+) (\d+) (\d+)((?:;\d+ \d+)*)(?:\t(.*))?", line.rstrip())
        if found is None:
            raise DataError(f"{where}:{number}: not a line of brat's such as 'T1<tab>PER 0 3<tab>Ann'")
        label, start, end, more, covered = found.groups()
        if more:
            raise DataError(f"{where}:{number}: an entity in several pieces, which tags of words cannot say")
        span = Span(int(start), int(end), label)
        _check_covered(span, text, covered, f"{where}:{number}")
        spans.append(span)
    return spans, others


def _is_pair(fields: object) -> bool:
    """spaCy's [text, {"entities": [...]}]."""
    return (
        isinstance(fields, list)
        and len(fields) == 2
        and isinstance(fields[0], str)
        and isinstance(fields[1], Mapping)
        and "entities" in fields[1]
    )


def _of_label_studio(fields: Mapping[str, Any], where: str) -> tuple[str, list[Span]]:
    data, kept = fields.get("data"), [a for a in fields["annotations"] if not a.get("was_cancelled")]
    texts = {name: value for name, value in (data or {}).items() if isinstance(value, str)}
    if "text" not in texts and len(texts) != 1:
        raise DataError(f"{where}: 'data' has {len(texts)} texts and none called 'text'; call the one so")
    if len(kept) != 1:
        raise DataError(f"{where}: {len(kept)} annotations of one text; leave the one that is right")
    text = texts.get("text", next(iter(texts.values())))
    spans = [r for r in kept[0]["result"] if r.get("type", "labels") in ("labels", "hypertextlabels")]
    if len(spans) < len(kept[0]["result"]):
        other = next(r["type"] for r in kept[0]["result"] if r not in spans)
        raise DataError(f"{where}: a result of type {other!r}; spans with labels are read")
    return text, [_span(result["value"], text, where) for result in spans]


def _span(given: Any, text: str, where: str) -> Span:
    """One span in any tool's spelling."""
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 3:
        start, end, label = given
        covered = None
    elif isinstance(given, Mapping):
        start = next((given[name] for name in _STARTS if name in given), None)
        end = next((given[name] for name in _ENDS if name in given), None)
        label, covered = given.get("label", given.get("labels")), given.get("text")
        label = label[0] if isinstance(label, list) and len(label) == 1 else label
    else:
        start = end = label = covered = None
    if not (type(start) is int and type(end) is int and isinstance(label, str) and label.strip()):
        raise DataError(f"{where}: {given!r} is no span with start, end and one label")
    span = Span(start, end, label)
    _check_covered(span, text, covered, where)
    return span


def _check_covered(span: Span, text: str, covered: object, where: str) -> None:
    there = text[span.start : span.end]
    if isinstance(covered, str) and covered.split() != there.split():
        raise DataError(
            f"{where}: {_shown(span)} is {covered!r} by its annotator, but the text has {there!r} there; offsets must "
            f"count characters (tools that count UTF-16 units are off behind an emoji)"
        )


def _shown(span: Span) -> str:
    return f"span {span.start} to {span.end} ({span.label})"
