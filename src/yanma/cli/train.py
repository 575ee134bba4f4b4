"""`yanma train`, `yanma evaluate`, `yanma predict`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .flags import one_flag_a_setting
from .output import Json, is_first_rank, leaving, put, say, say_error

if TYPE_CHECKING:
    from ..runs.evaluate import Evaluation
    from ..settings import Setting

Run = Annotated[Path, typer.Argument(metavar="RUN", help="folder that `yanma train` made")]


def _train_settings() -> Iterable[Setting]:
    from ..runs.train_config import settings

    return settings()


@one_flag_a_setting(_train_settings)
def train(
    config: Annotated[Path | None, typer.Option(help="TOML file; flags override what it says")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the run that is in --out")] = False,
    as_json: Json = False,
    **flags: str | bool | None,
) -> None:
    """Fine-tune a model; its best state and its figures are left in a folder.

    Example: yanma train --task sequence-classification --train a.jsonl --test b.jsonl --model DIR --out runs/x
    """
    from ..runs.train_config import load

    wanted = load(config, flags)
    try:
        from ..runs.folder import RunFolder
        from ..runs.train import train as run
    except KeyboardInterrupt:
        say("interrupted before anything was begun")
        raise typer.Exit(130) from None
    with leaving(RunFolder(wanted.out)):
        trained = run(wanted, overwrite=overwrite)
    if as_json:
        put(json.dumps(trained.as_dict(), ensure_ascii=False))
    elif trained.test is not None:
        _print_report(trained.test, "test")
    else:
        _print_report(trained.validation, f"validation, epoch {trained.best_epoch}")


def evaluate(
    run: Run,
    data: Annotated[str, typer.Argument(metavar="DATA", help="rows with their truth: a file, or NAME:SPLIT")],
    as_json: Json = False,
) -> None:
    """Report how well a run's best model predicts some rows."""
    from ..runs.evaluate import evaluate_run

    evaluation = evaluate_run(run, data, say)
    if as_json:
        put(json.dumps(evaluation.as_dict(), ensure_ascii=False))
    else:
        _print_report(evaluation, data)


def predict(
    run: Run,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="JSON lines, also .gz (default: stdin)")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="where the answers go (default: stdout)")] = None,
) -> None:
    """Predict row by row: JSON lines in, the same lines with predictions out, in their order.

    A line that cannot be used is told on stderr and gets no answer; the exit code is then 1.
    """
    from ..runs.predict import partial, predict_run

    try:
        refused = predict_run(run, file, out, say_error, say)
    except KeyboardInterrupt:
        if out is not None:
            say(f"interrupted; what was answered is in {partial(out)}")
        raise typer.Exit(130) from None
    if refused:
        raise typer.Exit(1)


def _print_report(evaluation: Evaluation, title: str) -> None:
    from rich.console import Console

    from ..runs.reports import table

    if is_first_rank():
        Console().print(table(evaluation.report, title))
