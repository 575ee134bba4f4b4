"""`yanma corrupt`, `yanma pmi`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError, DataError
from .output import is_coloured, put, say


def corrupt(
    text: Annotated[
        str, typer.Argument(metavar="TEXT|FILE", help="a text, or a file: one a line, or rows with `text`")
    ],
    tokenizer: Annotated[str, typer.Option(metavar="DIR", help="folder or hub name")],
    epochs: Annotated[int, typer.Option(help="how many versions of each text")] = 3,
    unit: Annotated[
        str,
        typer.Option(
            help="what is hidden as a whole: token, word, phrase, sentence, span, ngram, t5, bart or ul2"
        ),
    ] = "token",
    rate: Annotated[
        str | None,
        typer.Option(
            help="share of tokens that is hidden: a number, '0.3->0.15 linear' (cosine, step 4) over the epochs, or "
            "0.1..0.5, drawn for each text; t5 and bart: a number (default: 0.15; bart: 0.3)"
        ),
    ] = None,
    replacement: Annotated[
        str | None,
        typer.Option(help="what stands for hidden tokens: bert, spanbert, mask or random (default: bert)"),
    ] = None,
    resampling: Annotated[
        str,
        typer.Option(
            help="when other tokens are hidden: 'every epoch', 'never', or a number of copies that take turns"
        ),
    ] = "every epoch",
    seed: Annotated[int, typer.Option(help="other seeds hide other tokens")] = 0,
    segmenter: Annotated[str | None, typer.Option(help="jieba: Chinese words by its dictionary")] = None,
    phrases: Annotated[Path | None, typer.Option(help="for --unit phrase: what yanma pmi wrote")] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="count instead: rates, lengths of spans, positions, tokens/s")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="with --stats: print them as JSON")] = False,
) -> None:
    """Show what a masked language model would see of a text, epoch by epoch.

    Example: yanma corrupt "dynamic masks are drawn anew" --tokenizer DIR --unit word --epochs 3
    """
    from ..corruption import command
    from ..corruption.by_name import rate_of, resampling_of
    from ..loading.pretrained import load_tokenizer

    if as_json and not stats:
        raise ConfigError("--json prints what --stats counts; say both")
    settings = command.Settings(
        unit,
        None if rate is None else command.parsed("--rate", rate_of, rate),
        replacement,
        command.parsed("--resampling", resampling_of, resampling),
        seed=seed,
        epochs=epochs,
        segmenter=segmenter,
        phrases=phrases,
    )
    texts, loaded = command.texts_of(text, lambda file: _texts([file])), load_tokenizer(tokenizer)
    if stats:
        found = command.stats(texts, loaded, settings)
        put(json.dumps(found.as_dict()) if as_json else "\n".join(found.lines()))
        return
    for line in command.lines(texts, loaded, settings, color=is_coloured()):
        put(line)
    if unit not in command.DENOISERS:
        say(command.LEGEND)


def pmi(
    corpus: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="text files, a text a line, or rows with `text`")
    ],
    out: Annotated[Path, typer.Option(help="file for the collocations, for yanma corrupt --phrases")],
    size: Annotated[
        int,
        typer.Option(
            help="how many at most: half of two words, a quarter of three, an eighth of four and five each"
        ),
    ] = 10_000,
    min_count: Annotated[int, typer.Option(help="rarer ones are left out")] = 11,
    segmenter: Annotated[str | None, typer.Option(help="jieba: Chinese words by its dictionary")] = None,
) -> None:
    """Find a corpus' collocations, words that belong together, to be hidden as one (PMI-Masking).

    Example: yanma pmi corpus.txt --out collocations.tsv
    """
    from ..corruption.command import segmenter_of
    from ..corruption.pmi import collocations, save

    for flag, value in (("--size", size), ("--min-count", min_count)):
        if value < 1:
            raise ConfigError(f"{flag} is {value}; give 1 or more")
    if out.resolve() in [path.resolve() for path in corpus]:
        raise ConfigError(f"--out is {out}, which is read; name another file")
    found = collocations(
        lambda: _texts(map(str, corpus)), size, min_count=min_count, segmenter=segmenter_of(segmenter)
    )
    if not found:
        raise DataError(
            f"{', '.join(map(str, corpus))}: nothing stands together {min_count} times; give more text, or a lower "
            f"--min-count ({out} was not written)"
        )
    save(found, out)
    say(f"{len(found):,} collocations are in {out}")


def _texts(files: Iterable[str]) -> Iterator[str]:
    from ..data.corpus import read_documents

    return (document.text for document in read_documents(list(files)))
