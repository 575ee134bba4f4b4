"""The one loop: steps, validations, checkpoints and the best model, from a set-up to a finished folder."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator

from ..corruption import RunningLoss
from ..errors import ConfigError, DataError
from ..machine import bound_kernel_caches, keep_buffers
from ..report.progress import ProgressReporter, Speed
from .checkpoint import restore
from .config import Run, check_fixed, fixed, resumed
from .folder import RunFolder
from .optimizer import adamw, scale
from .records import Curves, versions
from .setup import Note, Setup, Validation
from .stepper import REMEDY, NoNumberError, Place, Stepper

SetUp = Callable[[Run, torch.device, Note, Path | None], Setup]
"""Of a config, a device, where to tell, and the tokenizer's folder of a run that goes on."""

_SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor or context parallelism",
}
"""What `accelerate launch` sets for what is not done here; accelerate itself ignores some of it on a CPU."""


@dataclass
class Progress:
    """Where a run is; what a checkpoint holds beside weights and optimiser."""

    step: int = 0
    """Moves that are done."""
    epoch: int = 0
    begin: int = 0
    """Moves of this epoch that are done."""
    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    """Of every step."""
    validations: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    """Step, epoch, rank and words of the validation whose model is kept."""

    def moved(self, loss: float, tokens: int, seconds: float) -> None:
        """One more step is done."""
        self.step += 1
        self.begin += 1
        self.tokens += tokens
        self.seconds += seconds
        self.losses.append(loss)

    @property
    def loss_since(self) -> float:
        """Mean over the steps since the last validation, or over its own where none was done since."""
        ends = [0, *(entry["step"] for entry in self.validations)]
        begin = ends[-1] if ends[-1] < self.step or len(ends) < 2 else ends[-2]
        some = self.losses[begin:]
        return sum(some) / max(1, len(some))


@dataclass(frozen=True)
class Finished:
    """What a run has come to."""

    folder: Path
    progress: Progress
    validation: Validation
    """After the last step."""
    closing: dict[str, Any]
    """Figures after the last step, by name."""
    accelerator: Accelerator


def run(
    config: Run, set_up: SetUp[Run], folder: RunFolder[Run], *, overwrite: bool, resume: bool
) -> Finished:
    """Learn as the config says; the folder has what the run has come to, and checkpoints.

    With `resume` the run in the folder goes on from its newest checkpoint, or from its beginning where it has none: on
    a CPU with the bits that it would have had without the interruption.

    Raises ConfigError, DataError or Unsupported before the folder is touched where the run cannot start; and
    ConfigError where loss, gradient or weights become no number, before they are saved.
    """
    if overwrite and resume:
        raise ConfigError("overwrite and resume exclude each other: begin anew, or go on")
    keep_buffers()
    bound_kernel_caches()
    if not resume:
        folder.check_free(overwrite=overwrite, reads=(config.model.path, config.model.tokenizer))
    accelerator = started(bf16=config.optim.bf16)
    if resume:
        if accelerator.is_main_process:
            folder.settle()
        accelerator.wait_for_everyone()
        config = resumed(folder.begun(), config)
    if accelerator.is_main_process:
        folder.check_possible()
    reporter = ProgressReporter(enabled=accelerator.is_main_process)
    newest = folder.checkpoints.newest() if resume else None
    if resume and newest is None:
        folder.check_unfinished()
        reporter.note(f"{folder.path}: there is no checkpoint; the run begins again at step 0")
    begun = None if newest is None else folder.checkpoints.tokenizer
    if begun is not None and not begun.is_dir():
        raise DataError(
            f"{begun}: gone, and --resume needs the run's tokenizer; copy its files (tokenizer.json, "
            f"tokenizer_config.json) from the run's model folder to there"
        )
    setup = set_up(config, accelerator.device, reporter.note, begun)
    accelerator.wait_for_everyone()
    loop = _Loop(setup, folder, accelerator, reporter)
    if newest is not None:
        loop.restore(newest)
    if accelerator.is_main_process:
        folder.go_on() if newest is not None else folder.start(cast(Run, setup.config))
    accelerator.wait_for_everyone()
    try:
        return loop.to_the_end()
    except NoNumberError as error:
        left = folder.describe(resumable=False)
        raise ConfigError(
            f"{error}; begin anew (--overwrite), for --resume would do the same; {left}"
        ) from None


