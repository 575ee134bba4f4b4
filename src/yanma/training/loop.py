"""The training loop: from a config to a folder with the best model, its figures and its curves."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from ..errors import ConfigError
from ..memory import keep_buffers
from ..tasks.task import Report
from .config import Config
from .evaluate import evaluate
from .folder import RunFolder
from .optimizer import adamw, scale
from .progress import Speed, Teller
from .ready import Data, open_run, set_up
from .records import Curves, Records
from .stepper import Stepper
from .steps import Step, cut_epoch


@dataclass(frozen=True)
class Trained:
    """What a run has come to."""

    folder: Path
    best_epoch: int
    """From 1; the earlier of equals."""
    validation: Report
    """Of the best epoch."""
    test: Report | None
    """Of the best epoch's model; None where the config names no test rows."""


def train(config: Config, *, overwrite: bool = False) -> Trained:
    """Train as the config says; after every epoch the folder `config.out` has what the run has come to.

    Raises ConfigError, DataError or Unsupported before the folder is touched where the run cannot start.
    """
    keep_buffers()
    folder = RunFolder(config.out)
    folder.check_free(overwrite=overwrite)
    accelerator = _accelerator(config)
    teller = Teller(enabled=accelerator.is_main_process)
    ready, data = set_up(config, accelerator.device, teller.note)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        folder.start(ready.config)

    optim = config.optim
    optimizer = adamw(ready.model, learning_rate=optim.learning_rate, weight_decay=optim.weight_decay)
    stepper = Stepper(ready, data.train, optimizer, accelerator)
    epochs = _epochs(config, data)
    num_steps = sum(map(len, epochs))
    records = Records.begin(ready, data, num_processes=accelerator.num_processes)
    with teller.training(num_steps), Curves(folder.tensorboard, enabled=accelerator.is_main_process) as curves:
        for epoch, steps in enumerate(epochs, start=1):
            speed = Speed()
            for step in steps:
                done = len(records.losses)
                rate = optim.learning_rate * scale(done, num_steps, warmup=optim.warmup, schedule=optim.schedule)
                moved = stepper.move(step, rate, number=done)
                _refuse_nonsense(moved.loss, epoch, done + 1)
                speed.add(moved)
                records.losses.append(moved.loss)
                curves.step(done + 1, moved, rate)
                teller.step(f"epoch {epoch}/{optim.epochs}, step {done + 1}/{num_steps}", moved, speed)
            validation = evaluate(ready, data.validation, accelerator)
            records.add_epoch(epoch, speed, validation)
            curves.epoch(done + 1, validation)
            teller.epoch(f"epoch {epoch}/{optim.epochs}", speed, validation)
            if accelerator.is_main_process:
                if records.best_epoch == epoch:
                    folder.save_model(ready.model, ready.tokenizer)
                folder.save_metrics(records.as_dict())

    accelerator.wait_for_everyone()
    if data.test:
        best = open_run(folder, accelerator.device)
        records.test = evaluate(best, data.test, accelerator)
        if accelerator.is_main_process:
            folder.save_metrics(records.as_dict())
    return Trained(folder.path, records.best_epoch, records.best.report, records.test and records.test.report)
