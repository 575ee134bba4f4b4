"""`yanma bench`: measure, print, keep."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console

from ..errors import ConfigError
from . import page
from .progress import Teller
from .report import Section, table
from .run import bench
from .settings import Settings

_WIDTH = 170  # what the widest table needs


def execute(settings: Settings, *, json_to: str | None = None, write: Path | None = None) -> None:
    """Tables on stdout as they come, or all as JSON there (`json_to="-"`); the page last, when all is measured."""
    if json_to not in (None, "-") and not Path(str(json_to)).absolute().parent.is_dir():
        raise ConfigError(f"--json {json_to}: there is no such folder")
    if write is not None:
        page.check(write)
    # A cell cut short would be a number lost: on a narrow terminal the lines wrap instead.
    out = Console(quiet=json_to == "-", highlight=False, width=max(Console().width, _WIDTH))
    report = bench(settings, teller=Teller(), show=lambda section: _show(section, out))
    text = json.dumps(report.as_dict(), indent=2)
    if json_to == "-":
        sys.stdout.write(text + "\n")
    elif json_to is not None:
        Path(json_to).write_text(text + "\n", encoding="utf-8")
    if write is not None:
        page.write(write, report)


def _show(section: Section, out: Console) -> None:
    out.print(f"{section.title}\n{section.about}", markup=False)
    out.print(table(section))
    for name, why in section.absent:
        out.print(f"{name}: {why}", markup=False)
    out.print()
