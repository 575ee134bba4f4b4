"""The folder of a run. Every file appears whole or not at all: a full disk or Ctrl-C leaves what was there before.

config.toml      the config with every default spelled out
metrics.json     figures of every epoch, the test report, speeds, versions
model/           the best model so far and its tokenizer, loadable by plain `from_pretrained`
tensorboard/     curves

What an epoch has come to, figures and model, is written whole into .new/ first. Renaming that to .ready/ is the one
instant in which it counts; from there it is moved into place, by whoever opens the folder next if the run is killed.
A run that replaces another one does so with its first model: until then the run before is all there.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ConfigError
from ..loading.pretrained import at_home, quiet
from ..settings import to_toml
from .train_config import Config, load, made_by


class RunFolder:
    """Reads and writes one run's folder."""

    _OURS: ClassVar[tuple[str, ...]] = ("config.toml", "metrics.json", "model", "tensorboard")
    _IF_FULL: ClassVar = "name another --out, or say --overwrite"
    _COMMAND: ClassVar = "yanma train"

    def __init__(self, path: str | Path) -> None:
        self.path = at_home(path)
        self.model = self.path / "model"
        self.tensorboard = self.path / "tensorboard"
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
            raise ConfigError(f"{self.path} is not empty; {self._IF_FULL}")
        if there and "config.toml" not in there:
            raise ConfigError(
                f"{self.path} holds no run, so --overwrite does not touch it; name another --out"
            )
        if there and (other := made_by(self.path)) not in (None, self._COMMAND):
            raise ConfigError(
                f"{self.path} holds a run of {other}, which {self._COMMAND} --overwrite does not replace; "
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

    def start(self, config: Config) -> None:
        """Make the folder and save the config; a run before stays until this one's first `save`, if it has a model."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._settle()
        shutil.rmtree(self._new, ignore_errors=True)
        if self.model.is_dir():
            self._new.mkdir()
            write(self._new / "config.toml", to_toml(config))
            self._curves_before = list(self.tensorboard.glob("*"))
            return
        for name in self._OURS:
            remove(self.path / name)
        write(self.path / "config.toml", to_toml(config))

    def finished_config(self) -> Config:
        """The config of a run that has a model. Raises ConfigError where the folder is no run, or has no model yet."""
        self._settle()
        if not (self.path / "config.toml").is_file():
            raise ConfigError(f"{self.path}: not a run folder (no config.toml in it)")
        if (other := made_by(self.path)) not in (None, self._COMMAND):
            raise ConfigError(
                f"{self.path}: this is a run of {other}, not of {self._COMMAND}; "
                f"to teach its model a task: yanma train --model {self.model}"
            )
        if not self.model.is_dir():
            raise ConfigError(f"{self.path}: no model in it; the run ended before its first epoch did")
        return load(self.path / "config.toml")

    def describe(self) -> str:
        """One line: what a run has left here."""
        self._settle()
        if (self._new / "config.toml").is_file():
            return f"{self.path}: no model yet, none was saved; the run before is still there"
        if not self.model.is_dir():
            return f"{self.path}: no model yet, none was saved"
        try:
            metrics = json.loads((self.path / "metrics.json").read_text("utf-8"))
            best = metrics["epochs"][metrics["best_epoch"] - 1]["validation"]
            figure = f"{best['headline_name']} {best['headline']:.4f} on validation"
            return f"{self.model}: epoch {metrics['best_epoch']}, the best of {len(metrics['epochs'])} ({figure})"
        except (OSError, ValueError, LookupError):
            return f"{self.model}: a model whose figures were not written"

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
            self._settle()
        finally:
            self._settle()  # once more where Ctrl-C fell into it
            for name in ("model", "metrics.json"):
                remove(self._new / name)
            with suppress(OSError):  # it stays where it holds the config of a run that has no model yet
                self._new.rmdir()
        for path in self._curves_before:
            path.unlink(missing_ok=True)
        self._curves_before = []

    def _settle(self) -> None:
        """Move what .ready/ holds into place. Stopped at any point, it can be done again."""
        if not self._ready.is_dir():
            return
        fresh, config = self._ready / "model", self._ready / "config.toml"
        if fresh.is_dir() and self.model.is_dir() and not config.exists():
            # Within a run only the weights differ from one save to the next, and they are one file: moving file by
            # file replaces the model in one instant, also for those who load it meanwhile.
            for path in filter(Path.is_file, fresh.rglob("*")):
                path.replace(self.model / path.relative_to(fresh))
        elif fresh.is_dir():
            remove(self.model)
            fresh.replace(self.model)
        for path in (self._ready / "metrics.json", config):  # the config last: it says that a run begins
            if path.exists():
                path.replace(self.path / path.name)
        flush_to_disk(self.path)
        shutil.rmtree(self._ready)


def _as_json(metrics: Mapping[str, Any]) -> str:
    return json.dumps(metrics, indent=2, ensure_ascii=False) + "\n"


def remove(place: Path) -> None:
    """Remove a file or a folder, if it is there."""
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)


def write(path: Path, text: str) -> None:
    """Make or replace a file, in one instant."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        flush_to_disk(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def full_disk_is_an_os_error() -> Iterator[None]:
    """safetensors tells of the system's errors in a class of its own."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise OSError(str(error)) from error
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
