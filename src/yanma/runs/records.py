"""A run's curves, for TensorBoard, and the versions of what computes."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import BinaryIO, Self

from ..machine import installed
from .stepper import Moved


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


def versions() -> dict[str, str]:
    """Of Python and of what computes."""
    packages = ("yanma", "torch", "transformers", "accelerate")
    return (
        {"python": platform.python_version()}
        | dict.fromkeys(packages, "not installed")
        | installed(*packages)
    )
