"""What a training run can be told: a TOML file, flags that override it, and errors that name the key.

The models below are the whole list of settings: the command line makes its flags from them, `write_toml` saves them
beside the run, and a key that is not here is refused with the nearest one that is.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from ..errors import ConfigError, did_you_mean
from ..masks import ParseError, parse

Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda given: _listed(given))]
Columns = Annotated[dict[str, str], BeforeValidator(lambda given: _paired(given))]
PathOrShare = Annotated[str | float, BeforeValidator(lambda given: _share_if_number(given))]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskConfig(_Section):
    """What is learned, and where it stands in a row."""

    name: Literal["sequence-classification", "token-classification"] = Field(
        description="what is learned: one class a text, or one tag a word"
    )
    columns: Columns = Field(
        default={},
        description="names of the columns where they differ from the usual, e.g. text=sentence,label=intent",
    )


class DataConfig(_Section):
    """Where the rows come from: files, or names of datasets with their split."""

    train: str = Field(description="rows to learn from: a file, or NAME:SPLIT of `datasets`")
    validation: PathOrShare = Field(
        default=0.1,
        description="rows that choose the best epoch; a number below 1 holds that share of train out",
    )
    test: str | None = Field(default=None, description="rows for the report at the end")

    @field_validator("validation")
    @classmethod
    def _a_share_lies_between_0_and_1(cls, given: str | float) -> str | float:
        if isinstance(given, float) and not 0 < given < 1:
            raise ValueError(f"{given:g} is no share; give a number between 0 and 1, or a file")
        return given


class ModelConfig(_Section):
    """Which model is trained, and how much of it."""

    path: str | None = Field(default=None, description="a model: a folder, or a name on the hub")
    from_scratch: Literal["bert-tiny", "bert-mini", "bert-small", "bert-medium", "bert-base"] | None = Field(
        default=None, description="a fresh model with random weights instead of one that is given"
    )
    tokenizer: str | None = Field(
        default=None,
        description="with from_scratch: the tokenizer's folder; without it one is learned from train",
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


class OptimConfig(_Section):
    """How the weights move. A step is one move of the weights, however many packs its examples fill."""

    learning_rate: float = Field(default=5e-5, gt=0, description="highest learning rate of the schedule")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's; biases and LayerNorm do not decay")
    epochs: int = Field(default=3, ge=1, description="passes over train")
    batch_size: int | None = Field(default=None, ge=1, description="examples a step (default: 32)")
    batch_tokens: int | None = Field(default=None, ge=1, description="tokens a step, instead of batch_size")
    max_batch_tokens: int = Field(
        default=4096, ge=1, description="tokens computed at once: bounds memory, moves no result"
    )
    schedule: Literal["linear", "cosine"] = Field(
        default="linear", description="how the learning rate falls to 0"
    )
    warmup: Share = Field(default=0.1, description="share of all steps in which the learning rate rises")
    clip_norm: float = Field(
        default=1.0,
        gt=0,
        description="largest norm of the whole gradient; a larger one is scaled down to it (inf: never)",
    )
    bf16: bool = Field(
        default=False, description="compute in bfloat16; weights and their updates stay in float32"
    )

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


class Config(_Section):
    """One training run."""

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


@dataclass(frozen=True)
class Setting:
    """One key of the config, as a flag."""

    section: str | None
    key: str
    field: FieldInfo

    @property
    def help(self) -> str:
        """What it does, and what it is if it is not said."""
        about, usual = self.field.description or "", self.field.default
        shown = "" if usual in (PydanticUndefined, None, False, (), {}) else f" (default: {usual})"
        return about + shown

    @property
    def metavar(self) -> str:
        """What kind of value it takes: its choices, or a word."""
        kinds = [
            kind
            for kind in get_args(self.field.annotation) or (self.field.annotation,)
            if kind is not NoneType
        ]
        choices = [choice for kind in kinds for choice in get_args(kind)] or [
            k for k in kinds if isinstance(k, str)
        ]
        return "|".join(choices) or {int: "N", float: "X"}.get(kinds[0], "TEXT")

    @property
    def flag(self) -> str:
        """The flag without dashes: the key's own name, but for the two that are always said."""
        return {("task", "name"): "task", ("model", "path"): "model"}.get(
            (self.section or "", self.key), self.key
        )


def settings() -> Iterator[Setting]:
    """Every setting there is.

    >>> [setting.flag for setting in settings()][:5]
    ['out', 'seed', 'masking', 'task', 'columns']
    """
    for name, field in Config.model_fields.items():
        if name in _SECTIONS:
            yield from (Setting(name, key, inner) for key, inner in _SECTIONS[name].model_fields.items())
        else:
            yield Setting(None, name, field)


