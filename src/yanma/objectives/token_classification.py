"""Token classification: one tag a word, such as names of people and places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import torch
from torch import Tensor

from ..data.columns import Columns, renamed
from ..data.examples import IGNORE, NO_TOKEN, Encoded, Example, Tokens
from ..data.rows import Row
from ..data.sentences import refuse_words_alone
from ..data.tokens import tokenize_words
from ..errors import DataError, Unsupported
from .labels import Ids
from .objective import Pack
from .tags import NAMELESS, OUTSIDE, Mixed, Scheme, begins_apart, looks_like_scheme, parts, scheme_of, tag_set
from .task import Report, Score, Task, check_rows, report_of_classes, summed_cross_entropy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NUMBER = re.compile(r"-?\d+")

# T tokens of some examples, C tags


@dataclass(frozen=True)
class Tagged:
    """The tags of a row's words."""

    tags: tuple[str | None, ...]
    """One a word of the row. A word that has no token is outside; among classes of words none is, and it has None."""

    def as_dict(self) -> dict[str, Any]:
        return {"tags": list(self.tags)}


@dataclass(frozen=True)
class WordTags:
    """An example's targets: where its words begin, and their true tags."""

    labels: tuple[int, ...]
    """One a token; IGNORE where nothing is scored or known."""
    starts: tuple[int, ...]
    """The index of each word's first token, NO_TOKEN for a word without one, also where it was cut off."""
    tags: tuple[int, ...]
    """The true tag of every word, also of those without a token; () where it is not known."""


