"""The folder of a pre-training run: that of a training run, and checkpoints to go on from.

config.toml      the config with every default spelled out
metrics.json     figures of every step and validation
model/           the weights of the last validation and the tokenizer, loadable by plain `from_pretrained`
tensorboard/     curves
checkpoints/     what --resume goes on from
"""

from __future__ import annotations

import json
from typing import ClassVar

from ..errors import ConfigError
from ..settings import to_toml
from .checkpoint import Checkpoints
from .folder import RunFolder, remove, write
from .pretrain_config import Config, begun, load


class PretrainingFolder(RunFolder):
    """Reads and writes one run's folder."""

    _OURS: ClassVar[tuple[str, ...]] = (*RunFolder._OURS, "checkpoints")
    _COMMAND: ClassVar = "yanma pretrain"
    _IF_FULL: ClassVar = "name another --out, or say --resume (to go on with the run in it) or --overwrite"

    @property
    def checkpoints(self) -> Checkpoints:
        """Where the run can go on from."""
        return Checkpoints(self.path / "checkpoints")

    def begun(self) -> Config:
        """The config of the run that is to go on. Raises ConfigError where the folder holds none."""
        return load(begun(self.path))

    def begin(self, config: Config) -> None:
        """Make the folder, remove what a run before left in it, and save the config."""
        self.path.mkdir(parents=True, exist_ok=True)
        for place in (self._new, self._ready, *(self.path / name for name in self._OURS)):
            remove(place)
        write(self.path / "config.toml", to_toml(config))

    def go_on(self) -> None:
        """Clear away what a run left half written when it was killed."""
        self._settle()
        remove(self._new)

    def describe(self, *, resumable: bool = True) -> str:
        """One line: what a run has left here, and, where it is `resumable`, from where --resume goes on."""
        self._settle()
        newest = self.checkpoints.newest()
        further = "" if newest is None else f"; --resume goes on from {newest}"
        if newest is None and (self.path / "config.toml").is_file():
            further = "; --resume begins again at step 0"
        further = further if resumable else ""
        if not self.model.is_dir():
            return f"{self.path}: no model yet, none was saved{further}"
        last = self._last()
        if last is None:
            return f"{self.model}: a model whose figures were not written{further}"
        step, num_steps, loss = last
        figures = f"step {step} of {num_steps}, validation loss {loss:.4f}"
        return f"{self.model}: {figures}{'' if step == num_steps else further}"

    def check_unfinished(self) -> None:
        """Raises ConfigError where the run is at its end, so that going on without a checkpoint would undo it."""
        last = self._last()
        if last is not None and last[0] == last[1]:
            raise ConfigError(
                f"--resume: {self.path}: the run is finished, and its checkpoints are gone; --overwrite begins it anew"
            )

    def _last(self) -> tuple[int, int, float] | None:
        """Step, steps in all, and loss of the last validation; None where they cannot be read."""
        try:
            metrics = json.loads((self.path / "metrics.json").read_text("utf-8"))
            last = metrics["validations"][-1]
            return last["step"], metrics["num_steps"], last["validation"]["loss"]
        except (OSError, ValueError, LookupError):
            return None
