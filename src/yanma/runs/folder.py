"""The folder of a run. Every file appears whole or not at all: a full disk or Ctrl-C leaves what was there before.

config.toml      the config with every default spelled out
metrics.json     figures of every step and validation, what the run closed with, versions
model/           the best model so far and its tokenizer, loadable by plain `from_pretrained`
tensorboard/     curves
checkpoints/     what --resume goes on from

What a validation has come to, figures and model, is written whole into .new/ first, and so is the config of a run that
replaces another one. Renaming that to .ready/ is the one instant in which it counts; from there it is moved into place,
by whoever opens the folder next if the run is killed.
A run that replaces another one does so with its first model or checkpoint: until then the run before is all there.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ConfigError
from ..files import flush_to_disk, full_disk_is_an_os_error, remove, write
from ..loading.pretrained import at_home, quiet
from ..settings import read, to_toml
from .checkpoint import Checkpoints
from .config import Run, begun, made_by


class RunFolder(Generic[Run]):
    """Reads and writes one run's folder."""

    def __init__(self, path: str | Path, kind: type[Run]) -> None:
        """`kind` is the config of the runs that it is a folder of: they belong to one command."""
        self.path = at_home(path)
        self.model = self.path / "model"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self._kind = kind
        self._new, self._ready = self.path / ".new", self.path / ".ready"
        self._curves_before: list[Path] = []

    def check_free(self, *, overwrite: bool, reads: Iterable[str | None] = ()) -> None:
        """Refuse a folder with something in it; with `overwrite`, a folder that holds no run of the same command.

        `reads` are the folders of models and tokenizers that the run begins with: none may be in the one replaced.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file, not a folder")
        there = [path.name for path in self.path.iterdir()]
        if there and not overwrite:
            raise ConfigError(
                f"{self.path} is not empty; name another --out, or say --resume (to go on with the run in it) or "
                f"--overwrite"
            )
        if there and "config.toml" not in there:
            raise ConfigError(
                f"{self.path} holds no run, so --overwrite does not touch it; name another --out"
            )
        if there and (other := made_by(self.path)) not in (None, self._kind.command):
            raise ConfigError(
                f"{self.path} holds a run of {other}, which {self._kind.command} --overwrite does not replace; "
                f"name another --out"
            )
        for name in filter(None, reads):
            source = at_home(name)
            if source.exists() and source.resolve().is_relative_to(self.path.resolve()):
                raise ConfigError(f"{name} is in the run that --overwrite would replace; name another --out")

    def check_possible(self) -> None:
        """Refuse a path at which no folder can be made; leaves nothing behind."""
        missing = [place for place in (self.path, *self.path.parents) if not place.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise ConfigError(f"--out {self.path}: nothing can be written there: {error.strerror}") from None
        finally:
            for place in missing:
                with suppress(OSError):
                    place.rmdir()

    def begun(self) -> Run:
        """The config of the run that is to go on. Raises ConfigError where the folder holds none."""
        return read(self._kind, begun(self.path, self._kind.command), None)

    def start(self, config: Run) -> None:
        """Make the folder and save the config; a run before stays until this one has something, if it has a model."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.settle()
        shutil.rmtree(self._new, ignore_errors=True)
        if self.model.is_dir():
            self._new.mkdir()
            write(self._new / "config.toml", to_toml(config))
            self._curves_before = list(self.tensorboard.glob("*"))
            return
        for name in ("config.toml", "metrics.json", "model", "tensorboard", "checkpoints"):
            remove(self.path / name)
        write(self.path / "config.toml", to_toml(config))

    def go_on(self) -> None:
        """Clear away what a run left half written when it was killed."""
        self.settle()
        remove(self._new)

    def take_over(self) -> None:
        """Remove the run before, if it is still there: this one is about to save a checkpoint without a model."""
        if (self._new / "config.toml").is_file():
            self._new.replace(self._ready)
            self.settle()
            self._remove_curves_before()

    def finished_config(self) -> Run:
        """The config of a run that has a model. Raises ConfigError where the folder is no run, or has no model yet."""
        self.settle()
        command = self._kind.command
        if not (self.path / "config.toml").is_file():
            raise ConfigError(f"{self.path}: not a run folder (no config.toml in it)")
        if (other := made_by(self.path)) not in (None, command):
            raise ConfigError(
                f"{self.path}: this is a run of {other}, not of {command}; "
                f"to teach its model a task: yanma train --model {self.model}"
            )
        if not self.model.is_dir():
            raise ConfigError(f"{self.path}: no model in it; the run ended before its first validation did")
        return read(self._kind, self.path / "config.toml", None)

    def describe(self, *, resumable: bool = True) -> str:
        """One line: what a run has left here, and, where it is `resumable`, from where --resume goes on."""
        self.settle()
        if (self._new / "config.toml").is_file():
            return f"{self.path}: no model yet, none was saved; the run before is still there"
        newest = self.checkpoints.newest()
        further = "" if newest is None else f"; --resume goes on from {newest}"
        if newest is None and (self.path / "config.toml").is_file():
            further = "; --resume begins again at step 0"
        further = further if resumable else ""
        if not self.model.is_dir():
            return f"{self.path}: no model yet, none was saved{further}"
        metrics = self._metrics()
        if metrics is None:
            return f"{self.model}: a model whose figures were not written{further}"
        best, steps = metrics["best"], metrics["num_steps"]
        is_done = metrics["validations"][-1]["step"] == steps
        figures = f"step {best['step']} of {steps} (epoch {best['epoch']}), validation: {best['told']}"
        return f"{self.model}: {figures}{'' if is_done else further}"

    def check_unfinished(self) -> None:
        """Raises ConfigError where the run is at its end, so that going on without a checkpoint would undo it."""
        metrics = self._metrics()
        if metrics is not None and metrics["validations"][-1]["step"] == metrics["num_steps"]:
            raise ConfigError(
                f"--resume: {self.path}: the run is finished, and its checkpoints are gone; --overwrite begins it anew"
            )

    def _metrics(self) -> dict[str, Any] | None:
        """metrics.json; None where it cannot be read, or is of a run of before they were as they are now."""
        try:
            found: dict[str, Any] = json.loads((self.path / "metrics.json").read_text("utf-8"))
            found["best"]["told"], found["validations"][-1]["step"], found["num_steps"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return found

    def kept_step(self) -> int | None:
        """After so many steps the model was as it is in the folder; None where there is none, or nobody can say."""
        metrics = self._metrics()
        return None if metrics is None or not self.model.is_dir() else metrics["best"]["step"]

    def save_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Replace metrics.json."""
        write(self.path / "metrics.json", _as_json(metrics))

    def save(
        self,
        metrics: Mapping[str, Any],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        within: Mapping[str, PreTrainedModel] | None = None,
        card: str | None = None,
    ) -> None:
        """Replace metrics.json and model/, both or neither; with the first call, also what a run before left here.

        `within` are further models by the name of their folder in model/, `card` is its README.md.
        """
        fresh = self._new / "model"
        try:
            fresh.mkdir(parents=True)
            with quiet(), full_disk_is_an_os_error():
                for name, saved in {"": model, **(within or {})}.items():
                    saved.save_pretrained(fresh / name, max_shard_size="1TB")
                tokenizer.save_pretrained(fresh)
            if card is not None:
                (fresh / "README.md").write_text(card, encoding="utf-8")
            # safetensors' own files are for their owner alone
            readers = (fresh / "config.json").stat().st_mode
            for path in filter(Path.is_file, fresh.rglob("*")):
                path.chmod(readers)
                flush_to_disk(path)
            flush_to_disk(fresh)
            write(self._new / "metrics.json", _as_json(metrics))
            self._new.replace(self._ready)
            self.settle()
        finally:
            self.settle()  # once more where Ctrl-C fell into it
            for name in ("model", "metrics.json"):
                remove(self._new / name)
            with suppress(OSError):  # it stays where it holds the config of a run that has no model yet
                self._new.rmdir()
        self._remove_curves_before()

    def _remove_curves_before(self) -> None:
        for path in self._curves_before:
            remove(path)
        self._curves_before = []

    def settle(self) -> None:
        """Move what .ready/ holds into place. Stopped at any point, it can be done again."""
        if not self._ready.is_dir():
            return
        fresh, config, metrics = (self._ready / name for name in ("model", "config.toml", "metrics.json"))
        if config.exists() and not metrics.exists():  # of a run that has no model yet
            remove(self.model)
            remove(self.path / metrics.name)
        elif fresh.is_dir() and self.model.is_dir() and not config.exists():
            # Within a run only the weights differ from one save to the next, and they are one file: moving file by
            # file replaces the model in one instant, also for those who load it meanwhile.
            for path in filter(Path.is_file, fresh.rglob("*")):
                path.replace(self.model / path.relative_to(fresh))
        elif fresh.is_dir():
            remove(self.model)
            fresh.replace(self.model)
        if config.exists():
            remove(self.checkpoints.folder)
        for path in (config, metrics):  # the metrics last: without them the model goes, see above
            if path.exists():
                path.replace(self.path / path.name)
        flush_to_disk(self.path)
        shutil.rmtree(self._ready)


def _as_json(metrics: Mapping[str, Any]) -> str:
    return json.dumps(metrics, indent=2, ensure_ascii=False) + "\n"
