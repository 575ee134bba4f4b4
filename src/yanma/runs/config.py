"""What all runs can be told, whatever they learn, and what of it a run that goes on must find as it was."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from ..errors import ConfigError
from ..loading.shapes import SHAPES
from ..settings import Section, settings_of

Share = Annotated[float, Field(ge=0, le=1)]
PathOrShare = Annotated[
    str | float,
    BeforeValidator(lambda given: _share_if_number(given)),
    AfterValidator(lambda given: _between_0_and_1(given)),
]


class ModelConfig(Section):
    """Which model is trained."""

    goal: ClassVar[str | None] = None
    """What fresh models must be for; None = it depends on the objective."""

    path: str | None = Field(
        default=None, description="a model to begin with: a folder, or a name on the hub"
    )
    from_scratch: str | None = Field(
        default=None,
        description="a fresh model with random weights instead of one that is given, by its shape",
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
        default=None, ge=3, description="longest text in tokens (default: what the model allows)"
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="dropout everywhere (default: the model's own)"
    )

    @field_validator("from_scratch")
    @classmethod
    def _a_shape_that_there_is(cls, given: str | None) -> str | None:
        known = [name for name, shape in SHAPES.items() if cls.goal is None or cls.goal in shape.goals]
        if given is not None and given not in known:
            raise ValueError(f"there is no shape {given!r}; there are {', '.join(known)}")
        return given

    @model_validator(mode="after")
    def _one_model(self) -> ModelConfig:
        if (self.path is None) == (self.from_scratch is None):
            raise ValueError("give either `model` or `from_scratch`, such as bert-tiny")
        if self.tokenizer is not None and self.from_scratch is None:
            raise ValueError("`tokenizer` goes with `from_scratch`; a model that is given brings its own")
        return self


class LengthConfig(Section):
    """A section with the settings `epochs` and `steps`, of which there is one."""

    usual: ClassVar[Mapping[str, int]] = {"epochs": 1}
    """What a setting is where neither it nor the one in its place is said."""
    instead: ClassVar[Mapping[str, tuple[str, str]]] = {"epochs": ("steps", "how long to train")}
    """By setting the one that may be said in its place, and what either of them says."""

    @model_validator(mode="before")
    @classmethod
    def _one_of_two(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for key, (other, what) in cls.instead.items():
            said = [name for name in (key, other) if given.get(name) is not None]
            if len(said) == 2:
                raise ValueError(f"`{key}` and `{other}` both say {what}; give one of them")
            given = given if said else {**given, key: cls.usual[key]}
        return given


class OptimConfig(LengthConfig):
    """How the weights move. A step is one move of the weights, however many packs its examples fill."""

    learning_rate: float = Field(default=5e-5, gt=0, description="highest learning rate of the schedule")
    epochs: int | None = Field(default=None, ge=1, description="passes over train")
    steps: int | None = Field(
        default=None,
        ge=1,
        description="moves of the weights, instead of epochs; train is read again as needed",
    )
    warmup: Share = Field(default=0.1, description="share of all steps in which the learning rate rises")
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


class SavingConfig(Section):
    """When a run measures itself and what it keeps; neither moves its weights."""

    evaluate_every: int | None = Field(
        default=None, ge=1, description="steps between two validations (default: an epoch)"
    )
    save_every: int | None = Field(
        default=None, ge=1, description="steps between two checkpoints, for --resume (default: an epoch)"
    )


class RunConfig(Section):
    """One run."""

    command: ClassVar[str]
    """Whose config it is."""
    may_change: ClassVar[tuple[str, ...]] = ("saving",)
    """Sections that a run which goes on may be told anew."""

    out: str = Field(description="folder of the run")
    seed: int = Field(
        ge=0,
        le=2**63 - 1,
        default=0,
        description="of fresh weights, order, corruption, dropout and what is held out",
    )
    batching: Literal["packed", "padded"] = Field(
        default="packed",
        description="packed: no padding is computed; padded: every text is padded to max_length, as stock models are",
    )

    if TYPE_CHECKING:  # fields of every run, which stand after what it learns

        @property
        def model(self) -> ModelConfig: ...
        @property
        def optim(self) -> OptimConfig: ...
        @property
        def saving(self) -> SavingConfig: ...


Run = TypeVar("Run", bound=RunConfig)

_COMMANDS = {"task": "yanma train", "objective": "yanma pretrain"}


def made_by(folder: Path) -> str | None:
    """The command whose run a folder holds; None where its config is of neither, or cannot be read."""
    try:
        tables = tomllib.loads((folder / "config.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return next((command for table, command in _COMMANDS.items() if table in tables), None)


def begun(folder: Path, command: str) -> Path:
    """The config file of the run in a folder. Raises ConfigError where there is none of this command."""
    path = folder / "config.toml"
    if not path.is_file():
        raise ConfigError(
            f"--resume: {folder} holds no run (no config.toml in it); begin one without --resume"
        )
    if (other := made_by(folder)) not in (None, command):
        raise ConfigError(f"--resume: {folder} holds a run of {other}, not of {command}; name another --out")
    return path


def with_max_length(config: Run, max_length: int) -> Run:
    """The config with its `max_length` resolved."""
    return config.model_copy(update={"model": config.model.model_copy(update={"max_length": max_length})})


def resumed(before: Run, now: Run) -> Run:
    """The config of a run that goes on: `now`, with the `max_length` that the run resolved where it does not say one.

    Raises ConfigError, which names the first setting that differs and would lead the run elsewhere.
    """
    if now.model.max_length is None and before.model.max_length is not None:
        now = with_max_length(now, before.model.max_length)
    check_fixed(fixed(before), now)
    return now


def fixed(config: RunConfig) -> dict[str, str]:
    """What leads a run, by flag, in words: all that a run that goes on must find as it was."""
    found = {}
    for setting in settings_of(type(config)):
        if setting.section in config.may_change or setting.flag == "out" or setting.field.exclude:
            continue
        value = getattr(config if setting.section is None else getattr(config, setting.section), setting.key)
        found[f"--{setting.flag.replace('_', '-')}"] = (
            (" ".join(value) or "None") if isinstance(value, tuple) else repr(value)
        )
    return found


def check_fixed(before: Mapping[str, str], now: RunConfig) -> None:
    """Raises ConfigError, which names the first setting that is not as it was; what was no setting then is none."""
    for flag, value in fixed(now).items():
        if before.get(flag, value) not in (
            value,
            repr(value),
        ):  # a file was kept in quotes where there was but one
            raise ConfigError(
                f"{flag} is {value}, but the run was begun with {before[flag]}; a run is resumed with its own settings"
            )


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
