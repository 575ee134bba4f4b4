"""Token classification: one tag a word, such as names of people and places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

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
from .tags import OUTSIDE, first_break, is_bioes, parts, tag_set
from .task import Report, Score, Task, check_rows, summed_cross_entropy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# T tokens of some examples, C tags


@dataclass(frozen=True)
class Tagged:
    """The tags of a row's words."""

    tags: tuple[str, ...]
    """One a word of the row; the outside tag for words that have no token."""

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
    """One BIO or BIOES tag a word; a word's first token is scored, the others are not.

    >>> rows = [Row({"tokens": ["in", "New", "York"], "tags": ["O", "B-LOC", "I-LOC"]}, "a.jsonl:1")]
    >>> TokenClassification.from_rows(rows).labels
    ('O', 'B-LOC', 'I-LOC')
    """

    columns: Columns = field(default=Columns(("tokens",), "tags"))

    name: ClassVar[str] = "token-classification"
    head: ClassVar[str] = "TokenClassification"

    def __post_init__(self) -> None:
        for tag in self.labels:
            parts(tag)
        if OUTSIDE not in self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError(
                f"tags are each there once, and {OUTSIDE!r} among them; got {', '.join(self.labels)}"
            )

    @staticmethod
    def columns_named(given: Mapping[str, str]) -> Columns:
        """The columns, with the names that `given` has for "tokens" and "tags"; raises ConfigError for others.

        With "sentence" a row is a word, and that column says which sentence it is of.
        """
        names = renamed(("tokens", "tags", "sentence"), given)
        return Columns((names["tokens"],), names["tags"], given.get("sentence"))

    @classmethod
    def from_rows(cls, rows: Iterable[Row], columns: Columns | None = None) -> Self:
        """Learn the tags from training rows."""
        columns = columns or cls.columns_named({})
        refuse_words_alone(rows, columns)
        seen: set[str] = set()
        for row in rows:
            words, row_tags = row.words(columns.inputs[0]), row.words(columns.truth)
            _check_number(row, len(words), len(row_tags), columns)
            for tag in set(row_tags) - seen:
                _refuse_other_schemes(tag, row.where)
                seen.add(tag)
        tags = tag_set(seen)
        if tags == (OUTSIDE,):
            first = next(iter(rows), None)
            said = "no rows" if first is None else f"{first.where}: all tags of these rows are {OUTSIDE}"
            raise DataError(f"{said}: there is nothing to learn")
        return cls(tags, columns)

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
        truth = [
            self._truth(row, len(own)) if with_truth else () for row, own in zip(rows, words, strict=True)
        ]
        names = {tag for row in rows for tag in row.words(self.columns.truth)} if with_truth else set()
        examples: list[Example] = []
        truncated = cut = vanished = 0
        all_tokens = tokenize_words(tokenizer, words, max_length=max_length)
        for row, own, tokens, tags in zip(rows, words, all_tokens, truth, strict=True):
            examples.append(_example(first + len(examples), row.where, tokens, tags, len(own)))
            whole = tokens.uncut or tokens
            truncated += tokens.uncut is not None
            cut += whole.num_words - tokens.num_words
            vanished += len(own) - whole.num_words
        return Encoded(
            tuple(examples),
            truncated=truncated,
            words_cut=cut,
            words_vanished=vanished,
            max_length=max_length,
            recased=tuple(sorted(filter(self._ids.is_recased, names))),
        )

    def classes(self, example: Example) -> set[str]:
        """The types of its entities."""
        return {self.labels[label].partition("-")[2] for label in set(example.targets.tags)} - {""}

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
        check_rows(logits, sum(example.num_tokens for example in examples), len(self.labels))
        best = logits.argmax(-1).tolist()
        predictions = []
        begin = 0
        for example in examples:
            tags = (
                OUTSIDE if start == NO_TOKEN else self.labels[best[begin + start]]
                for start in example.targets.starts
            )
            predictions.append(Tagged(tuple(tags)))
            begin += example.num_tokens
        return predictions

    def report(self, examples: Sequence[Example], predictions: Sequence[Tagged]) -> Report:
        """Precision, recall and F1 of whole entities by `seqeval`: strict for BIOES, as conlleval for BIO.

        Words without a token count: their true tags are what is to be found.
        """
        truth, predicted = [], []
        for example, prediction in zip(examples, predictions, strict=True):
            if len(example.targets.tags) != len(prediction.tags):
                raise ValueError(
                    f"{example.where}: {len(example.targets.tags)} true tags, {len(prediction.tags)} predicted"
                )
            truth.append([self.labels[label] for label in example.targets.tags])
            predicted.append(list(prediction.tags))
        scores = _entity_scores(truth, predicted, strict=is_bioes(self.labels))
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

    def _truth(self, row: Row, num_words: int) -> tuple[int, ...]:
        """The ids of a row's tags."""
        tags = row.words(self.columns.truth)
        _check_number(row, num_words, len(tags), self.columns)
        found = tuple(self._id(tag, row.where) for tag in tags)
        broken = first_break([self.labels[tag] for tag in found]) if is_bioes(self.labels) else None
        if broken:
            raise DataError(f"{row.where}: not BIOES: {broken}")
        return found

    def _id(self, tag: str, where: str) -> int:
        if self._ids.is_recased(tag):
            _refuse_other_schemes(tag, where)
        return self._ids.of(tag, where)


def _check_number(row: Row, num_words: int, num_tags: int, columns: Columns) -> None:
    if num_tags != num_words:
        raise DataError(
            f"{row.where}: {num_words} {columns.inputs[0]} but {num_tags} {columns.truth}; each word needs its tag"
        )


def _refuse_other_schemes(tag: str, where: str) -> None:
    try:
        parts(tag)
    except ValueError as error:
        raise DataError(f"{where}: tag {tag!r} is of no scheme that is read here; {error}") from None


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


def _entity_scores(truth: list[list[str]], predicted: list[list[str]], *, strict: bool) -> dict[str, Score]:
    """By type, and by "micro avg" and the like; {} where there is no entity at all."""
    if all(tag == OUTSIDE for tags in (*truth, *predicted) for tag in tags):
        return {}
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOBES

    how = {"mode": "strict", "scheme": IOBES} if strict else {}
    report = classification_report(truth, predicted, output_dict=True, zero_division=0, **how)
    return {
        name: Score(float(s["precision"]), float(s["recall"]), float(s["f1-score"]), int(s["support"]))
        for name, s in report.items()
    }
