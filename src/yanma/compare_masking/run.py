"""One run: an arm with a seed is pre-trained, judged on held-back text, and fine-tuned on the probe."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..data.sentences import task_rows
from ..errors import ConfigError, DataError, YanmaError
from ..objectives import TASKS
from ..runs.pretrain import pretrain
from ..runs.pretrain_config import PretrainConfig
from ..runs.train import train
from ..runs.train_config import TrainConfig
from .arms import ARMS, Arm
from .config import ComparisonConfig, ProbeConfig
from .outcome import Outcome
from .prepare import Shared

_NEVER = 10**9  # steps: a run is judged once, at its end


@dataclass(frozen=True)
class Runner:
    """Computes runs; it can be sent to another process."""

    config: ComparisonConfig
    folder: Path
    shared: Shared

    def __call__(self, arm: str, seed: int) -> Outcome:
        """The outcome; what the run said is in OUT/runs/ARM-SEED/log.txt, and its weights are not kept.

        Raises YanmaError or OSError, whatever went wrong.
        """
        place = self.folder / "runs" / f"{arm}-{seed}"
        place.mkdir(parents=True, exist_ok=True)
        with _told_in(place / "log.txt"):
            try:
                return self._outcome(ARMS[arm], seed, place)
            finally:
                for name in ("pretraining", "probe"):
                    shutil.rmtree(place / name, ignore_errors=True)

    def _outcome(self, arm: Arm, seed: int, place: Path) -> Outcome:
        begin = time.perf_counter()
        pretraining = pretrain_config(self.config, self.shared, arm, seed, place / "pretraining")
        pretrained = pretrain(pretraining, overwrite=True)
        seconds = {"pretraining": time.perf_counter() - begin}
        units = pretrained.validation.figures["units"]
        figures = {
            "validation loss": units["token"]["loss"],
            "validation accuracy": units["token"]["accuracy"],
        }
        figures |= {f"{unit} accuracy": units[unit]["accuracy"] for unit in ("word", "span")}
        if self.config.probe.train is not None:
            begin = time.perf_counter()
            figures |= self._probed(seed, pretrained.folder / "model", place / "probe")
            seconds["probe"] = time.perf_counter() - begin
        shared = self.shared.fingerprints(seed) | {"judged tokens": str(units["token"]["tokens"])}
        return Outcome(arm.name, seed, pretrained.steps, pretrained.tokens, figures, shared, seconds)

    def _probed(self, seed: int, model: Path, out: Path) -> dict[str, float]:
        probe = self.config.probe
        given = {
            "out": str(out),
            "seed": seed,
            "task": {"name": probe.task, "columns": probe.columns},
            "data": {"train": probe.train, "test": probe.test},
            "model": {"path": str(model)},
            "optim": {"epochs": probe.epochs, "learning_rate": probe.learning_rate},
        }
        trained = train(TrainConfig.model_validate(given), overwrite=True)
        assert trained.test is not None  # the config names test rows
        report = trained.test.report
        return {"probe accuracy": cast(float, report.accuracy), "probe macro F1": report.averages["macro"].f1}


def pretrain_config(
    config: ComparisonConfig, shared: Shared, arm: Arm, seed: int, out: Path
) -> PretrainConfig:
    """The pre-training of an arm with a seed, as `yanma pretrain` does it."""
    budget = config.budget
    given = {
        "out": str(out),
        "seed": seed,
        "objective": {
            "name": "mlm",
            "unit": arm.unit,
            "rate": arm.rate,
            "resampling": arm.resampling,
            "phrases": str(shared.collocations) if arm.unit == "phrase" else None,
        },
        "data": {"train": (str(shared.train),), "validation": str(shared.validation), "blocks": "join"},
        "model": {"path": str(shared.initial(seed)), "max_length": config.model.max_length},
        "optim": {
            "epochs": budget.epochs,
            "steps": budget.steps,
            "batch_tokens": budget.batch_tokens,
            "learning_rate": budget.learning_rate,
        },
        "saving": {"evaluate_every": _NEVER, "save_every": _NEVER, "pseudo_perplexity_tokens": 0},
    }
    return PretrainConfig.model_validate(given)


def check_probe(probe: ProbeConfig) -> None:
    """Read the probe's rows, so that what keeps every run from its probe is found before the first.

    Raises ConfigError for columns that the task has not, DataError for rows that cannot be used.
    """
    if probe.train is None or probe.test is None:
        return
    kind = TASKS[probe.task]
    try:
        columns = kind.columns_named(probe.columns)
    except ConfigError as error:
        raise ConfigError(f"`probe_columns`: {error}") from None
    kind.from_rows(task_rows(probe.train, columns), columns)
    task_rows(probe.test, columns)


@contextmanager
def _told_in(log: Path) -> Iterator[None]:
    """What is told meanwhile goes to a file; a slip of ours is told there in full, and by its name here."""
    with log.open("w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            yield
        except (YanmaError, OSError):
            traceback.print_exc()
            raise
        except Exception as error:
            traceback.print_exc()
            raise DataError(f"{type(error).__name__}: {error}; more in {log}") from None
