"""The training loop: from a config to a folder with the best model, its figures and its curves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ..data.steps import Step, cut_epoch, dropout_seed
from ..errors import ConfigError
from ..machine import bound_kernel_caches, keep_buffers
from ..report.progress import Speed, Teller
from .card import card
from .evaluate import Evaluation, evaluate
from .folder import RunFolder
from .optimizer import adamw, scale
from .ready import Data
from .records import Curves, Records
from .reports import table
from .train_config import Config
from .train_setup import open_run, set_up
from .train_stepper import Stepper


@dataclass(frozen=True)
class Trained:
    """What a run has come to."""

    folder: Path
    best_epoch: int
    """From 1; the earlier of equals."""
    validation: Evaluation
    """Of the best epoch."""
    test: Evaluation | None
    """Of the best epoch's model; None where the config names no test rows."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "folder": str(self.folder),
            "best_epoch": self.best_epoch,
            "validation": self.validation.as_dict(),
            "test": self.test and self.test.as_dict(),
        }


def train(config: Config, *, overwrite: bool = False) -> Trained:
    """Train as the config says; after every epoch the folder `config.out` has what the run has come to.

    Raises ConfigError, DataError or Unsupported before the folder is touched where the run cannot start.
    """
    keep_buffers()
    bound_kernel_caches()
    folder = RunFolder(config.out)
    folder.check_free(overwrite=overwrite, reads=(config.model.path, config.model.tokenizer))
    accelerator = started(bf16=config.optim.bf16)
    first = accelerator.is_main_process  # the one that tells and writes
    if first:
        folder.check_possible()
    teller = Teller(enabled=first)
    ready, data = set_up(config, accelerator.device, teller.note)
    accelerator.wait_for_everyone()
    if first:
        folder.start(ready.config)

    optim = config.optim
    optimizer = adamw(ready.model, learning_rate=optim.learning_rate, weight_decay=optim.weight_decay)
    stepper = Stepper(ready, data.train, optimizer, accelerator)
    epochs = _epochs(config, data)
    num_steps = sum(map(len, epochs))
    records = Records.begin(ready, data, num_processes=accelerator.num_processes)
    done = 0
    with teller.training(num_steps), Curves(folder.tensorboard, enabled=first) as curves:
        for epoch, steps in enumerate(epochs, start=1):
            speed, losses = Speed(), []
            for step in steps:
                rate = optim.learning_rate * scale(
                    done, num_steps, warmup=optim.warmup, schedule=optim.schedule
                )
                moved = stepper.move(step, learning_rate=rate, seed=dropout_seed(config.seed, epoch))
                done += 1
                losses.append(moved.loss)
                speed.add(moved.lengths, moved.slots, moved.seconds)
                curves.step(done, moved, rate)
                teller.step(f"epoch {epoch}/{optim.epochs}", done, moved.loss, speed)
            validation = evaluate(ready, data.validation, accelerator)
            records.add_epoch(losses, speed, validation)
            curves.epoch(done, validation)
            teller.note(_epoch_line(epoch, optim.epochs, losses, speed, validation))
            teller.show(table(validation.report, f"validation, epoch {epoch}", worst=10))
            if first:
                if records.best_epoch == epoch:
                    folder.save(records.as_dict(), ready.model, ready.tokenizer, card=card(ready.task))
                else:
                    folder.save_metrics(records.as_dict())

    accelerator.wait_for_everyone()
    if data.test:
        records.test = evaluate(open_run(folder, accelerator.device), data.test, accelerator)
        if first:
            folder.save_metrics(records.as_dict())
    assert records.best is not None  # a run has an epoch
    return Trained(folder.path, records.best_epoch, records.best, records.test)


def started(*, bf16: bool) -> Accelerator:
    """The accelerator of this process, one of those that a launcher started or the only one.

    bfloat16 is entered where the model is called, not by the accelerator: evaluation must compute the same way.
    Raises ConfigError where the launcher asks for another precision.
    """
    wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if wanted not in ("no", "bf16") or (wanted == "bf16" and not bf16):
        raise ConfigError(f"the launcher asks for mixed precision {wanted}; tell yanma instead, with --bf16")
    return Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())


def _epochs(config: Config, data: Data) -> list[list[Step]]:
    """The steps of every epoch."""
    lengths, optim = [len(example.input_ids) for example in data.train], config.optim
    return [
        cut_epoch(
            lengths,
            seed=config.seed,
            epoch=epoch,
            batch_size=optim.batch_size,
            batch_tokens=optim.batch_tokens,
        )
        for epoch in range(optim.epochs)
    ]


def _epoch_line(epoch: int, epochs: int, losses: list[float], speed: Speed, validation: Evaluation) -> str:
    report = validation.report
    return (
        f"epoch {epoch}/{epochs}: loss {sum(losses) / len(losses):.4f}, {speed.describe()}; validation: "
        f"loss {validation.loss:.4f}, {report.headline_name} {report.headline:.4f}"
    )
