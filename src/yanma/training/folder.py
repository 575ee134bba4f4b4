"""The folder of a run. Every file appears whole or not at all: a full disk or Ctrl-C leaves what was there before.

config.toml      the config with every default spelled out
metrics.json     figures of every epoch, the test report, speeds, versions
model/           the best model so far and its tokenizer, loadable by plain `from_pretrained`
tensorboard/     curves
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ConfigError
from .config import Config, load, to_toml
from .pretrained import at_home, quiet

_OURS = ("config.toml", "metrics.json", "model", "tensorboard")


class RunFolder:
    """Reads and writes one run's folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = at_home(path)
        self.model = self.path / "model"
        self.tensorboard = self.path / "tensorboard"

    def check_free(self, *, overwrite: bool) -> None:
        """Refuse a folder with something in it; with `overwrite`, a folder with something other than a run in it."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file, not a folder")
        there = [path.name for path in self.path.iterdir()]
        if there and not overwrite:
            raise ConfigError(f"{self.path} is not empty; name another --out, or say --overwrite")
        if there and "config.toml" not in there:
            raise ConfigError(
                f"{self.path} holds no run, so --overwrite does not touch it; name another --out"
            )

    def start(self, config: Config) -> None:
        """Make the folder and save the config; what a run before left there is removed."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in _OURS:
            place = self.path / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        _write(self.path / "config.toml", to_toml(config))

    def finished_config(self) -> Config:
        """The config of a run that has a model. Raises ConfigError where the folder is no run, or has no model yet."""
        if not (self.path / "config.toml").is_file():
            raise ConfigError(f"{self.path}: not a run folder (no config.toml in it)")
        if not self.model.is_dir():
            raise ConfigError(f"{self.path}: no model in it; the run ended before its first epoch did")
        return load(self.path / "config.toml")

    def describe(self) -> str:
        """One line: what a run has left here."""
        if not self.model.is_dir():
            return f"{self.path}: no model yet, its first epoch was not over"
        try:
            metrics = json.loads((self.path / "metrics.json").read_text("utf-8"))
            best = metrics["epochs"][metrics["best_epoch"] - 1]["validation"]
            figure = f"{best['headline_name']} {best['headline']:.4f} on validation"
            return f"{self.model}: epoch {metrics['best_epoch']}, the best of {len(metrics['epochs'])} ({figure})"
        except (OSError, ValueError, LookupError):
            return f"{self.model}: a model whose figures were not written"

    def save_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Replace metrics.json."""
        _write(self.path / "metrics.json", json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")

    def save_model(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Replace model/ by this model.

        It is written in full beside the old one first. Within a run only the weights differ from one save to the next,
        and they are one file, so moving file by file replaces the model in one instant.
        """
        fresh = self.path / ".model.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            with quiet(), _full_disk_is_an_os_error():
                model.save_pretrained(fresh, max_shard_size="1TB")
                tokenizer.save_pretrained(fresh)
            readers = (
                (fresh / "config.json").stat().st_mode
            )  # safetensors' own files are for their owner alone
            for path in filter(Path.is_file, fresh.rglob("*")):
                path.chmod(readers)
                _flush_to_disk(path)
            _flush_to_disk(fresh)
            if self.model.exists():
                for path in filter(Path.is_file, fresh.rglob("*")):
                    path.replace(self.model / path.relative_to(fresh))
            else:
                fresh.replace(self.model)
            _flush_to_disk(self.path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _flush_to_disk(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _full_disk_is_an_os_error() -> Iterator[None]:
    """safetensors tells of the system's errors in a class of its own."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise OSError(str(error)) from error
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
