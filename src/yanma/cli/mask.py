"""`yanma mask`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..masks.command import MaskConfig, shown, summary, table
from ..settings import read
from .flags import one_flag_a_setting
from .output import Json, is_coloured, put, say


@one_flag_a_setting(MaskConfig)
def mask(
    expression: Annotated[
        str, typer.Argument(metavar="EXPRESSION", help="as in 'documents & causal & window(2, 0)'")
    ],
    counts: Annotated[
        bool, typer.Option("--counts", help="print the visible pairs of each document instead")
    ] = False,
    as_json: Json = False,
    **flags: str | None,
) -> None:
    """Draw a mask: who may read whom. What is visible is counted on stderr.

    Example: yanma mask "documents & causal & window(2, 0)" --lengths 5,3,7
    """
    config = read(MaskConfig, flags={**flags, "expression": expression})
    drawn = shown(config)
    if config.out is not None:
        drawn.save(Path(config.out))
    if as_json:
        put(json.dumps(drawn.as_dict(), ensure_ascii=False))
    elif counts:
        put(table(drawn.counts))
    elif config.out is None:
        put(drawn.mask.show(drawn.size, tokens=drawn.tokens, color=is_coloured()))
    say(summary(drawn.counts))
