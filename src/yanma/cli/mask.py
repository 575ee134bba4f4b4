"""`yanma mask`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .output import Json, is_coloured, put, say


def mask(
    expression: Annotated[
        str, typer.Argument(metavar="EXPRESSION", help="as in 'documents & causal & window(2, 0)'")
    ],
    lengths: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="tokens of each document (default: those of --tokens)"),
    ] = None,
    kv_lengths: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="keys of each document, where they differ")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="TEXT|FILE", help="words to show beside it, a document a line")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="draw into this file instead: .html, .svg, .png or .pdf")
    ] = None,
    counts: Annotated[
        bool, typer.Option("--counts", help="print the visible pairs of each document instead")
    ] = False,
    as_json: Json = False,
) -> None:
    """Draw a mask: who may read whom. What is visible is counted on stderr.

    Example: yanma mask "documents & causal & window(2, 0)" --lengths 5,3,7
    """
    from ..masks.command import read, summary, table

    shown = read(expression, lengths, kv_lengths, tokens)
    if out is not None:
        shown.save(out)
    if as_json:
        put(json.dumps(shown.as_dict(), ensure_ascii=False))
    elif counts:
        put(table(shown.counts))
    elif out is None:
        put(shown.mask.show(shown.size, tokens=shown.tokens, color=is_coloured()))
    say(summary(shown.counts))
