"""Pre-training: from a config to a folder with a model, its figures and what to go on from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ..corruption import RunningLoss
from ..data.order import Step
from ..errors import ConfigError, DataError
from ..machine import bound_kernel_caches, keep_buffers
from ..objectives.perplexity import pseudo_perplexity
from ..report.progress import Speed, Teller
from .checkpoint import restore
from .optimizer import adamw, scale
from .pretrain_config import Config, check_fixed, fixed, resumed
from .pretrain_folder import PretrainingFolder
from .pretrain_setup import Ready, set_up
from .records import Curves, versions
from .stepper import Place, Stepper
from .train import started
from .train_stepper import REMEDY, Moved, NoNumberError
from .validation import FIXED_SEED, Validation, validate


@dataclass(frozen=True)
class Pretrained:
    """What a run has come to."""

    folder: Path
    steps: int
    tokens: int
    """That were computed, each as often as it was."""
    train_loss: float
    """Mean over the steps since the last validation but one."""
    validation: Validation
    """After the last step."""
    pseudo_perplexity: Mapping[str, Any] | None
    """After the last step; None where it was not asked for."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "folder": str(self.folder),
            "steps": self.steps,
            "tokens": self.tokens,
            "train_loss": self.train_loss,
            "validation": self.validation.as_dict(),
            "pseudo_perplexity": self.pseudo_perplexity,
        }


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

    def moved(self, what: Moved) -> None:
        """One more step is done."""
        self.step += 1
        self.begin += 1
        self.tokens += sum(what.lengths)
        self.seconds += what.seconds
        self.losses.append(what.loss)

    @property
    def loss_since(self) -> float:
        """Mean over the steps since the last validation, or over its own where none was done since."""
        ends = [0, *(entry["step"] for entry in self.validations)]
        begin = ends[-1] if ends[-1] < self.step or len(ends) < 2 else ends[-2]
        some = self.losses[begin:]
        return sum(some) / max(1, len(some))


def pretrain(config: Config, *, overwrite: bool = False, resume: bool = False) -> Pretrained:
    """Pre-train as the config says; the folder `config.out` has what the run has come to, and checkpoints.

    With `resume` the run in the folder goes on from its newest checkpoint, or from its beginning where it has none: on
    a CPU with the bits that it would have had without the interruption.

    Raises ConfigError, DataError or Unsupported before the folder is touched where the run cannot start; and
    ConfigError where loss, gradient or weights become no number, before they are saved.
    """
    if overwrite and resume:
        raise ConfigError("overwrite and resume exclude each other: begin anew, or go on")
    keep_buffers()
    bound_kernel_caches()
    folder = PretrainingFolder(config.out)
    if resume:
        config = resumed(folder.begun(), config)
    else:
        folder.check_free(overwrite=overwrite, reads=(config.model.path, config.model.tokenizer))
    accelerator = started(bf16=config.optim.bf16)
    if accelerator.is_main_process:
        folder.check_possible()
    teller = Teller(enabled=accelerator.is_main_process)
    newest = folder.checkpoints.newest() if resume else None
    if resume and newest is None:
        folder.check_unfinished()
        teller.note(f"{folder.path}: there is no checkpoint; the run begins again at step 0")
    begun = None if newest is None else folder.checkpoints.tokenizer
    ready = set_up(config, accelerator.device, teller.note, begun)
    accelerator.wait_for_everyone()
    run = _Run(ready, folder, accelerator, teller)
    if newest is not None:
        run.restore(newest)
    if accelerator.is_main_process:
        if newest is not None:
            folder.go_on()
        else:
            folder.begin(ready.config)
            folder.checkpoints.save_tokenizer(ready.tokenizer)
    accelerator.wait_for_everyone()
    try:
        return run.to_the_end()
    except NoNumberError as error:
        left = folder.describe(resumable=False)
        raise ConfigError(
            f"{error}; begin anew (--overwrite), for --resume would do the same; {left}"
        ) from None


