"""What `yanma train` can be told: the models below are the whole list of settings, made usable by settings.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ..masks import ParseError, parse
from ..settings import Names, Section, read
from .config import ModelConfig, OptimConfig, PathOrShare, RunConfig, SavingConfig

ColumnNames = Annotated[dict[str, str], BeforeValidator(lambda given: _paired(given))]
_PADDING = {"static": "padded", "dynamic": "packed"}


class TaskConfig(Section):
    """What is learned, and where it stands in a row."""

    name: str = Field(
        description="what is learned: sequence-classification (one class a text) or token-classification (one tag a "
        "word)"
    )

    columns: ColumnNames = Field(
        default={},
        description="names of the columns where they differ from the usual, e.g. text=sentence,label=intent",
    )

    @field_validator("name")
    @classmethod
    def _a_task_that_there_is(cls, given: str) -> str:
        from ..objectives import TASKS

        if given not in TASKS:
            raise ValueError(f"must be {' or '.join(map(repr, sorted(TASKS)))}; got {given!r}")
        return given


class EvaluateConfig(Section):
    """How rows are read that a run is evaluated on."""

    columns: ColumnNames = Field(
        default={}, description="names of the columns where they differ from the run's, e.g. text=sentence"
    )


class RowsConfig(Section):
    """Where the rows come from: files, or names of datasets with their split."""

    train: str = Field(description="rows to learn from: a file, or NAME:SPLIT of `datasets`")
    validation: PathOrShare = Field(
        default=0.1,
        description="rows that choose the best model; a number below 1 holds that share of train out",
    )
    test: str | None = Field(default=None, description="rows for the report at the end")
    streaming: bool = Field(
        default=False,
        description="read train anew in each epoch instead of keeping it, and shuffle a few thousand rows at a time",
    )


class TunedModelConfig(ModelConfig):
    """Which model is trained, and how much of it."""

    goal: ClassVar = "mlm"

    freeze: Names = Field(default=(), description="modules that are not trained, e.g. embeddings,layers.0-3")
    mask: str | None = Field(
        default=None,
        description="who may read whom, on top of the model's own, e.g. 'window(64, 64) | global_tokens(first=1)'",
    )

    @field_validator("mask")
    @classmethod
    def _a_mask_can_be_read(cls, given: str | None) -> str | None:
        try:
            return given if given is None else str(parse(given))
        except ParseError as error:
            raise ValueError(f"{error.reason}, at character {error.place + 1} of {given!r}") from None


class TrainOptimConfig(OptimConfig):
    """How the weights move. A step is one move of the weights, however many packs its examples fill."""

    usual_epochs: ClassVar = 3

    epochs: int | None = Field(default=None, ge=1, description="passes over train (default: 3)")
    batch_size: int | None = Field(default=None, ge=1, description="examples a step (default: 32)")
    batch_tokens: int | None = Field(default=None, ge=1, description="tokens a step, instead of batch_size")

    @model_validator(mode="before")
    @classmethod
    def _one_size_of_step(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("batch_size") is not None and given.get("batch_tokens") is not None:
            raise ValueError(
                "batch_size and batch_tokens (--batch-size, --batch-tokens) both say how large a step is; "
                "give one of them"
            )
        if given.get("batch_size") is None and given.get("batch_tokens") is None:
            return {**given, "batch_size": 32}
        return given


class TrainConfig(RunConfig):
    """One training run."""

    command: ClassVar = "yanma train"
    flags: ClassVar = {("task", "name"): "task", ("model", "path"): "model"}

    masking: Literal["dynamic", "static"] | None = Field(
        default=None,
        exclude=True,
        description="the old name of batching: dynamic is packed, static is padded",
    )
    task: TaskConfig
    data: RowsConfig
    model: TunedModelConfig
    optim: TrainOptimConfig = TrainOptimConfig()
    saving: SavingConfig = SavingConfig()

    @model_validator(mode="before")
    @classmethod
    def _the_old_name(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("masking") not in _PADDING:
            return given
        meant = _PADDING[given["masking"]]
        if given.get("batching") not in (None, meant):
            raise ValueError(
                f"masking (--masking) is the old name of batching (--batching); got both, {given['masking']} and "
                f"{given['batching']}: leave masking out"
            )
        return {**given, "batching": meant}

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> TrainConfig:
        if self.model.mask is not None and self.batching == "padded":
            raise ValueError('mask (--mask) goes with batching = "packed"; a padded stock model takes none')
        check_streaming(self.data.streaming, self.optim.steps, self.data.validation)
        return self


def check_streaming(streaming: bool, steps: int | None, validation: str | float) -> None:
    """Raises ValueError where a stream would have to be counted, or parted, before it is read."""
    if streaming and steps is None:
        raise ValueError("streaming (--streaming) needs steps (--steps): how long an epoch is is not known")
    if streaming and isinstance(validation, float):
        raise ValueError("streaming (--streaming) needs validation (--validation): a file to measure on")


def load(path: Path | None = None, flags: Mapping[str, object] | None = None) -> TrainConfig:
    """The config in a TOML file, or an empty one, overridden by those `flags` (by name) that are not None.

    >>> flags = {"task": "sequence-classification", "train": "a.csv", "model": "m", "out": "runs/x", "epochs": "5"}
    >>> load(flags=flags).optim.epochs
    5

    Raises ConfigError, which names file and key, or the flag.
    """
    return read(TrainConfig, path, flags)


def _paired(given: object) -> object:
    """Columns as a flag says them, by their usual names. Raises ValueError for what cannot be meant."""
    if not isinstance(given, str):
        return given
    pairs = [pair.split("=", 1) for pair in given.split(",") if pair.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"columns are said as usual=yours,usual=yours; got {given!r}")
    found: dict[str, str] = {}
    for usual, yours in ((usual.strip(), yours.strip()) for usual, yours in pairs):
        if found.setdefault(usual, yours) != yours:
            raise ValueError(f"{usual!r} is said twice, {found[usual]!r} and {yours!r}; say one")
    return found
