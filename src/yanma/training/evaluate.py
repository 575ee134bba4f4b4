"""Predictions of a trained model, and the report that compares them with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import DataError
from ..tasks.examples import Example
from ..tasks.task import Prediction, Report, Task
from .config import Config
from .folder import RunFolder
from .masking import Group, Masking, labels_of


@dataclass(frozen=True)
class Evaluation:
    """How well some examples were predicted."""

    report: Report
    loss: float
    """Mean over everything that is scored."""


def evaluate(
    model: PreTrainedModel, masking: Masking, task: Task, examples: Sequence[Example], accelerator: Accelerator
) -> Evaluation:
    """Predict all examples, shared among the ranks, and report on every rank."""
    groups = masking.groups([len(example.input_ids) for example in examples])
    mine = groups[accelerator.process_index :: accelerator.num_processes]
    with accelerator.autocast():
        parts = gather_object([_predict_groups(model, masking, task, examples, mine, accelerator.device)])
    predictions = {index: prediction for part, _ in parts for index, prediction in part.items()}
    num_scored = sum(task.num_scored(example) for example in examples)
    report = task.report(examples, [predictions[index] for index in range(len(examples))])
    return Evaluation(report, sum(loss for _, loss in parts) / max(num_scored, 1))


def _predict_groups(
    model: PreTrainedModel,
    masking: Masking,
    task: Task,
    examples: Sequence[Example],
    groups: Sequence[Group],
    device: torch.device,
) -> tuple[dict[int, Prediction], float]:
    """Predictions by index of the example, and the sum of their losses."""
    predictions: dict[int, Prediction] = {}
    loss = 0.0
    model.eval()
    with torch.inference_mode():
        for group in groups:
            some = [examples[index] for index in group]
            logits = masking.logits(model, some, seed=0, device=device)
            loss += task.loss(logits, labels_of(some, device)).item()
            predictions |= zip(group, task.decode(logits, some), strict=True)
    return predictions, loss