class _Run:
    """One run while it runs."""

    def __init__(
        self, ready: Ready, folder: PretrainingFolder, accelerator: Accelerator, teller: Teller
    ) -> None:
        self._ready, self._folder, self._accelerator, self._teller = ready, folder, accelerator, teller
        self._progress, self._speed = Progress(), Speed()
        optim, model = ready.config.optim, ready.made.trained
        self._optimizer = adamw(model, learning_rate=optim.learning_rate, weight_decay=optim.weight_decay)
        self._stepper = Stepper(
            ready.objective,
            model,
            self._optimizer,
            accelerator,
            seed=ready.config.seed,
            max_batch_tokens=optim.max_batch_tokens,
            clip_norm=optim.clip_norm,
            bf16=optim.bf16,
            losses=ready.losses,
        )
        self._is_first = accelerator.is_main_process
        self._saved_at = 0

    def restore(self, checkpoint: Path) -> None:
        """Go back to a checkpoint. Raises DataError where it is not of these texts, ConfigError of other settings."""
        state, tensors = restore(checkpoint, self._ready.made.trained, self._optimizer)
        check_fixed(state.pop("settings"), self._ready.config)  # config.toml may have been edited
        if state.pop("fingerprint") != self._ready.fingerprint:
            raise DataError(
                f"{checkpoint}: the texts of train are others now than when the run was begun, "
                f"or the words in them (--phrases)"
            )
        self._progress = Progress(**state, losses=tensors["losses"].tolist())
        self._saved_at = self._progress.step
        if self._stepper.losses is not None:
            self._stepper.losses = RunningLoss(tensors["hard_values"], tensors["hard_seen"])
        done, steps = self._progress.step, self._ready.num_steps
        if done == steps:
            self._teller.note(
                f"{checkpoint}: the run is finished, all its steps are done; it is measured once more"
            )
        else:
            self._teller.note(f"{checkpoint}: the run goes on after step {done} of {steps}")

    def to_the_end(self) -> Pretrained:
        """All steps that are left, and what comes after the last."""
        ready, progress = self._ready, self._progress
        with self._teller.training(ready.num_steps, progress.step), self._curves() as curves:
            while progress.step < ready.num_steps:
                self._epoch(curves)
                if progress.step < ready.num_steps:
                    progress.epoch, progress.begin = progress.epoch + 1, 0
            validation = self._validate(curves)
        self._checkpoint()
        pseudo = self._pseudo_perplexity()
        if self._is_first:
            self._folder.save_metrics(self._metrics() | {"pseudo_perplexity": pseudo})
        self._accelerator.wait_for_everyone()
        return Pretrained(
            self._folder.path, progress.step, progress.tokens, progress.loss_since, validation, pseudo
        )

    def _epoch(self, curves: Curves) -> None:
        """What is left of this epoch, or of the run."""
        ready, progress, saving = self._ready, self._progress, self._ready.config.saving
        for step in ready.order.steps(progress.epoch, progress.begin):
            self._move(step, curves)
            if progress.step == ready.num_steps:
                return
            if saving.evaluate_every is not None and progress.step % saving.evaluate_every == 0:
                self._validate(curves)
            if saving.save_every is not None and progress.step % saving.save_every == 0:
                self._checkpoint()
        if saving.evaluate_every is None:
            self._validate(curves)
        if saving.save_every is None:
            self._checkpoint()

    def _move(self, step: Step, curves: Curves) -> None:
        ready, progress, optim = self._ready, self._progress, self._ready.config.optim
        rate = optim.learning_rate * scale(
            progress.step, ready.num_steps, warmup=optim.warmup, schedule=optim.schedule
        )
        place = Place(progress.epoch, progress.step / max(1, ready.num_steps - 1))
        moved = self._stepper.move(step, place, learning_rate=rate)
        progress.moved(moved)
        self._speed.add(moved.lengths, moved.slots, moved.seconds)
        curves.step(progress.step, moved, rate)
        self._teller.step(f"epoch {progress.epoch + 1}", progress.step, moved.loss, self._speed)

    def _validate(self, curves: Curves) -> Validation:
        """Measure, tell, and leave the model in the folder; every rank does so by itself and finds the same."""
        ready, progress = self._ready, self._progress
        found = validate(
            ready.objective,
            ready.made.trained,
            ready.held,
            max_batch_tokens=ready.config.optim.max_batch_tokens,
            bf16=ready.config.optim.bf16,
        )
        if not math.isfinite(found.loss):
            raise NoNumberError(f"the validation loss became {found.loss} at step {progress.step}; {REMEDY}")
        progress.validations = [entry for entry in progress.validations if entry["step"] < progress.step]
        progress.validations.append(
            {
                "step": progress.step,
                "epoch": progress.epoch + 1,
                "train_loss": progress.loss_since,
                "tokens": progress.tokens,
                "seconds": progress.seconds,
                "validation": found.as_dict(),
            }
        )
        curves.add(progress.step, {"validation/loss": found.loss, **found.points()})
        speed = (
            f", {self._speed.describe()}" if self._speed.tokens else ""
        )  # none after --resume of what is done
        self._teller.note(
            f"step {progress.step}/{ready.num_steps}: loss {progress.loss_since:.4f}{speed}; "
            f"validation: {found.describe()}"
        )
        if self._is_first:
            self._folder.save(self._metrics(), ready.made.saved, ready.tokenizer, ready.made.within)
        return found

    def _pseudo_perplexity(self) -> Mapping[str, Any] | None:
        ready = self._ready
        most = ready.config.saving.pseudo_perplexity_tokens
        if ready.config.objective.name != "mlm" or most == 0:
            return None
        optim = ready.config.optim
        with torch.autocast(self._accelerator.device.type, torch.bfloat16, enabled=optim.bf16):
            found = pseudo_perplexity(
                ready.made.trained,
                ready.held.units["word"],
                vocabulary=ready.vocabulary,
                max_tokens=most,
                seed=FIXED_SEED,
                max_batch_tokens=optim.max_batch_tokens,
            )
        self._teller.note(
            f"pseudo-perplexity {found.perplexity:.2f} on {found.tokens:,} tokens of validation"
        )
        return found.as_dict()

    def _checkpoint(self) -> None:
        """Save all that --resume needs, unless this step is saved."""
        progress = self._progress
        if self._saved_at == progress.step:
            return
        if not all(bool(weight.isfinite().all()) for weight in self._ready.made.trained.parameters()):
            raise NoNumberError(f"a weight is no number after step {progress.step}; {REMEDY}")
        if not self._is_first:
            return
        state = asdict(progress) | {
            "fingerprint": self._ready.fingerprint,
            "settings": fixed(self._ready.config),
        }
        tensors = {"losses": torch.tensor(state.pop("losses"), dtype=torch.float64)}
        if (hard := self._stepper.losses) is not None:
            tensors |= {"hard_values": hard.values, "hard_seen": hard.seen}
        self._folder.checkpoints.save(
            progress.step, self._ready.made.trained, self._optimizer, state, tensors
        )
        self._saved_at = progress.step

    def _metrics(self) -> dict[str, Any]:
        """What metrics.json holds."""
        ready, progress = self._ready, self._progress
        return {
            "objective": ready.config.objective.name,
            "data": ready.sizes,
            "parameters": sum(p.numel() for p in ready.made.trained.parameters()),
            "vocabulary": ready.vocabulary.size,
            "device": str(self._accelerator.device),
            "processes": self._accelerator.num_processes,
            "versions": versions(),
            "num_steps": ready.num_steps,
            "tokens": progress.tokens,
            "seconds": progress.seconds,
            "validations": progress.validations,
            "loss_per_step": progress.losses,
        }

    def _curves(self) -> Curves:
        return Curves(self._folder.tensorboard, enabled=self._is_first)
