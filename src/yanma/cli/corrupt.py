"""`yanma corrupt`, `yanma pmi`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..corruption.config import DENOISERS, CorruptConfig, PmiConfig
from ..errors import ConfigError, DataError
from ..runs.train_config import TextFilesConfig
from ..settings import read
from .flags import one_flag_a_setting
from .output import is_coloured, put, say


class CorruptTexts(CorruptConfig, TextFilesConfig):
    """How the texts of a file are shown corrupted."""


class PmiTexts(PmiConfig, TextFilesConfig):
    """How collocations are found in the texts of files."""


@one_flag_a_setting(CorruptTexts)
def corrupt(
    text: Annotated[str, typer.Argument(metavar="TEXT|FILE", help="a text, or a file: one a line, or rows")],
    stats: Annotated[
        bool, typer.Option("--stats", help="count instead: rates, lengths of spans, positions, tokens/s")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="with --stats: print them as JSON")] = False,
    **flags: str | None,
) -> None:
    """Show what a masked language model would see of a text, epoch by epoch.

    Example: yanma corrupt "dynamic masks are drawn anew" --tokenizer DIR --unit word --epochs 3
    """
    from ..corruption import command
    from ..loading.pretrained import load_tokenizer
    from ..report.progress import ProgressReporter

    if as_json and not stats:
        raise ConfigError("--json prints what --stats counts; say both")
    config = read(CorruptTexts, flags=flags)
    texts = command.texts_of(text, lambda file: _texts([file], config))
    tokenizer = load_tokenizer(config.tokenizer)
    if stats:
        found = command.stats(texts, tokenizer, config, ProgressReporter())
        put(json.dumps(found.as_dict()) if as_json else "\n".join(found.lines()))
        return
    for line in command.lines(texts, tokenizer, config, color=is_coloured()):
        put(line)
    if config.unit not in DENOISERS:
        say(command.LEGEND)


@one_flag_a_setting(PmiTexts)
def pmi(
    corpus: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="text files, a text a line, or rows")
    ],
    **flags: str | None,
) -> None:
    """Find a corpus' collocations, words that belong together, to be hidden as one (PMI-Masking).

    Example: yanma pmi corpus.txt --out collocations.tsv
    """
    from ..corruption.pmi import SHARES, collocations, save
    from ..corruption.words import jieba_words
    from ..report.progress import ProgressReporter

    config = read(PmiTexts, flags={**flags, "corpus": corpus})
    reporter = ProgressReporter()
    with reporter.counting(max(SHARES)):
        found = collocations(
            reporter.reading(lambda: _texts(corpus, config), "texts"),
            config.size,
            min_count=config.min_count,
            segmenter=jieba_words if config.segmenter else None,
        )
    if not found:
        raise DataError(
            f"{', '.join(corpus)}: nothing stands together {config.min_count} times; give more text, or a lower "
            f"`min_count` ({config.out} was not written)"
        )
    save(found, Path(config.out))
    say(f"{len(found):,} collocations are in {config.out}")


def _texts(files: Iterable[str], how: TextFilesConfig) -> Iterator[str]:
    from ..data.corpus import read_documents

    documents = read_documents(list(files), column=how.text_column, reading=how.reading(say))
    return (document.text for document in documents)
