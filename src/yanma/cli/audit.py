"""`yanma audit`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, DataError
from .output import Json, put

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..masks import Mask

_TEXTS = 5


def audit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="folder or hub name")],
    data: Annotated[
        str | None,
        typer.Option(
            help="texts to audit it with: .txt, a text a line, rows, or NAME:SPLIT (default: random)"
        ),
    ] = None,
    text_column: Annotated[str, typer.Option(help="where texts stand in rows")] = "text",
    way: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="WAY",
            help="padded, packed or unpadded: the way that decides the exit code "
            "(default: unpadded where yanma knows the model, else packed, else padded)",
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="MASK",
            help="who may read whom inside a document, through all layers: `causal`, `full`, or another mask in words "
            "(default: as the model promises, or is seen to do)",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure what leaks in a model: padding, company, other documents, later tokens, micro-batches.

    It is run as it is, padded and packed, and unpadded where yanma knows it. Exits with 1 where a check fails in the
    way that --as names.
    """
    from ..audit import WAYS

    if way is not None and way not in WAYS:
        raise ConfigError(f"--as is {way!r}; there are {', '.join(WAYS)}")
    if data is None and text_column != "text":
        raise ConfigError(f"--text-column is {text_column!r}, but no --data is given to have it")
    from ..audit.report import every_way
    from ..loading.pretrained import load_as_saved

    who_reads_whom = None if mask is None else _mask(mask)
    stock = load_as_saved(model)
    documents = None if data is None else _texts(model, stock, data, text_column)
    report = every_way(stock, documents, way, who_reads_whom)
    if as_json:
        put(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        report.show()
    if not report.ok:
        raise typer.Exit(1)


def _mask(text: str) -> Mask:
    """A mask of positions, which holds for documents of any length."""
    from ..masks.text import ParseError, parse

    try:
        found = parse(text)
    except ParseError as error:
        raise ConfigError(f"--mask: {error.reason}") from None
    bound = found._of_one_pack()
    if bound is not None:
        raise ConfigError(f"--mask: {bound.describe()} holds for one pack only; give a mask of positions")
    return found


def _texts(name: str, model: PreTrainedModel, data: str, column: str) -> list[list[int]]:
    """The first few texts as the model's tokens, cut to what it can read."""
    from itertools import islice

    from ..audit import longest_document
    from ..data.corpus import check_used, read_documents
    from ..loading.pretrained import check_vocabulary, load_tokenizer

    tokenizer = load_tokenizer(name)
    check_vocabulary(model, tokenizer)
    check_used([data], column=column, flags=("--text-column", ""))
    texts = [document.text for document in islice(read_documents([data], column=column), _TEXTS)]
    if not texts:
        raise DataError(f"{data}: no text in it")
    return [ids[: longest_document(model)] for ids in tokenizer(texts, verbose=False)["input_ids"]]
