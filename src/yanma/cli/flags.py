"""Settings of a run as flags of a command, and the config that they make."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from ..errors import ConfigError
from ..settings import read, settings_of

if TYPE_CHECKING:
    from ..runs.config import Run
    from ..settings import Section

Command = TypeVar("Command", bound=Callable[..., None])

Config = Annotated[Path | None, typer.Option(help="TOML file; flags override what it says")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace the run that is in --out")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="go on with the run in --out from its newest checkpoint, with its own settings"
    ),
]


def wished(
    kind: type[Run],
    config: Path | None,
    flags: Mapping[str, object],
    *,
    overwrite: bool,
    resume: bool,
) -> Run:
    """The config of a run: of the file, else of the run in --out that goes on, with flags over it."""
    from ..runs.config import begun

    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other: begin anew, or go on")
    out = flags.get("out")
    if resume and config is None and isinstance(out, str):
        config = begun(Path(out).expanduser(), kind.command)
    return read(kind, config, flags)


def one_flag_a_setting(config: type[Section]) -> Callable[[Command], Command]:
    """Give a command a flag for every setting of a config, so that they never differ, but for those that it names."""

    def with_flags(command: Command) -> Command:
        named = inspect.signature(command).parameters.values()
        parameters = [p for p in named if p.kind is not p.VAR_KEYWORD]
        hints = get_type_hints(command, include_extras=True)
        own, sections = {p.name for p in parameters}, config.sections()
        for setting in settings_of(config):
            if setting.flag in own:  # an argument, or one that is spelt otherwise
                continue
            switch = setting.field.annotation is bool
            required = " (required)" if setting.field.is_required() and not sections else ""  # by no file
            about = typer.Option(
                f"{setting.dashed}/--no-{setting.dashed[2:]}" if switch else setting.dashed,
                help=setting.help + required,
                metavar=None if switch else setting.metavar,
                rich_help_panel=setting.section or ("run" if sections else None),
            )
            kind: Any = bool if switch else list[str] if setting.is_repeated else str
            hints[setting.flag] = Annotated[kind | None, about]
            parameters.append(inspect.Parameter(setting.flag, inspect.Parameter.KEYWORD_ONLY, default=None))
        command.__signature__ = inspect.Signature([p.replace(annotation=hints[p.name]) for p in parameters])  # type: ignore[attr-defined]
        command.__annotations__ = hints
        return command

    return with_flags
