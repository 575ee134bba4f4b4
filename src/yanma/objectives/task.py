"""What a task is: rows to examples, logits to loss, predictions and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor
from torch.nn import functional as F

from ..data.columns import Columns
from ..data.examples import IGNORE, Encoded, Example
from ..data.rows import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# T tokens of some examples, N examples, C classes


class Prediction(Protocol):
    """What a model says of one example."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""


class Task(Protocol):
    """What a model learns. A class id is an index of `labels`."""

    @property
    def name(self) -> str:
        """ "token-classification" or "sequence-classification"."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names or tags."""

    @property
    def columns(self) -> Columns:
        """Which columns are read."""

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> Encoded:
        """Examples of at most `max_length` tokens, ids counted from 0.

        Rows without the column of labels give examples to predict: nothing in them is scored.
        Raises DataError with file:line for a row that cannot be used.
        """

    def classes(self, example: Example) -> set[str]:
        """Classes of which the example is an example; none where its truth is not known."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """() float32: the sum over scored items; logits (T, C) with labels (T,), or (N, C) with (N,)."""

    def num_scored(self, example: Example) -> int:
        """Items of the example that count in the loss."""

    def decode(self, logits: Tensor, examples: Sequence[Example]) -> Sequence[Prediction]:
        """One prediction an example, from the logits of exactly these examples: (T, C) or (N, C)."""

    def report(self, examples: Sequence[Example], predictions: Sequence[Any]) -> Report:
        """How well the predictions fit the truth that the examples hold."""


@dataclass(frozen=True)
class Score:
    """How well one class was found."""

    precision: float
    recall: float
    f1: float
    support: int
    """How often it truly stands in the data."""


@dataclass(frozen=True)
class Report:
    """How well some predictions fit the truth."""

    headline_name: str
    """Which figure decides: "f1_micro" or "accuracy"."""
    headline: float
    accuracy: float
    """Share of words, or of texts, that are right."""
    classes: Mapping[str, Score]
    """By class name; those that are neither in the truth nor predicted are left out."""
    averages: Mapping[str, Score]
    """"macro" and "weighted", and for tags "micro"."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "classes": _as_dicts(self.classes), "averages": _as_dicts(self.averages)}


def summed_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """() float32: -log p of each true class, summed over the rows of `logits` (R, C) whose label is not IGNORE.

    >>> import torch
    >>> summed_cross_entropy(torch.zeros(3, 4), torch.tensor([1, IGNORE, 2])) / torch.tensor(4.0).log()
    tensor(2.)
    """
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits are {tuple(logits.shape)}, labels {tuple(labels.shape)}; need (R, C) and (R,)"
        )
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")


def check_rows(logits: Tensor, num_rows: int, num_classes: int) -> None:
    """Raise ValueError unless `logits` is (num_rows, num_classes)."""
    if logits.shape != (num_rows, num_classes):
        raise ValueError(f"logits are {tuple(logits.shape)}; these examples need {(num_rows, num_classes)}")


def _as_dicts(scores: Mapping[str, Score]) -> dict[str, dict[str, float]]:
    return {name: asdict(score) for name, score in scores.items()}
