"""`yanma compare-masking`."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from ..compare_masking.config import ComparisonConfig
from ..settings import read
from .flags import Config, one_flag_a_setting
from .output import Json, Page, put, say


@one_flag_a_setting(ComparisonConfig)
def compare_masking(
    config: Config = None,
    write: Page = None,
    as_json: Json = False,
    **flags: str | bool | list[str] | None,
) -> None:
    """Compare ways to mask: static, dynamic, scheduled, by units; the same budget, paired by seed, with intervals.

    What is finished is kept: the same command again computes what is missing. --out then has page.html.

    Example: yanma compare-masking --train corpus.txt --epochs 40 --seeds 5 --jobs 2 --out runs/masking
    """
    wanted = read(ComparisonConfig, config, flags)
    try:
        from ..compare_masking import markdown
        from ..compare_masking.compare import compare_masking as run

        if write is not None:
            markdown.MARKERS.check(write)
        report = run(wanted)
    except KeyboardInterrupt:
        say(f"interrupted; what was finished is in {wanted.out}, and the same command goes on from there")
        raise typer.Exit(130) from None
    if write is not None:
        markdown.MARKERS.write(write, [markdown.render(report)])
    put(json.dumps(report.as_dict()) if as_json else markdown.render(report))
    say(f"{Path(wanted.out) / 'page.html'} shows it")
