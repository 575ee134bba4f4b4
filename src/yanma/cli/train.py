"""`yanma train`, `yanma evaluate`, `yanma predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..runs.train_config import EvaluateConfig, PredictConfig, TrainConfig
from ..settings import read
from .flags import Config, Overwrite, Resume, one_flag_a_setting, wished
from .output import Json, is_first_rank, leaving, put, say, say_error

if TYPE_CHECKING:
    from ..runs.evaluate import Evaluation

Run = Annotated[Path, typer.Argument(metavar="RUN", help="folder that `yanma train` made")]


@one_flag_a_setting(TrainConfig)
def train(
    config: Config = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    as_json: Json = False,
    **flags: str | bool | None,
) -> None:
    """Fine-tune a model; its best state and its figures are left in a folder.

    Example: yanma train --task sequence-classification --train a.jsonl --test b.jsonl --model DIR --out runs/x
    """
    wanted = wished(TrainConfig, config, flags, overwrite=overwrite, resume=resume)
    with leaving(TrainConfig, wanted.out):
        from ..runs.train import train as run

        trained = run(wanted, overwrite=overwrite, resume=resume)
    if as_json:
        put(json.dumps(trained.as_dict(), ensure_ascii=False))
    elif trained.test is not None:
        _print_report(trained.test, "test")
    else:
        _print_report(trained.validation, f"validation, epoch {trained.best_epoch}")


@one_flag_a_setting(EvaluateConfig)
def evaluate(
    run: Run,
    data: Annotated[str, typer.Argument(metavar="DATA", help="rows with their truth: a file, or NAME:SPLIT")],
    as_json: Json = False,
    **flags: str | None,
) -> None:
    """Report how well a run's best model predicts some rows."""
    from ..runs.train import evaluate_run

    evaluation = evaluate_run(run, data, say, read(EvaluateConfig, flags=flags))
    if as_json:
        put(json.dumps(evaluation.as_dict(), ensure_ascii=False))
    else:
        _print_report(evaluation, data)


@one_flag_a_setting(PredictConfig)
def predict(
    run: Run,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="rows in any format that train reads (default: JSON lines of stdin)"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="where the answers go: .jsonl, or .csv, .tsv, .conll as the rows are (default: stdout)"
        ),
    ] = None,
    **flags: str | None,
) -> None:
    """Predict row by row: rows in, JSON lines with all their fields and predictions out, in their order.

    A row that cannot be used is told on stderr and gets no answer; the exit code is then 1.
    """
    from ..runs.predict import partial, predict_run

    try:
        refused = predict_run(run, file, out, say_error, say, read(PredictConfig, flags=flags))
    except KeyboardInterrupt:
        if out is not None:
            say(f"interrupted; what was answered is in {partial(out)}")
        raise typer.Exit(130) from None
    if refused:
        raise typer.Exit(1)


def _print_report(evaluation: Evaluation, title: str) -> None:
    from rich.console import Console

    from ..runs.evaluate import table_of

    if is_first_rank():
        Console().print(table_of(evaluation.report, title))