def started(*, bf16: bool) -> Accelerator:
    """The accelerator of this process, one of those that a launcher started or the only one.

    bfloat16 is entered where the model is called, not by the accelerator: evaluation must compute the same way.
    Raises ConfigError where the launcher asks for another precision, for a sharded model or for a compiled one.
    """
    wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if wanted not in ("no", "bf16") or (wanted == "bf16" and not bf16):
        raise ConfigError(f"the launcher asks for mixed precision {wanted}; tell yanma instead, with --bf16")
    for variable, name in _SHARDED.items():
        if os.environ.get(variable, "false").lower() in ("true", "1"):
            raise ConfigError(
                f"the launcher asks for {name}; each process holds the whole model here: launch without it"
            )
    compiler = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no")
    if compiler.lower() != "no":
        raise ConfigError(
            f"the launcher asks for torch.compile ({compiler}); nothing is compiled here: launch without it"
        )
    return Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())


class _Loop:
    """One run while it runs."""

    def __init__(
        self, setup: Setup, folder: RunFolder[Any], accelerator: Accelerator, reporter: ProgressReporter
    ) -> None:
        self._setup, self._folder, self._accelerator, self._reporter = setup, folder, accelerator, reporter
        self._progress, self._speed = Progress(), Speed()
        config, optim = setup.config, setup.config.optim
        self._optim, self._saving = optim, config.saving
        self._optimizer = adamw(
            setup.model, learning_rate=optim.learning_rate, weight_decay=optim.weight_decay
        )
        self._stepper = Stepper(
            setup.objective,
            setup.model,
            setup.batching,
            accelerator,
            seed=config.seed,
            bf16=optim.bf16,
            losses=setup.losses,
        )
        self._is_first = accelerator.is_main_process
        self._saved_at = 0

    def restore(self, checkpoint: Path) -> None:
        """Go back to a checkpoint. Raises DataError where it is not of these texts, ConfigError of other settings."""
        state, tensors = restore(checkpoint, self._setup.model, self._optimizer)
        check_fixed(state.pop("settings"), self._setup.config)  # config.toml may have been edited
        before = state.pop("fingerprint")
        before = {"train": before} if isinstance(before, str) else before  # as it was once: of train alone
        for name, found in self._setup.fingerprint.items():
            if before.get(name, found) != found:
                raise DataError(
                    f"{checkpoint}: the texts of {name} are others now than when the run was begun, or what is known "
                    f"of them: labels, words (`phrases`)"
                )
        self._progress = Progress(**state, losses=tensors["losses"].tolist())
        best = self._progress.best
        if best is not None and best["step"] != self._folder.kept_step():
            self._progress.best = (
                None  # a later model has taken its place, of a step that is now to be done again
            )
        self._saved_at = self._progress.step
        if self._stepper.losses is not None:
            self._stepper.losses = RunningLoss(tensors["hard_values"], tensors["hard_seen"])
        done, steps = self._progress.step, self._setup.num_steps
        if done == steps:
            self._reporter.note(
                f"{checkpoint}: the run is finished, all its steps are done; it is measured once more"
            )
        else:
            self._reporter.note(f"{checkpoint}: the run goes on after step {done} of {steps}")

    def to_the_end(self) -> Finished:
        """All steps that are left, and what comes after the last."""
        setup, progress = self._setup, self._progress
        with (
            self._reporter.counting(setup.num_steps, done=progress.step),
            Curves(self._folder.tensorboard, enabled=self._is_first) as curves,
        ):
            while progress.step < setup.num_steps:
                self._epoch(curves)
                if progress.step < setup.num_steps:
                    progress.epoch, progress.begin = progress.epoch + 1, 0
            validation = self._validate(curves)
        self._checkpoint()
        self._accelerator.wait_for_everyone()
        closing = setup.judge.finish(self._folder.model, self._accelerator, self._reporter.note)
        if self._is_first:
            self._folder.save_metrics(self._metrics() | closing)
        self._accelerator.wait_for_everyone()
        return Finished(self._folder.path, progress, validation, closing, self._accelerator)

    def _epoch(self, curves: Curves) -> None:
        """What is left of this epoch, or of the run."""
        setup, progress, saving = self._setup, self._progress, self._saving
        for step in setup.order.steps(progress.epoch, progress.begin):
            rate = self._optim.learning_rate * scale(
                progress.step, setup.num_steps, warmup=self._optim.warmup, schedule=self._optim.schedule
            )
            place = Place(progress.epoch, progress.step / max(1, setup.num_steps - 1))
            moved = self._stepper.move(
                step, place, optimizer=self._optimizer, learning_rate=rate, clip_norm=self._optim.clip_norm
            )
            progress.moved(moved.loss, sum(moved.lengths), moved.seconds)
            self._speed.add(moved.lengths, moved.slots, moved.seconds)
            curves.step(progress.step, moved, rate)
            told = f"loss {moved.loss:.4f}, {self._speed.describe()}"
            self._reporter.step(f"epoch {progress.epoch + 1}", progress.step, told)
            if progress.step == setup.num_steps:
                return
            if saving.evaluate_every is not None and progress.step % saving.evaluate_every == 0:
                self._validate(curves)
            if saving.save_every is not None and progress.step % saving.save_every == 0:
                self._checkpoint()
        if saving.evaluate_every is None:
            self._validate(curves)
        if saving.save_every is None:
            self._checkpoint()

    def _validate(self, curves: Curves) -> Validation:
        """Measure, tell, and leave the model in the folder if it is the best so far."""
        progress, steps = self._progress, self._setup.num_steps
        found = self._setup.judge.validate(self._accelerator)
        if not math.isfinite(found.loss):
            raise NoNumberError(f"the validation loss became {found.loss} at step {progress.step}; {REMEDY}")
        before = [entry for entry in progress.validations if entry["step"] == progress.step]
        progress.validations = [entry for entry in progress.validations if entry["step"] < progress.step]
        train_loss, speed = progress.loss_since, self._speed
        entry = {
            "step": progress.step,
            "epoch": progress.epoch + 1,
            "train_loss": train_loss,
            "tokens": progress.tokens,
            "seconds": progress.seconds,
            "tokens_per_s": speed.tokens_per_s,
            "padding_avoided": speed.padding_avoided,
            "padding_computed": speed.padding_computed,
        }
        if before and not speed.tokens:  # what is measured once more, after --resume, was computed before
            entry = before[0]
        progress.validations.append(entry | {"validation": found.as_dict()})
        curves.add(progress.step, {"validation/loss": found.loss, **found.points()})
        told = f", {speed.describe()}" if speed.tokens else ""  # none after --resume of what is done
        self._reporter.note(
            f"step {progress.step}/{steps} (epoch {progress.epoch + 1}): loss {train_loss:.4f}{told}; "
            f"validation: {found.describe()}"
        )
        if (table := found.table(f"validation, step {progress.step}")) is not None:
            self._reporter.show(table)
        self._speed = Speed()
        self._keep_best(found)
        return found

    def _keep_best(self, found: Validation) -> None:
        progress, setup = self._progress, self._setup
        best = progress.best
        again = best is not None and best["step"] == progress.step
        if best is None or again or found.rank is None or found.rank > best["rank"]:
            progress.best = {
                "step": progress.step,
                "epoch": progress.epoch + 1,
                "rank": found.rank,
                "told": found.describe(),
            }
            if self._is_first:
                self._folder.save(self._metrics(), setup.saved, setup.tokenizer, setup.within, setup.card)
        elif self._is_first:
            self._folder.save_metrics(self._metrics())

    def _checkpoint(self) -> None:
        """Save all that --resume needs, unless this step is saved."""
        progress, setup = self._progress, self._setup
        if self._saved_at == progress.step:
            return
        if not all(bool(weight.isfinite().all()) for weight in setup.model.parameters()):
            raise NoNumberError(f"a weight is no number after step {progress.step}; {REMEDY}")
        if not self._is_first:
            return
        state = asdict(progress) | {"fingerprint": setup.fingerprint, "settings": fixed(setup.config)}
        tensors = {"losses": torch.tensor(state.pop("losses"), dtype=torch.float64)}
        if (hard := self._stepper.losses) is not None:
            tensors |= {"hard_values": hard.values, "hard_seen": hard.seen}
        self._folder.take_over()
        self._folder.checkpoints.save(
            progress.step, setup.model, self._optimizer, state, tensors, setup.tokenizer
        )
        self._saved_at = progress.step

    def _metrics(self) -> dict[str, Any]:
        """What metrics.json holds."""
        setup, progress = self._setup, self._progress
        parameters = list(setup.model.parameters())
        return setup.about | {
            "parameters": sum(p.numel() for p in parameters),
            "parameters_trained": sum(p.numel() for p in parameters if p.requires_grad),
            "device": str(self._accelerator.device),
            "processes": self._accelerator.num_processes,
            "versions": versions(),
            "num_steps": setup.num_steps,
            "tokens": progress.tokens,
            "seconds": progress.seconds,
            "validations": progress.validations,
            "best": progress.best,
            "loss_per_step": progress.losses,
        }
