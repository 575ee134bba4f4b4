"""What `yanma train` teaches: an objective over rows, with predictions and a report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from torch import Tensor
from torch.nn import functional as F

from ..corruption import RunningLoss
from ..data.columns import Columns
from ..data.examples import IGNORE, Encoded, Example
from ..data.rows import Row
from .objective import Compute, Pack, Prepared, Terms

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# T tokens of some examples, N examples, C classes


class Prediction(Protocol):
    """What a model says of one example."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""


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
    accuracy: float | None = None
    """Share of words, or of texts, that are right; None where nothing is right or wrong."""
    classes: Mapping[str, Score] = field(default_factory=dict)
    """By class name; those that are neither in the truth nor predicted are left out."""
    averages: Mapping[str, Score] = field(default_factory=dict)
    """"macro" and "weighted", and for tags "micro"."""
    lower_is_better: bool = False
    """Of the headline."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "classes": _as_dicts(self.classes), "averages": _as_dicts(self.averages)}


@dataclass(frozen=True)
class Task(ABC):
    """An objective of one sum over what each row asks. A class id is an index of `labels`.

    A subclass says which columns it reads, makes examples of rows, and says what loss, predictions and report are made
    of the logits of a head of transformers'.
    """

    labels: tuple[str, ...]
    """Class names or tags."""
    columns: Columns
    """Which columns are read."""

    name: ClassVar[str]
    """As `yanma train --task` has it."""
    head: ClassVar[str]
    """Which `AutoModelFor...` of transformers' has the head: "SequenceClassification", "TokenClassification"."""
    names: ClassVar[tuple[str, ...]] = ("loss",)
    weights: ClassVar[tuple[float, ...]] = (1.0,)
    has_classes: ClassVar[bool] = True
    """Whether the head's outputs are classes, which the model's config names; else `labels` is ()."""

    @staticmethod
    @abstractmethod
    def columns_named(given: Mapping[str, str]) -> Columns:
        """The columns, with the names that `given` has for the usual ones; raises ConfigError for others."""

    @classmethod
    @abstractmethod
    def from_rows(cls, rows: Iterable[Row], columns: Columns | None = None) -> Self:
        """Learn the class names from training rows, which can be gone over more than once.

        Raises DataError where there is nothing to learn.
        """

    @classmethod  # noqa: B027  # most have nothing to check
    def check_row(cls, row: Row, columns: Columns) -> None:
        """Raises DataError for a row with its truth that cannot be used, whatever the others are."""

    def check_truth(self, row: Row) -> None:  # noqa: B027  # where classes are unknown, encode says so
        """Raises DataError for a row whose truth is none that this task can score."""

    def repair(self, row: Row) -> Row:
        """The row with a truth that keeps to the rules of the task's; itself where it does, or where there are none."""
        return row

    def check(self, rows: Iterable[Row]) -> None:  # noqa: B027  # most have nothing to check
        """Raises DataError for the rows of a source that are not what they seem to be."""

    @abstractmethod
    def encode(
        self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, *, max_length: int, first: int = 0
    ) -> Encoded:
        """Examples of at most `max_length` tokens, keys counted from `first`.

        Rows without the column of labels give examples to predict: nothing in them is scored.
        Raises DataError with file:line for a row that cannot be used.
        """

    @abstractmethod
    def loss(self, logits: Tensor, pack: Pack) -> Tensor:
        """() float32: the sum over what is scored; logits (T, C) or (N, C), as the head gives them."""

    @abstractmethod
    def decode(self, logits: Tensor, examples: Pack) -> Sequence[Prediction]:
        """One prediction an example, from the logits of exactly these examples: (T, C) or (N, C)."""

    @abstractmethod
    def report(self, examples: Sequence[Example], predictions: Sequence[Any]) -> Report:
        """How well the predictions fit the truth that the examples hold."""

    def num_scored(self, example: Example) -> int:
        """Items of the example that count in the loss."""
        return 1

    def classes(self, example: Example) -> set[str]:
        """Classes of which the example is an example; none where its truth is not known."""
        return set()

    def prepare(
        self, items: Sequence[Example], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        """See Objective: examples as they are in every epoch, in the order of the data, however they were drawn."""
        examples = tuple(sorted(items, key=lambda example: example.key))
        return Prepared(examples, (sum(map(self.num_scored, examples)),))

    def terms(self, compute: Compute, pack: Pack) -> Terms:
        """See Objective."""
        logits = compute.logits(pack)
        return Terms((self.loss(logits, pack),), outputs=logits)


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


def report_of_classes(labels: Sequence[str], truth: Sequence[int], predicted: Sequence[int]) -> Report:
    """Accuracy, and precision, recall and F1 of each class by scikit-learn; IGNORE where nothing is predicted.

    >>> report_of_classes(("NOUN", "VERB"), [0, 1, 1], [0, 1, IGNORE]).classes["VERB"]
    Score(precision=1.0, recall=0.5, f1=0.6666666666666666, support=2)
    """
    from sklearn.metrics import precision_recall_fscore_support

    if not truth:
        raise ValueError("no examples to report on")
    present = sorted({*truth, *predicted} - {IGNORE})
    scores = precision_recall_fscore_support(truth, predicted, labels=present, zero_division=0)
    classes = {
        labels[label]: Score(float(p), float(r), float(f1), int(support))
        for label, p, r, f1, support in zip(present, *scores, strict=True)
    }
    averages = {}
    for name in ("macro", "weighted"):
        p, r, f1, _ = precision_recall_fscore_support(
            truth, predicted, labels=present, average=name, zero_division=0
        )
        averages[name] = Score(float(p), float(r), float(f1), len(truth))
    accuracy = sum(t == p for t, p in zip(truth, predicted, strict=True)) / len(truth)
    return Report("accuracy", accuracy, accuracy, classes, averages)


def check_rows(logits: Tensor, num_rows: int, num_classes: int) -> None:
    """Raise ValueError unless `logits` is (num_rows, num_classes)."""
    if logits.shape != (num_rows, num_classes):
        raise ValueError(f"logits are {tuple(logits.shape)}; these examples need {(num_rows, num_classes)}")


def _as_dicts(scores: Mapping[str, Score]) -> dict[str, dict[str, float]]:
    return {name: asdict(score) for name, score in scores.items()}
