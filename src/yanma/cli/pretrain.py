"""`yanma pretrain`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from .flags import one_flag_a_setting
from .output import Json, leaving, put, say

if TYPE_CHECKING:
    from ..settings import Setting


def _pretrain_settings() -> Iterable[Setting]:
    from ..runs.pretrain_config import settings

    return settings()


@one_flag_a_setting(_pretrain_settings)
def pretrain(
    config: Annotated[Path | None, typer.Option(help="TOML file; flags override what it says")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the run that is in --out")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="go on with the run in --out from its newest checkpoint, with its own settings"
        ),
    ] = False,
    as_json: Json = False,
    **flags: str | bool | list[str] | None,
) -> None:
    """Pre-train a model on texts: find hidden tokens, replaced tokens, hidden spans, or the next token.

    Example: yanma pretrain --objective mlm --train a.txt --from-scratch bert-mini --unit word --steps 1000 --out runs/x
    """
    from ..runs.pretrain_config import begun, load

    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other: begin anew, or go on")
    out = flags.get("out")
    if resume and config is None and isinstance(out, str):
        config = begun(Path(out).expanduser())
    wanted = load(config, {name: value for name, value in flags.items() if value != []})
    try:
        from ..runs.pretrain import pretrain as run
        from ..runs.pretrain_folder import PretrainingFolder
    except KeyboardInterrupt:
        say("interrupted before anything was begun")
        raise typer.Exit(130) from None
    with leaving(PretrainingFolder(wanted.out)):
        done = run(wanted, overwrite=overwrite, resume=resume)
    if as_json:
        put(json.dumps(done.as_dict(), ensure_ascii=False))
