"""`yanma bench`, `yanma bench masks`, `yanma bench pretraining`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import Json, Page, fail, put

if TYPE_CHECKING:
    from ..markers import Markers

Rounds = Annotated[int, typer.Option(min=1, help="turns of each that are counted")]
Quick = Annotated[
    bool, typer.Option("--quick", help="little of everything: to see that it runs, not for numbers")
]


def bench(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="folder or hub name (default: MiniLM, from the extra `demo`)")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="bert-base|xlm-roberta-base|deberta-v3-base",
            help="random weights of this shape instead of a model: the time is that of real ones",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="real text: a file, or NAME:SPLIT (default: the demo's corpus)")
    ] = None,
    text_column: Annotated[str, typer.Option(help="its column of texts")] = "text",
    texts: Annotated[int, typer.Option(help="how many texts of each kind are computed")] = 512,
    max_length: Annotated[
        int, typer.Option(help="longer texts are cut; also the width of static padding")
    ] = 128,
    rounds: Annotated[int, typer.Option(help="turns of each contestant that are counted")] = 5,
    threads: Annotated[int | None, typer.Option(help="of everyone (default: as many as torch takes)")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="embeddings, text, classification or training; may be repeated")
    ] = None,
    workload: Annotated[list[str] | None, typer.Option(help="drawn or real; may be repeated")] = None,
    quick: Quick = False,
    json_to: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="all numbers as JSON")
    ] = None,
    write: Page = None,
) -> None:
    """Measure speed side by side: padded in three ways, other runtimes, yanma. Results are compared first.

    Exits with 1, and no time, where someone's results are not those of the model in float64.
    """
    if context.invoked_subcommand is not None:
        return
    from ..bench import PARTS, WORKLOADS, ParityError, Settings
    from ..bench.run import execute

    wanted = Settings(
        model=model,
        shape=shape,
        data=data,
        text_column=text_column,
        texts=texts,
        max_length=max_length,
        rounds=rounds,
        threads=threads,
        only=tuple(only or PARTS),
        workloads=tuple(workload or WORKLOADS),
        quick=quick,
    )
    try:
        execute(wanted, json_to=json_to, write=write)
    except ParityError as error:
        fail(str(error), code=1)


def bench_masks(
    rounds: Rounds = 5,
    quick: Quick = False,
    as_json: Json = False,
    write: Page = None,
) -> None:
    """Measure attention under masks against torch with a dense mask. Results are compared with float64 first."""
    from ..bench.masks import MARKERS
    from ..bench.masks import bench_masks as run

    _measured(lambda: run(rounds, quick=quick), MARKERS, as_json, write)


def bench_pretraining(
    rounds: Rounds = 3,
    quick: Quick = False,
    as_json: Json = False,
    write: Page = None,
) -> None:
    """Measure steps of masked pre-training, padded and packed. Losses and gradients are compared with float64 first."""
    from ..bench.pretraining import MARKERS
    from ..bench.pretraining import bench_pretraining as run
    from ..report.progress import ProgressReporter

    _measured(lambda: run(rounds, quick=quick, reporter=ProgressReporter()), MARKERS, as_json, write)


def _measured(run: Callable[[], Any], markers: Markers, as_json: bool, write: Path | None) -> None:
    """Run a bench whose report has a part of a page to itself."""
    from ..bench import ParityError

    if write is not None:
        markers.check(write)
    try:
        report = run()
    except ParityError as error:
        fail(str(error), code=1)
    put(json.dumps(report.as_dict()) if as_json else "\n".join(report.lines()))
    if write is not None:
        markers.write(write, report.lines())
