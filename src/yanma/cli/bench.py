"""`yanma bench`, `yanma bench masks`, `yanma bench pretraining`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..bench.config import BenchConfig
from ..settings import read
from .flags import one_flag_a_setting
from .output import Json, Page, fail, put

if TYPE_CHECKING:
    from ..markers import Markers

Rounds = Annotated[int, typer.Option(min=1, help="turns of each that are counted")]
Quick = Annotated[
    bool, typer.Option("--quick", help="little of everything: to see that it runs, not for numbers")
]


@one_flag_a_setting(BenchConfig)
def bench(
    context: typer.Context,
    json_to: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="all numbers as JSON")
    ] = None,
    write: Page = None,
    **flags: str | bool | list[str] | None,
) -> None:
    """Measure speed side by side: padded in three ways, other runtimes, yanma. Results are compared first.

    Exits with 1, and no time, where someone's results are not those of the model in float64.
    """
    if context.invoked_subcommand is not None:
        return
    config = read(BenchConfig, flags=flags)
    from ..bench.parity import ParityError
    from ..bench.run import execute

    try:
        execute(config, json_to=json_to, write=write)
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
    from ..bench.parity import ParityError

    if write is not None:
        markers.check(write)
    try:
        report = run()
    except ParityError as error:
        fail(str(error), code=1)
    put(json.dumps(report.as_dict()) if as_json else "\n".join(report.lines()))
    if write is not None:
        markers.write(write, report.lines())
