"""What `yanma train` can be told: the models below are the whole list of settings, made usable by settings.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ..data.reading import Format, Note, Reading
from ..data.unusable import OnBadRow
from ..errors import did_you_mean
from ..masks import ParseError, parse
from ..settings import Files, Names, Section, read
from .config import ModelConfig, OptimConfig, PathOrShare, RunConfig, SavingConfig

ColumnNames = Annotated[dict[str, str], BeforeValidator(lambda given: _paired(given))]
_OTHER_NAMES = {
    **dict.fromkeys(
        ("text-classification", "classification", "sentiment-analysis"), "sequence-classification"
    ),
    **dict.fromkeys(("ner", "pos", "tagging", "named-entity-recognition"), "token-classification"),
}
"""What other tools call the tasks."""
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

    label_names: Names = Field(
        default=(),
        description="what classes or tags are called that stand in the rows as numbers, from 0 on, e.g. O,B-PER,I-PER",
    )

    @field_validator("label_names")
    @classmethod
    def _each_once(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        twice = next((name for name in given if given.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is the name of two numbers; each class has its own")
        return given

    @field_validator("name")
    @classmethod
    def _a_task_that_there_is(cls, given: str) -> str:
        from ..objectives import TASKS

        if given not in TASKS:
            meant = _OTHER_NAMES.get(given.lower().replace("_", "-"))
            hint = f"did you mean {meant!r}?" if meant else did_you_mean(given, TASKS)
            raise ValueError(
                f"must be {' or '.join(map(repr, sorted(TASKS)))}; got {given!r}{hint and '; '}{hint}"
            )
        return given


class ReadingConfig(Section):
    """How files of rows are read where their names do not say it."""

    format: Format | None = Field(default=None, description="of the files, where their names do not say it")
    delimiter: str | None = Field(
        default=None, description="one character between fields of csv, tsv, conll; in text, before a label"
    )
    encoding: str = Field(default="utf-8", description="of text files, e.g. latin-1, gb18030")

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        self.reading(lambda said: None)
        return self

    def reading(self, note: Note) -> Reading:
        """How rows are read; `note` is told of them."""
        return Reading(self.format, self.delimiter, self.encoding, note)


class TextFilesConfig(ReadingConfig):
    """How files are read of which the texts alone are wanted."""

    text_column: str = Field(default="text", description="where texts stand in rows")

    def reading(self, note: Note) -> Reading:
        """How rows are read; `note` is told of them."""
        return replace(super().reading(note), setting="text_column")


class CheckedConfig(ReadingConfig):
    """The same of rows with their truth."""

    on_bad_row: OnBadRow = Field(
        default="refuse",
        description="what becomes of rows that cannot be used: refused with their number, left out and counted, or, "
        "where tags break their scheme, repaired",
    )


class PredictConfig(ReadingConfig):
    """How a finished run reads rows to predict."""

    columns: ColumnNames = Field(
        default={},
        description="names of the columns where they differ from the run's, e.g. text=sentence",
    )


class EvaluateConfig(PredictConfig, CheckedConfig):
    """How a finished run reads rows with their truth."""


class RowsConfig(CheckedConfig):
    """Where the rows come from: files, or names of datasets with their split."""

    train: Files = Field(
        min_length=1,
        description="rows to learn from: a file, a folder, a pattern, a zip archive, or NAME:SPLIT of `datasets`",
    )
    validation: PathOrShare = Field(
        default=0.1,
        description="rows that choose the best model; a number below 1 holds that share of train out",
    )
    test: Files = Field(default=(), description="rows for the report at the end")
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

    usual: ClassVar = {"epochs": 3, "batch_size": 32}
    instead: ClassVar = {**OptimConfig.instead, "batch_size": ("batch_tokens", "how large a step is")}

    epochs: int | None = Field(default=None, ge=1, description="passes over train (default: 3)")
    batch_size: int | None = Field(default=None, ge=1, description="examples a step (default: 32)")
    batch_tokens: int | None = Field(default=None, ge=1, description="tokens a step, instead of batch_size")


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
                f"`masking` is the old name of `batching`; got both, {given['masking']} and {given['batching']}: leave "
                f"`masking` out"
            )
        return {**given, "batching": meant}

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> TrainConfig:
        if self.model.mask is not None and self.batching == "padded":
            raise ValueError("`mask` goes with `batching` packed; a padded stock model takes none")
        check_streaming(self.data.streaming, self.optim.steps, self.data.validation)
        return self


def check_streaming(streaming: bool, steps: int | None, validation: str | float) -> None:
    """Raises ValueError where a stream would have to be counted, or parted, before it is read."""
    if streaming and steps is None:
        raise ValueError("`streaming` needs `steps`: how long an epoch is is not known")
    if streaming and isinstance(validation, float):
        raise ValueError("`streaming` needs `validation`: a file to measure on")


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
