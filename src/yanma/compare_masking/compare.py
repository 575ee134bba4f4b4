"""The whole comparison: from a config to outcomes, a report and a page.

OUT/comparison.toml   the config with every default spelled out
OUT/shared/           what all runs begin with: prepare.py
OUT/outcomes/         a file a finished run: schedule.py
OUT/runs/             what each run said
OUT/report.json       means and intervals
OUT/page.html         the same, to look at
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

from ..errors import ConfigError, YanmaError
from ..files import write
from ..loading.pretrained import at_home
from ..report.plots import figure_class
from ..report.progress import ProgressReporter
from ..runs.records import versions
from ..settings import as_flag, command_line, last_two_parts, read, settings_of, to_toml
from . import plot
from .config import ComparisonConfig
from .outcome import paired
from .page import page
from .prepare import prepare
from .report import Report
from .run import Runner, check_probe
from .schedule import complete, finished, processes, wanted
from .sizes import Sizes, check_copies, counted, measured

_CONFIG = "comparison.toml"  # not config.toml: by that, a folder is taken for a run's
_CONFIG_BEFORE = "laboratory.toml"
"""What it was called until November 2026; a comparison that was begun then goes on."""
_MAY_CHANGE = ("out", "arms", "seeds", "jobs")


def compare_masking(config: ComparisonConfig, *, reporter: ProgressReporter | None = None) -> Report:
    """Compute what is missing in `config.out`, and write the report and the page.

    Raises ConfigError, DataError or Unsupported before anything is computed where it cannot be; DataError in the end
    where runs failed.
    """
    figure_class(plot.WHO_NEEDS)  # before anything is computed
    reporter = reporter or ProgressReporter()
    folder = at_home(config.out)
    _check_folder(config, folder)
    runs = wanted(config.arms, config.seeds)
    if len(finished(runs, folder)) < len(runs):
        check_probe(config.probe)
    with _nothing_left_where_refused(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / _CONFIG, to_toml(config))
        shared = prepare(config, folder, reporter)
        sizes = measured(config, shared)
        check_copies(config, sizes)
        (folder / _CONFIG_BEFORE).unlink(missing_ok=True)
    with processes(config.jobs) as executor:
        outcomes = complete(runs, Runner(config, folder, shared), folder, executor, reporter)
    asked = command_line(config, config.command, shown=last_two_parts)
    report = Report(asked, date.today().isoformat(), _about(config, sizes), paired(outcomes, config.arms))
    write(folder / "report.json", json.dumps(report.as_dict(), indent=2) + "\n")
    write(folder / "page.html", page(report))
    return report


def _check_folder(config: ComparisonConfig, folder: Path) -> None:
    """Refuse a folder that is of something else. Raises ConfigError, which names what differs."""
    places = [folder / name for name in (_CONFIG, _CONFIG_BEFORE) if (folder / name).is_file()]
    if places:
        if _is_begun(folder):
            _check_unchanged(read(ComparisonConfig, places[0]), config, folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty and holds no comparison; name another `out`")


def _is_begun(folder: Path) -> bool:
    """Whether something is there that was made by the settings there."""
    return (folder / "shared").is_dir() or any((folder / "outcomes").glob("*.json"))


@contextmanager
def _nothing_left_where_refused(folder: Path) -> Iterator[None]:
    """What a first call made is taken back where it is refused: its settings shall not bind the next one."""
    if _is_begun(folder):
        yield
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except (YanmaError, OSError):
        shutil.rmtree(folder / "shared", ignore_errors=True)
        (folder / _CONFIG).unlink(missing_ok=True)
        with suppress(OSError):  # not made yet, or no longer empty
            for path in made:
                path.rmdir()
        raise


def _check_unchanged(before: ComparisonConfig, now: ComparisonConfig, folder: Path) -> None:
    for setting in settings_of(ComparisonConfig):
        if setting.section is None and setting.key in _MAY_CHANGE:
            continue
        was, is_now = (getattr(getattr(one, setting.section or ""), setting.key) for one in (before, now))
        if was != is_now:
            raise ConfigError(
                f"`{setting.flag}` is {as_flag(is_now)}, but what is in {folder} was made with {as_flag(was)}; name "
                f"another `out`, or say what was said then ({', '.join(_MAY_CHANGE)} may change)"
            )


def _about(config: ComparisonConfig, sizes: Sizes) -> tuple[tuple[str, str], ...]:
    """What was compared with what, in a line each."""
    budget, probe, max_length = config.budget, config.probe, config.model.max_length
    corpus = (
        f"{', '.join(map(last_two_parts, config.corpus.train))}: {sizes.train_texts:,} texts, "
        f"{sizes.train_tokens:,} tokens in blocks of {max_length}; "
        f"judged on {sizes.validation_tokens:,} tokens held back"
    )
    model = (
        f"{config.model.from_scratch} from scratch, {sizes.parameters / 1e6:.1f} M parameters, a vocabulary of "
        f"{sizes.vocabulary:,} tokens"
    )
    each = (
        f"{counted(sizes.steps, 'step', 'steps')} of {budget.batch_tokens:,} tokens, "
        f"{counted(sizes.epochs, 'epoch', 'epochs')}, highest learning rate "
        f"{budget.learning_rate:g}, one thread"
    )
    told = [("Corpus", corpus), ("Model", model), ("Budget of a run", each)]
    if probe.train is not None:
        how = f"{counted(probe.epochs, 'epoch', 'epochs')}, learning rate {probe.learning_rate:g}"
        told.append(("Probe", f"{probe.task} on {last_two_parts(probe.train)}, {how}"))
    told.append(("Versions", ", ".join(f"{name} {number}" for name, number in versions().items())))
    return tuple(told)
