"""Settings of a program as one model of pydantic's: a TOML file, flags that override it, errors that name the key.

The command line makes its flags from the model, `to_toml` saves it beside the run, and a key that is not in it is
refused with the nearest one that is. A message names a setting between backquotes, `max_length`; where the command line
was used, its flag is said in that place, --max-length (cli/output.py).
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from .errors import ConfigError, did_you_mean

Names = Annotated[tuple[str, ...], BeforeValidator(lambda given: _listed(given))]
"""Several words; as a flag or one string, with commas between them."""


@dataclass(frozen=True)
class Repeated:
    """Mark of a setting whose flag is given once for each of its values: names of files, in which commas stand."""


Files = Annotated[
    tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given), Repeated()
]


class Section(BaseModel):
    """A table of keys; of a whole config, those of its keys that are sections are tables of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flags: ClassVar[Mapping[tuple[str, str], str]] = {}
    """(section, key) -> flag, where that is not the key's own name; the section of keys at the top is ""."""

    @classmethod
    def sections(cls) -> dict[str, type[Section]]:
        """The tables by name."""
        kinds = {name: field.annotation for name, field in cls.model_fields.items()}
        return {
            name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)
        }


Config = TypeVar("Config", bound=Section)


@dataclass(frozen=True)
class Setting:
    """One key of a config, as a flag."""

    section: str | None
    key: str
    flag: str
    """Its name among all settings: of a flag, and of a keyword in Python."""
    field: FieldInfo

    @property
    def dashed(self) -> str:
        """As the command line spells it."""
        return f"--{self.flag.replace('_', '-')}"

    @property
    def help(self) -> str:
        """What it does, and what it is if it is not said."""
        about, usual = self.field.description or "", self.field.default
        usual = ",".join(usual) if isinstance(usual, tuple) else usual
        unsaid = any(usual is none for none in (PydanticUndefined, None, False)) or usual in ("", {})
        shown = "" if unsaid else f" (default: {usual})"
        return about + shown + ("; may be repeated" if self.is_repeated else "")

    @property
    def is_repeated(self) -> bool:
        """Whether the flag is given once for each of several values."""
        return any(isinstance(mark, Repeated) for mark in self.field.metadata)

    @property
    def metavar(self) -> str:
        """What kind of value it takes: its choices, or a word."""
        kinds = [*_kinds(self.field.annotation)]
        if ... in kinds and int in kinds:
            return "N,N,..."
        choices = [
            kind if isinstance(kind, str) else "N" for kind in kinds if kind is int or isinstance(kind, str)
        ]
        return "|".join(choices) or ("X" if kinds[0] is float else "TEXT")


def _kinds(annotation: Any) -> Iterator[Any]:
    """What stands in an annotation: types, and the values of a Literal."""
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for one in inner:
        yield from _kinds(one)


def settings_of(config: type[Section]) -> Iterator[Setting]:
    """Every setting there is, in the order of the file."""
    sections = config.sections()
    for name, field in config.model_fields.items():
        if name not in sections:
            yield Setting(None, name, config.flags.get(("", name), name), field)
            continue
        for key, inner in sections[name].model_fields.items():
            yield Setting(name, key, config.flags.get((name, key), key), inner)


def read(config: type[Config], path: Path | None = None, flags: Mapping[str, object] | None = None) -> Config:
    """The config in a TOML file, or an empty one, overridden by those `flags` (by name) that are not None.

    Raises ConfigError, which names file and key, or the setting as the flags name it.
    """
    given: dict[str, Any] = {} if path is None else _read_toml(path)
    said = set()
    for setting in settings_of(config):
        value = (flags or {}).get(setting.flag)
        if value is not None and value != []:  # a flag that may be repeated was not said
            said.add((setting.section, setting.key))
            _place(given, setting, value)
    for name in config.sections():
        given.setdefault(name, {})
    try:
        return config.model_validate(given)
    except ValidationError as error:
        raise ConfigError(_explain(config, error, path, said)) from None


def to_toml(config: Section) -> str:
    """The config as TOML, with every default spelled out; `read` reads it back to an equal one."""
    sections = config.sections()
    tables = config.model_dump(exclude_none=True)
    lines = [f"{key} = {_toml(value)}" for key, value in tables.items() if key not in sections]
    for name in sections:
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in tables[name].items()]
    return "\n".join(lines) + "\n"