@dataclass(frozen=True)
class TokenClassification(Task):
    """One tag a word, of an entity or of a class of words; a word's first token is scored, the others are not.

    >>> rows = [Row({"tokens": ["in", "New", "York"], "tags": ["O", "B-LOC", "L-LOC"]}, "a.jsonl:1")]
    >>> task = TokenClassification.from_rows(rows)
    >>> print(task.scheme, *task.labels)
    BILOU O B-LOC I-LOC L-LOC U-LOC
    """

    columns: Columns = field(default=Columns(("tokens",), "tags"))
    label_names: tuple[str, ...] | None = None
    """The tag of each number, where rows have numbers. None = they have tags."""
    is_iob1: bool = False
    """Whether the training rows were IOB1, whose tags are those of BIO."""

    name: ClassVar[str] = "token-classification"
    head: ClassVar[str] = "TokenClassification"

    def __post_init__(self) -> None:
        is_whole = self.scheme is Scheme.CLASSES or OUTSIDE in self.labels
        if len(set(self.labels)) != len(self.labels) or len(self.labels) < 2 or not is_whole:
            raise ValueError(
                f"two or more tags, each once, and {OUTSIDE!r} among those of entities; "
                f"got {', '.join(self.labels) or 'none'}"
            )

    @cached_property
    def scheme(self) -> Scheme:
        """As its tags are; of a saved model BIO for IOB1."""
        return Scheme.IOB1 if self.is_iob1 else scheme_of(self.labels)

    @staticmethod
    def columns_named(given: Mapping[str, str]) -> Columns:
        """The columns, with the names that `given` has for "tokens" and "tags"; raises ConfigError for others.

        With "sentence" a row is a word, and that column says which sentence it is of.
        """
        names = renamed(("tokens", "tags", "sentence"), given)
        return Columns((names["tokens"],), names["tags"], given.get("sentence"))

    @classmethod
    def from_rows(
        cls, rows: Iterable[Row], columns: Columns | None = None, label_names: Sequence[str] | None = None
    ) -> Self:
        """Learn the tags and their scheme from training rows; `label_names` has the tag of each number in them."""
        columns = columns or cls.columns_named({})
        refuse_words_alone(rows, columns)
        first: dict[str, str] = {}  # where each tag stands first
        for row in rows:
            row_tags = _tags(row, columns.truth, label_names)
            _check_number(row, len(row.words(columns.inputs[0])), len(row_tags), columns)
            for tag in row_tags:
                first.setdefault(tag, row.where)
        scheme = _scheme_of_rows(first, label_names)
        tags = tag_set(first, scheme)
        if len(tags) < 2:
            where = next(iter(first.values()), None)
            said = "no rows" if where is None else f"{where}: all tags of these rows are {tags[0]}"
            raise DataError(f"{said}: there is nothing to learn")
        is_iob1 = scheme is Scheme.BIO and not any(
            begins_apart(_tags(row, columns.truth, label_names)) for row in rows
        )
        return cls(tags, columns, None if label_names is None else tuple(label_names), is_iob1)

    @classmethod
    def check_row(cls, row: Row, columns: Columns) -> None:
        """Raises DataError where there is no word, or not one tag a word."""
        words, tags = row.words(columns.inputs[0]), row.fields.get(columns.truth)
        are_numbers = isinstance(tags, list | tuple) and all(type(tag) is int for tag in tags)
        num_tags = len(tags) if are_numbers else len(row.words(columns.truth))  # type: ignore[arg-type]
        _check_number(row, len(words), num_tags, columns)

    def check(self, rows: Iterable[Row]) -> None:
        """Raises DataError where each row is one word."""
        refuse_words_alone(rows, self.columns)

    def encode(
        self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, *, max_length: int, first: int = 0
    ) -> Encoded:
        """See Task. Raises Unsupported for a tokenizer that cannot say of which word a token is."""
        if not tokenizer.is_fast:
            raise Unsupported(
                f"{type(tokenizer).__name__} cannot say of which word a token is; tags need a fast tokenizer"
            )
        with_truth = any(self.columns.truth in row.fields for row in rows)
        words = [self._words(row) for row in rows]
        tags = [_tags(row, self.columns.truth, self.label_names) if with_truth else [] for row in rows]
        truth = [
            self._truth(row, own, len(row_words)) if with_truth else ()
            for row, own, row_words in zip(rows, tags, words, strict=True)
        ]
        examples: list[Example] = []
        truncated = cut = vanished = 0
        all_tokens = tokenize_words(tokenizer, words, max_length=max_length)
        for row, own, tokens, ids in zip(rows, words, all_tokens, truth, strict=True):
            examples.append(_example(first + len(examples), row.where, tokens, ids, len(own)))
            whole = tokens.uncut or tokens
            truncated += tokens.uncut is not None
            cut += whole.num_words - tokens.num_words
            vanished += len(own) - whole.num_words
        return Encoded(
            tuple(examples),
            truncated=truncated,
            words_cut=cut,
            words_vanished=vanished,
            words_lost_are="count as wrong" if self.scheme is Scheme.CLASSES else "count as outside",
            max_length=max_length,
            recased=tuple(sorted(filter(self._ids.is_recased, {tag for own in tags for tag in own}))),
        )

    def check_truth(self, row: Row) -> None:
        """Raises DataError for tags that break their scheme, or are none of this task's."""
        tags = _tags(row, self.columns.truth, self.label_names)
        self._truth(row, tags, len(self._words(row)))

    def repair(self, row: Row) -> Row:
        """The row with tags that keep to their scheme, see `Scheme.repaired`; itself where they do.

        Raises DataError for tags that are none of this task's.
        """
        tags = [
            self.labels[self._id(tag, row.where)] for tag in _tags(row, self.columns.truth, self.label_names)
        ]
        if self.scheme.first_break(tags) is None:
            return row
        return Row({**row.fields, self.columns.truth: self.scheme.repaired(tags)}, row.where)

    def classes(self, example: Example) -> set[str]:
        """The types of its entities, or the classes of its words."""
        tags = {self.labels[label] for label in example.targets.tags}
        if self.scheme is Scheme.CLASSES:
            return tags
        return {parts(tag)[1] or NAMELESS for tag in tags - {OUTSIDE}}

    def loss(self, logits: Tensor, pack: Pack) -> Tensor:
        """() float32: the sum over scored tokens; logits (T, C)."""
        labels = torch.tensor([x for example in pack for x in example.targets.labels], device=logits.device)
        return summed_cross_entropy(logits, labels)

    def num_scored(self, example: Example) -> int:
        """Words of the example that are scored."""
        labels: tuple[int, ...] = example.targets.labels
        return len(labels) - labels.count(IGNORE)

    def decode(self, logits: Tensor, examples: Pack) -> list[Tagged]:
        """The likeliest tag of every word, from the logits (T, C) of its first token."""
        tokenless = None if self.scheme is Scheme.CLASSES else OUTSIDE
        check_rows(logits, sum(example.num_tokens for example in examples), len(self.labels))
        best = logits.argmax(-1).tolist()
        predictions = []
        begin = 0
        for example in examples:
            tags = (
                tokenless if start == NO_TOKEN else self.labels[best[begin + start]]
                for start in example.targets.starts
            )
            predictions.append(Tagged(tuple(tags)))
            begin += example.num_tokens
        return predictions

    def report(self, examples: Sequence[Example], predictions: Sequence[Tagged]) -> Report:
        """Precision, recall and F1 of whole entities by `seqeval`; of classes of words by scikit-learn, and accuracy.

        Entities count strictly where the scheme marks their ends, else as conlleval has them. Words without a token
        count: their true tags are what is to be found.
        """
        truth: list[list[str | None]] = []
        predicted: list[list[str | None]] = []
        for example, prediction in zip(examples, predictions, strict=True):
            if len(example.targets.tags) != len(prediction.tags):
                raise ValueError(
                    f"{example.where}: {len(example.targets.tags)} true tags, {len(prediction.tags)} predicted"
                )
            truth.append([self.labels[label] for label in example.targets.tags])
            predicted.append(list(prediction.tags))
        if self.scheme is Scheme.CLASSES:
            ids = [
                [IGNORE if tag is None else self._ids.of(tag, "a prediction") for tag in chain(*rows)]
                for rows in (truth, predicted)
            ]
            return report_of_classes(self.labels, *ids)
        scores = _entity_scores(self.scheme, truth, predicted)
        averages = {
            name: scores.pop(f"{name} avg", Score(0.0, 0.0, 0.0, 0))
            for name in ("micro", "macro", "weighted")
        }
        right = sum(
            t == p for ts, ps in zip(truth, predicted, strict=True) for t, p in zip(ts, ps, strict=True)
        )
        return Report(
            "f1_micro", averages["micro"].f1, right / max(1, sum(map(len, truth))), scores, averages
        )

    @cached_property
    def _ids(self) -> Ids:
        return Ids(self.labels)

    def _words(self, row: Row) -> list[str]:
        """The words of a row. Where the task learned from a word a row, a text is refused: it may be a word alone."""
        name = self.columns.inputs[0]
        if self.columns.sentence is not None and isinstance(row.fields.get(name), str):
            raise DataError(
                f"{row.where}: {name!r} is a text; give all words of a sentence in one row, as a list"
            )
        return row.words(name)

    def _truth(self, row: Row, tags: Sequence[str], num_words: int) -> tuple[int, ...]:
        """The ids of a row's tags."""
        _check_number(row, num_words, len(tags), self.columns)
        found = tuple(self._id(tag, row.where) for tag in tags)
        if broken := self.scheme.first_break([self.labels[tag] for tag in found]):
            raise DataError(f"{row.where}: not {self.scheme}: {broken}")
        return found

    def _id(self, tag: str, where: str) -> int:
        if self._ids.is_recased(tag) and self.scheme is not Scheme.CLASSES:
            _refuse_other_schemes(tag, self.scheme, where)
        return self._ids.of(tag, where)


