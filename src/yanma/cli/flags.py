"""Settings of a run as flags of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

if TYPE_CHECKING:
    from ..settings import Setting

Command = TypeVar("Command", bound=Callable[..., None])


def one_flag_a_setting(settings: Callable[[], Iterable[Setting]]) -> Callable[[Command], Command]:
    """Give a command a flag for every setting of a run, so that flags and settings never differ."""

    def with_flags(command: Command) -> Command:
        named = inspect.signature(command).parameters.values()
        parameters = [p for p in named if p.kind is not p.VAR_KEYWORD]
        hints = get_type_hints(command, include_extras=True)
        for setting in settings():
            switch = setting.field.annotation is bool
            dashed = setting.flag.replace("_", "-")
            about = typer.Option(
                f"--{dashed}/--no-{dashed}" if switch else f"--{dashed}",
                help=setting.help,
                metavar=None if switch else setting.metavar,
                rich_help_panel=setting.section or "run",
            )
            kind: Any = bool if switch else list[str] if setting.is_repeated else str
            hints[setting.flag] = Annotated[kind | None, about]
            parameters.append(inspect.Parameter(setting.flag, inspect.Parameter.KEYWORD_ONLY, default=None))
        command.__signature__ = inspect.Signature([p.replace(annotation=hints[p.name]) for p in parameters])  # type: ignore[attr-defined]
        command.__annotations__ = hints
        return command

    return with_flags
