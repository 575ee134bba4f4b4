"""What a training run can be told: the models below are the whole list of settings, made usable by settings.py."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from ..masks import ParseError, parse
from ..settings import Names, Section, Setting, read, settings_of

Share = Annotated[float, Field(ge=0, le=1)]
Columns = Annotated[dict[str, str], BeforeValidator(lambda given: _paired(given))]
PathOrShare = Annotated[
    str | float,
    BeforeValidator(lambda given: _share_if_number(given)),
    AfterValidator(lambda given: _between_0_and_1(given)),
]


class TaskConfig(Section):
    """What is learned, and where it stands in a row."""

    name: Literal["sequence-classification", "token-classification"] = Field(
        description="what is learned: one class a text, or one tag a word"
    )
    columns: Columns = Field(
        default={},
        description="names of the columns where they differ from the usual, e.g. text=sentence,label=intent",
    )


class DataConfig(Section):
    """Where the rows come from: files, or names of datasets with their split."""

    train: str = Field(description="rows to learn from: a file, or NAME:SPLIT of `datasets`")
    validation: PathOrShare = Field(
        default=0.1,
        description="rows that choose the best epoch; a number below 1 holds that share of train out",
    )
    test: str | None = Field(default=None, description="rows for the report at the end")


class ModelConfig(Section):
    """Which model is trained, and how much of it."""

    path: str | None = Field(default=None, description="a model: a folder, or a name on the hub")
    from_scratch: Literal["bert-tiny", "bert-mini", "bert-small", "bert-medium", "bert-base"] | None = Field(
        default=None, description="a fresh model with random weights instead of one that is given"
    )
    tokenizer: str | None = Field(
        default=None,
        description="with from_scratch: the tokenizer's folder; without it one is learned from train",
    )
    add_special_tokens: bool = Field(
        default=False,
        description="put the tokenizer's [CLS] and [SEP], or <s> and </s>, around each text, where it does not itself",
    )
    max_length: int | None = Field(
        default=None,
        ge=3,
        description="longest text in tokens; longer ones are cut (default: what the model allows)",
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="dropout everywhere (default: the model's own)"
    )
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

    @model_validator(mode="after")
    def _one_model(self) -> ModelConfig:
        if (self.path is None) == (self.from_scratch is None):
            raise ValueError("give either path (--model DIR) or from_scratch (--from-scratch bert-tiny)")
        if self.tokenizer is not None and self.from_scratch is None:
            raise ValueError(
                "tokenizer (--tokenizer) goes with from_scratch (--from-scratch); a model that is given brings its own"
            )
        return self


class Moves(Section):
    """How the weights move, whatever is learned."""

    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's; biases and LayerNorm do not decay")
    max_batch_tokens: int = Field(
        default=4096, ge=1, description="tokens computed at once: bounds memory, moves no result"
    )
    schedule: Literal["linear", "cosine"] = Field(
        default="linear", description="how the learning rate falls to 0"
    )
    clip_norm: float = Field(
        default=1.0,
        gt=0,
        description="largest norm of the whole gradient; a larger one is scaled down to it (inf: never)",
    )
    bf16: bool = Field(
        default=False, description="compute in bfloat16; weights and their updates stay in float32"
    )


class OptimConfig(Moves):
    """How the weights move. A step is one move of the weights, however many packs its examples fill."""

    learning_rate: float = Field(default=5e-5, gt=0, description="highest learning rate of the schedule")
    epochs: int = Field(default=3, ge=1, description="passes over train")
    batch_size: int | None = Field(default=None, ge=1, description="examples a step (default: 32)")
    batch_tokens: int | None = Field(default=None, ge=1, description="tokens a step, instead of batch_size")
    warmup: Share = Field(default=0.1, description="share of all steps in which the learning rate rises")

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


class Config(Section):
    """One training run."""

    flags: ClassVar = {("task", "name"): "task", ("model", "path"): "model"}

    out: str = Field(description="folder of the run")
    seed: int = Field(
        ge=0,
        le=2**63 - 1,
        default=0,
        description="of fresh weights, order, dropout and the share that is held out",
    )
    masking: Literal["dynamic", "static"] = Field(
        default="dynamic",
        description="dynamic: no padding is computed; static: every text is padded to max_length",
    )
    task: TaskConfig
    data: DataConfig
    model: ModelConfig
    optim: OptimConfig = OptimConfig()

    @model_validator(mode="after")
    def _only_packs_have_masks(self) -> Config:
        if self.model.mask is not None and self.masking == "static":
            raise ValueError('mask (--mask) goes with masking = "dynamic"; a padded stock model takes none')
        return self


def settings() -> Iterator[Setting]:
    """Every setting of a training run.

    >>> [setting.flag for setting in settings()][:5]
    ['out', 'seed', 'masking', 'task', 'columns']
    """
    return settings_of(Config)


def load(path: Path | None = None, flags: Mapping[str, object] | None = None) -> Config:
    """The config in a TOML file, or an empty one, overridden by those `flags` (by name) that are not None.

    >>> flags = {"task": "sequence-classification", "train": "a.csv", "model": "m", "out": "runs/x", "epochs": "5"}
    >>> load(flags=flags).optim.epochs
    5

    Raises ConfigError, which names file and key, or the flag.
    """
    return read(Config, path, flags)


_COMMANDS = {"task": "yanma train", "objective": "yanma pretrain"}


def made_by(folder: Path) -> str | None:
    """The command whose run a folder holds; None where its config is of neither, or cannot be read."""
    try:
        tables = tomllib.loads((folder / "config.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return next((command for table, command in _COMMANDS.items() if table in tables), None)


def _paired(given: object) -> object:
    if not isinstance(given, str):
        return given
    pairs = [pair.split("=", 1) for pair in given.split(",") if pair.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"columns are said as usual=yours,usual=yours; got {given!r}")
    return {usual.strip(): yours.strip() for usual, yours in pairs}


def _share_if_number(given: object) -> object:
    """A flag's text: a number is a share, anything else a path."""
    try:
        return float(given) if isinstance(given, str | int) else given
    except ValueError:
        return given


def _between_0_and_1(given: str | float) -> str | float:
    if isinstance(given, float) and not 0 < given < 1:
        raise ValueError(f"{given:g} is no share; give a number between 0 and 1, or a file")
    return given
