"""Sequence classification: one class a text, or a pair of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from ..data.columns import Columns, renamed
from ..data.examples import IGNORE, Encoded, Example, Tokens
from ..data.rows import Row
from ..data.tokens import tokenize_texts
from ..errors import DataError
from .labels import Ids, in_order, refuse_numbers
from .objective import Pack
from .task import Report, Task, check_rows, report_of_classes, summed_cross_entropy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# N examples, C classes


@dataclass(frozen=True)
class Classified:
    """The likeliest class of a text."""

    label: str
    probability: float

    def as_dict(self) -> dict[str, Any]:
        return {"label": self.label, "probability": self.probability}


@dataclass(frozen=True)
class SequenceClassification(Task):
    """One of two or more classes a text; an example's targets are its class id, or IGNORE.

    >>> rows = [Row({"text": "My card is lost", "label": "lost"}, "a:1"), Row({"text": "Hi", "label": "hello"}, "a:2")]
    >>> SequenceClassification.from_rows(rows).labels
    ('hello', 'lost')
    """

    columns: Columns = field(default=Columns(("text",), "label"))
    label_names: tuple[str, ...] | None = None
    """What each number is called, where classes stand in the rows as numbers."""

    name: ClassVar[str] = "sequence-classification"
    head: ClassVar[str] = "SequenceClassification"

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or len(self.labels) < 2:
            raise ValueError(f"two or more classes, each once; got {', '.join(self.labels) or 'none'}")

    @staticmethod
    def columns_named(given: Mapping[str, str]) -> Columns:
        """The columns, with the names that `given` has for "text" and "label"; a pair of texts if it has "text_pair".

        Raises ConfigError for other names.
        """
        names = renamed(("text", "text_pair", "label"), given)
        texts = ("text", "text_pair") if "text_pair" in given else ("text",)
        return Columns(tuple(names[text] for text in texts), names["label"])

    @classmethod
    def from_rows(
        cls, rows: Iterable[Row], columns: Columns | None = None, label_names: Sequence[str] | None = None
    ) -> Self:
        """Learn the class names from training rows; `label_names` has the name of each number in them."""
        columns = columns or cls.columns_named({})
        names = None if label_names is None else tuple(label_names)
        labels = in_order(_label(row, columns.truth, names) for row in rows)
        if len(labels) < 2:
            first = next(iter(rows), None)
            said = "no rows" if first is None else f"{first.where}: all rows have label {labels[0]!r}"
            raise DataError(f"{said}: there is nothing to learn")
        refuse_numbers(labels, next(iter(rows)).where, columns.truth)
        return cls(labels, columns, names)

    @classmethod
    def check_row(cls, row: Row, columns: Columns) -> None:
        """Raises DataError where a text or the class is missing."""
        for column in columns.inputs:
            row.text(column)
        row.label(columns.truth)

    def check_truth(self, row: Row) -> None:
        """Raises DataError for a class that is none of this task's."""
        self._truth(row)

    def encode(
        self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, *, max_length: int, first: int = 0
    ) -> Encoded:
        """See Task."""
        columns = [[row.text(column) for row in rows] for column in self.columns.inputs]
        with_truth = any(self.columns.truth in row.fields for row in rows)
        truth = [self._truth(row) if with_truth else IGNORE for row in rows]
        names = {_label(row, self.columns.truth, self.label_names) for row in rows} if with_truth else set()
        texts, pairs = columns if len(columns) == 2 else (columns[0], None)
        num_special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
        examples: list[Example] = []
        truncated = 0
        all_tokens = tokenize_texts(tokenizer, texts, pairs, max_length=max_length)
        for row, tokens, label in zip(rows, all_tokens, truth, strict=True):
            examples.append(_example(first + len(examples), row.where, tokens, label, num_special))
            truncated += tokens.uncut is not None
        return Encoded(
            tuple(examples),
            truncated=truncated,
            max_length=max_length,
            recased=tuple(sorted(filter(self._ids.is_recased, names))),
        )

    def classes(self, example: Example) -> set[str]:
        """The class of the text."""
        return set() if example.targets == IGNORE else {self.labels[example.targets]}

    def loss(self, logits: Tensor, pack: Pack) -> Tensor:
        """() float32: the sum over texts; logits (N, C)."""
        labels = torch.tensor([example.targets for example in pack], device=logits.device)
        return summed_cross_entropy(logits, labels)

    def num_scored(self, example: Example) -> int:
        """1, or 0 where the class is not known."""
        return int(example.targets != IGNORE)

    def decode(self, logits: Tensor, examples: Pack) -> list[Classified]:
        """The likeliest class of every text, from logits (N, C)."""
        check_rows(logits, len(examples), len(self.labels))
        best = logits.float().softmax(-1).max(-1)
        return [
            Classified(self.labels[label], probability)
            for label, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def report(self, examples: Sequence[Example], predictions: Sequence[Classified]) -> Report:
        """Accuracy, and precision, recall and F1 of each class by scikit-learn."""
        for example in examples:
            if example.targets == IGNORE:
                raise ValueError(f"{example.where}: its true class is not known, so it cannot be reported on")
        predicted = [self._ids.of(prediction.label, "a prediction") for prediction in predictions]
        return report_of_classes(self.labels, [example.targets for example in examples], predicted)

    @cached_property
    def _ids(self) -> Ids:
        return Ids(self.labels)

    def _truth(self, row: Row) -> int:
        return self._ids.of(_label(row, self.columns.truth, self.label_names), row.where)


def _label(row: Row, column: str, names: tuple[str, ...] | None) -> str:
    """The name of a row's class; of its number where numbers have names."""
    label = row.label(column)
    if names is None or label in names:
        return label
    if not (label.isdigit() and int(label) < len(names)):
        raise DataError(
            f"{row.where}: {column!r} is {label!r}, which is neither one of `label_names` ({', '.join(names)}) nor a "
            f"number from 0 to {len(names) - 1}"
        )
    return names[int(label)]


def _example(key: int, where: str, tokens: Tokens, label: int, num_special: int) -> Example:
    if len(tokens.input_ids) <= num_special:
        raise DataError(
            f"{where}: the tokenizer makes nothing of this text, so it is empty; leave the row out"
        )
    own = Tokens(tuple(tokens.input_ids), tokens.token_type_ids and tuple(tokens.token_type_ids))
    return Example(key, (own,), label, where)
