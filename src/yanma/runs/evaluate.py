"""How well a model predicts what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from ..data import Example
from ..engine import Engine
from ..objectives import Prediction, Report, Score
from ..report.tables import Table
from .predictor import Predictor

_MOST_CLASSES = 10


@dataclass(frozen=True)
class Evaluation:
    """How well some examples were predicted."""

    report: Report
    loss: float
    """Mean over everything that is scored."""

    @property
    def rank(self) -> float:
        """The headline, turned so that more is better."""
        return -self.report.headline if self.report.lower_is_better else self.report.headline

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"loss": self.loss, **self.report.as_dict()}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """What `as_dict` gave."""
        rest = {name: value for name, value in told.items() if name != "loss"}
        for kind in ("classes", "averages"):
            rest[kind] = {name: Score(**score) for name, score in told[kind].items()}
        return cls(Report(**rest), told["loss"])

    def points(self) -> dict[str, float]:
        """Of curves, by name."""
        return {f"validation/{self.report.headline_name}": self.report.headline}

    def describe(self) -> str:
        """Part of a line."""
        return f"loss {self.loss:.4f}, {self.report.headline_name} {self.report.headline:.4f}"

    def table(self, title: str) -> Table | None:
        """The classes with the lowest F1, and the averages; None where there are no classes."""
        return table_of(self.report, title, worst=_MOST_CLASSES) if self.report.classes else None


def evaluate(predictor: Predictor, examples: Sequence[Example], accelerator: Accelerator) -> Evaluation:
    """Predict the examples, which the ranks share, and report the same on every rank."""
    task = predictor.task
    losses: list[float] = []

    def decode(logits: Tensor, pack: Sequence[Example]) -> Sequence[Prediction]:
        predictions = task.decode(logits, pack)
        losses.append(task.loss(logits, pack).item())
        return predictions

    mine = range(accelerator.process_index, len(examples), accelerator.num_processes)
    engine = Engine(predictor.model, decode=decode, batching=predictor.batching, bf16=predictor.bf16)
    answers = engine.run([examples[index] for index in mine])
    own = {index: answer.result() for index, answer in zip(mine, answers, strict=True)}
    parts: list[Any] = gather_object([(own, sum(losses))])
    predictions = {index: prediction for part, _ in parts for index, prediction in part.items()}
    report = task.report(examples, [predictions[index] for index in range(len(examples))])
    num_scored = sum(task.num_scored(example) for example in examples)
    return Evaluation(report, sum(loss for _, loss in parts) / max(1, num_scored))


def table_of(report: Report, title: str, *, worst: int | None = None) -> Table:
    """Precision, recall and F1 of every class (`worst`: of that many with the lowest F1), and their averages."""
    classes = sorted(report.classes.items())
    if worst is not None and len(classes) > worst:
        title += f"; the {worst} of {len(classes)} classes with the lowest F1"
        classes = sorted(classes, key=lambda item: item[1].f1)[:worst]
    totals = [_cells(f"{name} average", score) for name, score in report.averages.items()]
    if report.accuracy is not None and report.headline_name != "accuracy":
        totals.append(("accuracy", "", "", f"{report.accuracy:.4f}", ""))
    return Table(
        ("class", "precision", "recall", "F1", "support"),
        (*(_cells(name, score) for name, score in classes), *totals),
        f"{title}: {report.headline_name} {report.headline:.4f}",
        num_totals=len(totals),
    )


def _cells(name: str, score: Score) -> tuple[str, ...]:
    return (name, *(f"{x:.4f}" for x in (score.precision, score.recall, score.f1)), str(score.support))