def _tags(row: Row, column: str, names: Sequence[str] | None) -> list[str]:
    """The tags of a row; of a number the one that `names` has for it."""
    given = row.fields.get(column)
    are_numbers = isinstance(given, list | tuple) and given and all(type(tag) is int for tag in given)
    tags: Sequence[str | int] = cast(Sequence[int], given) if are_numbers else row.words(column)
    return [
        tag
        if isinstance(tag, str) and (names is None or tag in names or not _NUMBER.fullmatch(tag))
        else _named(int(tag), names, f"{row.where}: {column}[{place}]")
        for place, tag in enumerate(tags)
    ]


def _named(number: int, names: Sequence[str] | None, where: str) -> str:
    if number == IGNORE:
        raise DataError(
            f"{where} is {IGNORE}, which marks pieces of words: such rows are tokenized already; give the words, and a "
            f"tag for each"
        )
    if names is None:
        raise DataError(f"{where} is {number}, a number; say which tag each number is (`label_names`)")
    if not 0 <= number < len(names):
        raise DataError(
            f"{where} is {number}, but `label_names` has {len(names)} tags, 0 to {len(names) - 1}"
        )
    return names[number]


def _scheme_of_rows(first: Mapping[str, str], names: Sequence[str] | None) -> Scheme:
    """The scheme of tags, of which each has the place where it stands first; with `names` they are among these."""
    for tag, where in first.items():
        if names is not None and tag not in names:
            raise DataError(f"{where}: tag {tag!r} is not among `label_names`: {', '.join(names)}")
    try:
        scheme = scheme_of(first)
    except Mixed as error:
        raise DataError(
            f"{first[error.tag]}: tag {error.tag!r}, and {first[error.other]}: {error.other!r}: {error.why}"
        ) from None
    if scheme is not Scheme.CLASSES:
        return scheme
    for tag, where in first.items():
        if not tag.strip():
            raise DataError(f"{where}: a tag is empty; each word needs its tag")
        if looks_like_scheme(tag):
            raise DataError(
                f"{where}: tag {tag!r}: a scheme's letters are capitals, {tag[0].upper()}{tag[1:]}"
            )
    if names is None and all(
        _NUMBER.fullmatch(tag.strip("[],")) for tag in first
    ):  # or a printed list of them
        tag, where = next(iter(first.items()))
        raise DataError(f"{where}: tag {tag!r} is a number; say which tag each number is (`label_names`)")
    return scheme


