"""Pre-training: from a config to a folder with a model, its figures and what to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from .folder import RunFolder
from .language import LanguageFigures
from .loop import run
from .pretrain_config import PretrainConfig, load
from .pretrain_setup import set_up


@dataclass(frozen=True)
class Pretrained:
    """What a run has come to."""

    folder: Path
    steps: int
    tokens: int
    """That were computed, each as often as it was."""
    train_loss: float
    """Mean over the steps since the last validation but one."""
    validation: LanguageFigures
    """After the last step."""
    best_step: int
    """After so many steps the model was as it is kept."""
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
            "best_step": self.best_step,
            "pseudo_perplexity": self.pseudo_perplexity,
        }


def pretrain(
    config: PretrainConfig | Mapping[str, object], *, overwrite: bool = False, resume: bool = False
) -> Pretrained:
    """Pre-train as the config says; the folder `config.out` has what the run has come to, and checkpoints.

    A config may be given as its flags, by name. With `resume` the run in the folder goes on from its newest checkpoint,
    or from its beginning where it has none: on a CPU with the bits that it would have had without the interruption.

    Raises ConfigError, DataError or Unsupported before the folder is touched where the run cannot start; and
    ConfigError where loss, gradient or weights become no number, before they are saved.
    """
    if not isinstance(config, PretrainConfig):
        config = load(flags=config)
    folder = RunFolder(config.out, PretrainConfig)
    done = run(config, set_up, folder, overwrite=overwrite, resume=resume)
    progress, validation = done.progress, cast(LanguageFigures, done.validation)
    best = cast(dict[str, Any], progress.best)  # a run has a validation
    return Pretrained(
        done.folder,
        progress.step,
        progress.tokens,
        progress.loss_since,
        validation,
        best["step"],
        done.closing["pseudo_perplexity"],
    )
