"""Fine-tuning, and what a finished run is evaluated and asked with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator

from ..machine import bound_kernel_caches, keep_buffers
from .evaluate import Evaluation, evaluate
from .folder import RunFolder
from .loop import run
from .setup import Note
from .train_config import EvaluateConfig, TrainConfig, load
from .train_setup import open_run, read_examples, set_up


@dataclass(frozen=True)
class Trained:
    """What a run has come to."""

    folder: Path
    best_epoch: int
    """From 1; the earlier of equals."""
    best_step: int
    """After so many steps the model was as it is kept."""
    validation: Evaluation
    """Of the best model."""
    test: Evaluation | None
    """Of the best model; None where the config names no test rows."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "folder": str(self.folder),
            "best_epoch": self.best_epoch,
            "best_step": self.best_step,
            "validation": self.validation.as_dict(),
            "test": self.test and self.test.as_dict(),
        }


def train(
    config: TrainConfig | Mapping[str, object], *, overwrite: bool = False, resume: bool = False
) -> Trained:
    """Train as the config says; the folder `config.out` has what the run has come to, and checkpoints.

    A config may be given as its flags, by name. With `resume` the run in the folder goes on from its newest checkpoint,
    or from its beginning where it has none: on a CPU with the bits that it would have had without the interruption.

    Raises ConfigError, DataError or Unsupported before the folder is touched where the run cannot start.
    """
    if not isinstance(config, TrainConfig):
        config = load(flags=config)
    folder = RunFolder(config.out, TrainConfig)
    done = run(config, set_up, folder, overwrite=overwrite, resume=resume)
    best = cast(dict[str, Any], done.progress.best)  # a run has a validation
    entry = next(e for e in done.progress.validations if e["step"] == best["step"])
    test = done.closing["test"]
    return Trained(
        done.folder,
        best["epoch"],
        best["step"],
        Evaluation.from_dict(entry["validation"]),
        test and Evaluation.from_dict(test),
    )


def evaluate_run(folder: Path, source: str, note: Note, how: EvaluateConfig | None = None) -> Evaluation:
    """Evaluate the best model of a run on the rows of a file, or of a set of `datasets`, read as `how` says.

    Raises ConfigError where the folder is no run, DataError for rows that cannot be used.
    """
    keep_buffers()
    bound_kernel_caches()
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())
    how = how or EvaluateConfig()
    predictor = open_run(RunFolder(folder, TrainConfig), accelerator.device, how.columns)
    return evaluate(predictor, read_examples(predictor, source, note, how), accelerator)
