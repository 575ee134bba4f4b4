"""`yanma audit`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ..audit.config import AuditConfig
from ..errors import DataError
from ..runs.train_config import TextFilesConfig
from ..settings import read
from .flags import one_flag_a_setting
from .output import Json, put, say

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TEXTS = 5


class AuditTexts(AuditConfig, TextFilesConfig):
    """An audit with the texts of a file."""


@one_flag_a_setting(AuditTexts)
def audit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="folder or hub name")],
    way: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="padded|packed|unpadded", help=AuditConfig.model_fields["way"].description
        ),
    ] = None,
    as_json: Json = False,
    **flags: str | None,
) -> None:
    """Measure what leaks in a model: padding, company, other documents, later tokens, micro-batches.

    It is run as it is, padded and packed, and unpadded where yanma knows it. Exits with 1 where a check fails in the
    way that --as names.
    """
    from ..audit.report import every_way
    from ..loading.pretrained import load_as_saved

    config = read(AuditTexts, flags={**flags, "model": model, "way": way})
    stock = load_as_saved(model)
    documents = None if config.data is None else _texts(model, stock, config.data, config)
    report = every_way(stock, documents, config.way, config.who_reads_whom)
    if as_json:
        put(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        report.show()
    if not report.ok:
        raise typer.Exit(1)


def _texts(name: str, model: PreTrainedModel, data: str, how: AuditTexts) -> list[list[int]]:
    """The first few texts as the model's tokens, cut to what it can read."""
    from itertools import islice

    from ..audit import longest_document
    from ..data.corpus import check_used, read_documents
    from ..loading.pretrained import check_vocabulary, load_tokenizer

    tokenizer = load_tokenizer(name)
    check_vocabulary(model, tokenizer)
    check_used([data], column=how.text_column, settings=("text_column", ""))
    documents = read_documents([data], column=how.text_column, reading=how.reading(say))
    texts = [document.text for document in islice(documents, _TEXTS)]
    if not texts:
        raise DataError(f"{data}: no text in it")
    return [ids[: longest_document(model)] for ids in tokenizer(texts, verbose=False)["input_ids"]]
