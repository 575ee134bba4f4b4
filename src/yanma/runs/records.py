"""A run's figures: as JSON for the folder, as curves for TensorBoard."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, Self

from ..data.examples import Example
from ..report.progress import Speed
from .evaluate import Evaluation
from .ready import Data, Ready
from .train_stepper import Moved


@dataclass
class Records:
    """What metrics.json holds."""

    about: dict[str, Any]
    """What does not change while the run runs."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    best: Evaluation | None = None
    """On validation; None before the first epoch is over."""
    best_epoch: int = 0
    test: Evaluation | None = None

    @classmethod
    def begin(cls, ready: Ready, data: Data, *, num_processes: int) -> Records:
        """Nothing but what is known before the first step."""
        parameters = list(ready.model.parameters())
        return cls(
            {
                "task": ready.task.name,
                "labels": list(ready.task.labels),
                "data": {name: _size(examples) for name, examples in data.parts()},
                "parameters": sum(p.numel() for p in parameters),
                "parameters_trained": sum(p.numel() for p in parameters if p.requires_grad),
                "device": str(ready.model.device),
                "processes": num_processes,
                "versions": versions(),
            }
        )

    def add_epoch(self, losses: Sequence[float], speed: Speed, validation: Evaluation) -> None:
        """One more epoch is done; it is the best so far where its headline metric is higher than all before."""
        self.epochs.append(
            {
                "epoch": len(self.epochs) + 1,
                "train_loss": sum(losses) / len(losses),
                "loss_per_step": list(losses),
                "seconds": speed.seconds,
                "tokens_per_s": speed.tokens_per_s,
                "padding_avoided": speed.padding_avoided,
                "padding_computed": speed.padding_computed,
                "validation": validation.as_dict(),
            }
        )
        if self.best is None or validation.report.headline > self.best.report.headline:
            self.best, self.best_epoch = validation, len(self.epochs)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        test = self.test and self.test.as_dict()
        return {**self.about, "epochs": self.epochs, "best_epoch": self.best_epoch, "test": test}


class Curves:
    """TensorBoard's curves: loss, learning rate, length of the gradient, speed, validation.

    Written here, not by torch's SummaryWriter, whose thread prints a traceback when the disk is full.
    """

    def __init__(self, folder: Path, *, enabled: bool) -> None:
        self._file: BinaryIO | None = None
        if enabled:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.summary.writer.record_writer import RecordWriter

            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / f"events.out.tfevents.{time.time_ns()}.{platform.node()}").open("wb")
            self._records = RecordWriter(self._file)
            self._records.write(
                Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString()
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def step(self, number: int, moved: Moved, learning_rate: float) -> None:
        """Points of one step."""
        points = {
            "train/loss": moved.loss,
            "train/learning_rate": learning_rate,
            "train/gradient_norm": moved.gradient_norm,
            "train/tokens_per_s": sum(moved.lengths) / moved.seconds,
        }
        self.add(number, points, flush=False)

    def epoch(self, number: int, validation: Evaluation) -> None:
        """Points of one validation."""
        report = validation.report
        points = {"validation/loss": validation.loss, f"validation/{report.headline_name}": report.headline}
        self.add(number, points)

    def add(self, number: int, points: dict[str, float], *, flush: bool = True) -> None:
        """Points by name after so many steps."""
        if self._file is not None:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary

            values = [Summary.Value(tag=name, simple_value=value) for name, value in points.items()]
            event = Event(wall_time=time.time(), step=number, summary=Summary(value=values))
            self._records.write(event.SerializeToString())
            if flush:
                self._file.flush()


def _size(examples: Sequence[Example]) -> dict[str, int]:
    lengths = [len(example.input_ids) for example in examples]
    return {"examples": len(lengths), "tokens": sum(lengths), "longest": max(lengths, default=0)}


def versions() -> dict[str, str]:
    """Of Python and of what computes."""
    found = {"python": platform.python_version()}
    for name in ("yanma", "torch", "transformers", "accelerate"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a checkout that is not installed
            found[name] = "not installed"
    return found