def command_line(config: Section, command: str, *, shown: Callable[[str], str] = str) -> str:
    """The command that asks for this config: what is not as it usually is, as a shell reads it, and --out in the end.

    `shown` says how a text, which may be a path, is written.

    >>> class Copying(Section):
    ...     out: str
    ...     files: Files = ()
    >>> command_line(Copying(out="b", files=("my a.txt", "c.txt")), "copy")
    "copy --files 'my a.txt' --files c.txt --out b"
    """
    words, out = [command], list[str]()
    for setting in settings_of(type(config)):
        section = config if setting.section is None else getattr(config, setting.section)
        value = getattr(section, setting.key)
        if value is None or value == _usual(config, setting):
            continue
        said = out if setting.flag == "out" else words
        if isinstance(value, bool):  # all of them are off where nobody says otherwise
            said.append(setting.dashed)
            continue
        for each in value if setting.is_repeated else [value]:
            said += [setting.dashed, shlex.quote(shown(each) if isinstance(each, str) else as_flag(each))]
    return " ".join([*words, *out])


def last_two_parts(path: str) -> str:
    """Of a path, what may mean something elsewhere.

    >>> last_two_parts("/home/ann/wiki/valid.txt"), last_two_parts("text")
    ('wiki/valid.txt', 'text')
    """
    return "/".join(Path(path).parts[-2:])


def _usual(config: Section, setting: Setting) -> object:
    """What a setting is where nobody says it; a section may choose that when it is made."""
    section = None if setting.section is None else type(config).model_fields[setting.section].default
    return getattr(section, setting.key) if isinstance(section, Section) else setting.field.default


def as_flag(value: object) -> str:
    """A setting's value as a flag says it."""
    match value:
        case tuple():
            return ",".join(map(str, value))
        case dict():
            return ",".join(f"{key}={each}" for key, each in value.items()) or "left out"
    return "left out" if value is None else str(value)


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


def _explain(
    config: type[Section],
    error: ValidationError,
    path: Path | None,
    said: set[tuple[str | None, str]],
) -> str:
    """The first thing that is wrong, as one line; a misspelt key first, for it is what makes the right one missing."""
    errors = error.errors(include_url=False)
    wrong = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    section, key = _where(config, wrong["loc"])
    source = f"{path}: " if path is not None else ""
    if wrong["type"] == "extra_forbidden":
        return source + _unknown(config, section, key)
    flags = {(s.section, s.key): s.flag for s in settings_of(config)}
    name = flags.get((section, key), key)
    if (section, key) in said:
        return f"`{name}`: {_plainly(wrong)}"
    place = " ".join(filter(None, (section and f"[{section}]", key)))
    if not place:  # settings of several sections do not go together
        return f"{source}{_plainly(wrong)}"
    if wrong["type"] == "missing":
        in_file = "set it in a config file, or " if config.sections() else ""
        return f"{source}{place} is missing: {in_file}say `{name}`"
    return f"{source}{place}: {_plainly(wrong)}"


def _where(config: type[Section], loc: tuple[int | str, ...]) -> tuple[str | None, str]:
    """Section and key of pydantic's place; no key where the section as a whole is wrong."""
    first, second = [*map(str, loc), "", ""][:2]
    return (first, second) if first in config.sections() else (None, first)


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
    known = re.findall(r"'([^']+)'", wrong["ctx"]["expected"]) if wrong["type"] == "literal_error" else ()
    hint = did_you_mean(str(wrong["input"]), known)
    return f"{message}; got {wrong['input']!r}{hint and '; '}{hint}"


def _unknown(config: type[Section], section: str | None, key: str) -> str:
    elsewhere = [s.section for s in settings_of(config) if s.key == key]
    if elsewhere:
        home = f"[{elsewhere[0]}]" if elsewhere[0] else "the top, before the first section"
        return f"{f'[{section}]' if section else 'the top'} has no key {key!r}; it belongs in {home}"
    known = [s.key for s in settings_of(config) if s.section == section]
    known += list(config.sections()) if section is None else []
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