def load(path: Path | None = None, flags: Mapping[str, object] | None = None) -> Config:
    """The config in a TOML file, or an empty one, overridden by those `flags` (by name) that are not None.

    >>> flags = {"task": "sequence-classification", "train": "a.csv", "model": "m", "out": "runs/x", "epochs": "5"}
    >>> load(flags=flags).optim.epochs
    5

    Raises ConfigError, which names file and key, or the flag.
    """
    given: dict[str, Any] = {} if path is None else _read_toml(path)
    said = {}
    for setting in settings():
        value = (flags or {}).get(setting.flag)
        if value is not None:
            said[setting.section, setting.key] = setting.flag
            _place(given, setting, value)
    for name in ("task", "data", "model"):
        given.setdefault(name, {})
    try:
        return Config.model_validate(given)
    except ValidationError as error:
        raise ConfigError(_explain(error, path, said)) from None


def to_toml(config: Config) -> str:
    """The config as TOML, with every default spelled out; `load` reads it back to an equal one."""
    tables = config.model_dump(exclude_none=True)
    lines = [f"{key} = {_toml(value)}" for key, value in tables.items() if key not in _SECTIONS]
    for name in _SECTIONS:
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in tables[name].items()]
    return "\n".join(lines) + "\n"


_SECTIONS: dict[str, type[_Section]] = {
    "task": TaskConfig,
    "data": DataConfig,
    "model": ModelConfig,
    "optim": OptimConfig,
}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None


def _place(given: dict[str, Any], setting: Setting, value: object) -> None:
    section = given if setting.section is None else given.setdefault(setting.section, {})
    if isinstance(section, dict):  # anything else is refused by the model, which names it
        section[setting.key] = value


def _explain(error: ValidationError, path: Path | None, said: Mapping[tuple[str | None, str], str]) -> str:
    """The first thing that is wrong, as one line; a misspelt key first, for it is what makes the right one missing."""
    errors = error.errors(include_url=False)
    wrong = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    section, key = _where(wrong["loc"])
    source = f"{path}: " if path is not None else ""
    if wrong["type"] == "extra_forbidden":
        return source + _unknown(section, key)
    flag = next((s.flag for s in settings() if (s.section, s.key) == (section, key)), key).replace("_", "-")
    if (section, key) in said:
        return f"--{flag}: {_plainly(wrong)}"
    place = " ".join(filter(None, (section and f"[{section}]", key)))
    if not place:  # settings of several sections do not go together
        return f"{source}{_plainly(wrong)}"
    if wrong["type"] == "missing":
        return f"{source}{place} is missing: set it in a config file, or say --{flag}"
    return f"{source}{place}: {_plainly(wrong)}"


def _where(loc: tuple[int | str, ...]) -> tuple[str | None, str]:
    """Section and key of pydantic's place; no key where the section as a whole is wrong."""
    first, second = [*map(str, loc), "", ""][:2]
    return (first, second) if first in _SECTIONS else (None, first)


_KINDS = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "must be a whole number"),
    "int_parsing_size": "must be a smaller number",
    **dict.fromkeys(("float_parsing", "float_type"), "must be a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "must be true or false"),
    "string_type": "must be a text in quotes",
}
"""What pydantic says of values of another kind, in plain words."""


def _plainly(wrong: ErrorDetails) -> str:
    if wrong["type"] == "value_error":
        return str(wrong["ctx"]["error"])
    if wrong["type"] == "model_type":
        return f"must be a section with keys of its own; got {wrong['input']!r}"
    message = _KINDS.get(wrong["type"]) or wrong["msg"].replace("Input should be", "must be")
    return f"{message}; got {wrong['input']!r}"


def _unknown(section: str | None, key: str) -> str:
    elsewhere = [s.section for s in settings() if s.key == key]
    if elsewhere:
        home = f"[{elsewhere[0]}]" if elsewhere[0] else "the top, before the first section"
        return f"{f'[{section}]' if section else 'the top'} has no key {key!r}; it belongs in {home}"
    known = [s.key for s in settings() if s.section == section] + (list(_SECTIONS) if section is None else [])
    hint = did_you_mean(key, known) or f"it has: {', '.join(known)}"
    return f"{f'[{section}]' if section else 'the top'} has no key {key!r}; {hint}"


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case dict():
            pairs = (f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items())
            return "{" + ", ".join(pairs) + "}"
        case tuple() | list():
            return "[" + ", ".join(_toml(inner) for inner in value) + "]"
        case _:
            return repr(value)


def _listed(given: object) -> object:
    return [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given


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
