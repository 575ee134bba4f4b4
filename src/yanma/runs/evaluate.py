"""How well a model predicts what is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..data.collate import flat_labels
from ..data.examples import Example
from ..machine import bound_kernel_caches, keep_buffers
from ..objectives import Prediction, Report
from .folder import RunFolder
from .ready import Ready
from .train_setup import Note, open_run, read_examples


@dataclass(frozen=True)
class Evaluation:
    """How well some examples were predicted."""

    report: Report
    loss: float
    """Mean over everything that is scored."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"loss": self.loss, **self.report.as_dict()}


def evaluate(ready: Ready, examples: Sequence[Example], accelerator: Accelerator) -> Evaluation:
    """Predict the examples, which the ranks share, and report the same on every rank."""
    mine = ready.groups(examples)[accelerator.process_index :: accelerator.num_processes]
    parts = gather_object([_predict(ready, examples, mine)])
    predictions = {index: prediction for part, _ in parts for index, prediction in part.items()}
    report = ready.task.report(examples, [predictions[index] for index in range(len(examples))])
    num_scored = sum(ready.task.num_scored(example) for example in examples)
    return Evaluation(report, sum(loss for _, loss in parts) / max(1, num_scored))


def evaluate_run(folder: Path, source: str, note: Note) -> Evaluation:
    """Evaluate the best model of a run on the rows of a file, or of a set of `datasets`.

    Raises ConfigError where the folder is no run, DataError for rows that cannot be used.
    """
    keep_buffers()
    bound_kernel_caches()
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())
    ready = open_run(RunFolder(folder), accelerator.device)
    return evaluate(ready, read_examples(ready, source, note), accelerator)


def _predict(
    ready: Ready, examples: Sequence[Example], groups: Sequence[tuple[int, ...]]
) -> tuple[dict[int, Prediction], float]:
    """Predictions by index of the example, and the sum of the losses."""
    predictions: dict[int, Prediction] = {}
    loss = 0.0
    ready.model.eval()
    with torch.inference_mode():
        for group in groups:
            some = [examples[index] for index in group]
            logits = ready.logits(some)
            loss += ready.task.loss(logits, flat_labels(some).to(logits.device)).item()
            predictions |= zip(group, ready.task.decode(logits, some), strict=True)
    return predictions, loss