def _check_number(row: Row, num_words: int, num_tags: int, columns: Columns) -> None:
    if num_tags != num_words:
        raise DataError(
            f"{row.where}: {num_words} {columns.inputs[0]} but {num_tags} {columns.truth}; each word needs its tag"
        )


def _refuse_other_schemes(tag: str, scheme: Scheme, where: str) -> None:
    try:
        letter, _ = parts(tag)
    except ValueError as error:
        raise DataError(f"{where}: tag {tag!r} is of no scheme that is read here; {error}") from None
    if letter not in OUTSIDE + scheme.letters:
        raise DataError(
            f"{where}: tag {tag!r} is not of {scheme}, of which the training rows are: its letters are "
            f"{', '.join(OUTSIDE + scheme.letters)}"
        )


def _example(key: int, where: str, tokens: Tokens, tags: Sequence[int], num_words: int) -> Example:
    if not tokens.input_ids:
        raise DataError(f"{where}: the tokenizer makes nothing of these words; leave the row out")
    starts = tokens.word_starts(num_words)
    labels = [IGNORE] * len(tokens.input_ids)
    for start, tag in zip(starts, tags, strict=False):  # no tags at all where they are not known
        if start != NO_TOKEN:
            labels[start] = tag
    own = Tokens(tuple(tokens.input_ids), tokens.token_type_ids and tuple(tokens.token_type_ids))
    return Example(key, (own,), WordTags(tuple(labels), starts, tuple(tags)), where)


def _entity_scores(scheme: Scheme, *both: list[list[str | None]]) -> dict[str, Score]:
    """Of true and predicted tags, by type, and by "micro avg" and the like; {} where there is no entity at all."""
    true, predicted = ([scheme.as_bioes(tag or OUTSIDE for tag in tags) for tags in rows] for rows in both)
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOBES, Entities

    if set(chain(*true)) <= {OUTSIDE}:  # of no entity at all, seqeval's averages are NaN
        strict = Entities(predicted, IOBES).unique_tags
        if not (strict if scheme.marks_ends else set(chain(*predicted)) - {OUTSIDE}):
            return {}
    how = {"mode": "strict", "scheme": IOBES} if scheme.marks_ends else {}
    report = classification_report(true, predicted, output_dict=True, zero_division=0, **how)
    return {
        name: Score(float(s["precision"]), float(s["recall"]), float(s["f1-score"]), int(s["support"]))
        for name, s in report.items()
    }
