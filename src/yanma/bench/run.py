"""bench(config): parity of everyone on a workload, then everyone's time on it; execute(config) shows and keeps."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from ..errors import ConfigError
from ..machine import bound_kernel_caches, keep_buffers
from ..report.progress import ProgressReporter
from ..seeded import seeded
from ..settings import command_line, last_two_parts
from . import workloads as makers
from .config import BenchConfig
from .contestant import Contestant
from .hf import LONGEST
from .measure import Turn, in_turns, timed
from .model import Models, load
from .ours import ARRIVAL
from .parts import Part, parts
from .report import MARKERS, Report, Row, Section, here
from .workloads import Workload

_NEARLY = 1.1
_WIDTH = 170  # what the widest table needs


def execute(config: BenchConfig, *, json_to: str | None = None, write: Path | None = None) -> None:
    """Tables on stdout as they come, or all as JSON there (`json_to="-"`); the page last, when all is measured."""
    if json_to not in (None, "-") and not Path(str(json_to)).absolute().parent.is_dir():
        raise ConfigError(f"`json_to` {json_to}: there is no such folder")
    if write is not None:
        MARKERS.check(write)
    # A cell cut short would be a number lost: on a narrow terminal the lines wrap instead.
    out = Console(quiet=json_to == "-", highlight=False, width=max(Console().width, _WIDTH))
    report = bench(config, reporter=ProgressReporter(), show=lambda section: _show(section, out))
    text = json.dumps(report.as_dict(), indent=2) + "\n"
    if json_to == "-":
        sys.stdout.write(text)
    elif json_to is not None:
        Path(json_to).write_text(text, encoding="utf-8")
    if write is not None:
        MARKERS.write(write, report.lines())


def _show(section: Section, out: Console) -> None:
    out.print(f"{section.title}\n{section.about}", markup=False)
    out.print(section.table())
    for name, why in section.absent:
        out.print(f"{name}: {why}", markup=False)
    out.print()


@seeded(makers.SEED)  # dropout, in training
def bench(
    config: BenchConfig,
    *,
    reporter: ProgressReporter | None = None,
    show: Callable[[Section], None] = lambda section: None,
) -> Report:
    """Measure what `config` asks for; `show` gets each section as soon as it is there.

    Nothing of a workload is shown before every contestant of every part has passed its comparison on it: ParityError
    says who has not. Raises ConfigError or DataError for a model or data that cannot be used.
    """
    reporter = reporter or ProgressReporter(enabled=False)
    keep_buffers()
    bound_kernel_caches()
    with _threads(config.threads), TemporaryDirectory(prefix="yanma-bench-") as folder:
        models = load(config.model, config.max_length, config.shape)
        texts = [_workload(name, config, models) for name in config.workloads]
        reporter.note("preparing: models are copied, exported and converted")
        contests = parts(models, config.only, config.max_length, Path(folder))
        if config.quick:
            contests = [_with_one_size(part) for part in contests]
        sections = []
        for workload in texts:
            for section in _sections(contests, workload, config.num_rounds, reporter):
                sections.append(section)
                show(section)
        asked = command_line(config, config.command, shown=last_two_parts)
        return Report(here(), models.about, asked, config.num_rounds, config.quick, tuple(sections))


def _workload(name: str, config: BenchConfig, models: Models) -> Workload:
    tokenizer, count, longest = models.tokenizer, config.num_texts, config.max_length
    if name == "drawn":
        return makers.drawn(tokenizer, count, longest)
    if config.data is None:
        return makers.from_corpus(tokenizer, count, longest)
    return makers.from_file(config.data, config.text_column, tokenizer, count, longest)


def _sections(
    contests: list[Part], workload: Workload, rounds: int, reporter: ProgressReporter
) -> Iterator[Section]:
    verdicts = []
    for part in contests:
        turns = sum(len(each.sizes) for each in part.contestants)
        with reporter.counting(turns, name=f"{workload.name}, {part.key}: parity"):
            verdicts.append(part.examine(part.contestants, workload, reporter.turn))
    for part, passed in zip(contests, verdicts, strict=True):
        about = f"{workload.name}, {part.key}"
        sizes = best_sizes(part.contestants, workload, reporter, about)
        turns_by_name = {each.name: turn_of(each, workload, sizes[each.name]) for each in part.contestants}
        turns_by_name |= {floor.name: floor.turn(workload) for floor in part.floors}
        with reporter.counting((rounds + 1) * len(turns_by_name), name=f"{about}: time"):
            in_turns(turns_by_name, 1, told=reporter.turn)  # the warm-up
            timings = in_turns(turns_by_name, rounds, told=reporter.turn)
        rows = [
            Row(
                each.name,
                timings[each.name],
                f"{size} {each.unit}",
                each.padding(workload, size),
                passed[each.name],
            )
            for each, size in zip(part.contestants, sizes.values(), strict=True)
        ]
        rows += [Row(floor.name, timings[floor.name]) for floor in part.floors]
        yield Section(
            part=part.key,
            title=part.title,
            workload=workload.name,
            about=f"{workload.about}; {workload.describe()}",
            num_tokens=workload.num_tokens,
            rows=tuple(rows),
            absent=part.absent,
            yardsticks=part.yardsticks,
        )


def best_sizes(
    contestants: Sequence[Contestant], workload: Workload, reporter: ProgressReporter, about: str
) -> dict[str, int]:
    """Each contestant's fastest batch size: one round of all, and a second of those that were nearly as fast.

    Packs of the padded baseline's batches follow that baseline.
    """
    best = {each.name: each.sizes[0] for each in contestants}
    tuned = [each for each in contestants if len(each.sizes) > 1 and each.name != ARRIVAL]
    left = {f"{each.name}, {size}": (each, size) for each in tuned for size in each.sizes}
    seconds = dict.fromkeys(left, math.inf)
    for stage in ("batch sizes", "batch sizes again") if left else ():
        turns = {label: turn_of(each, workload, size) for label, (each, size) in left.items()}
        with reporter.counting(len(turns), name=f"{about}: {stage}"):
            for label, timing in in_turns(turns, 1, told=reporter.turn).items():
                seconds[label] = min(seconds[label], timing.best)
        for each in tuned:
            mine = {label: seconds[label] for label, (other, _) in left.items() if other is each}
            fastest = min(mine, key=mine.__getitem__)
            best[each.name] = left[fastest][1]
            for label in mine:
                if mine[label] > _NEARLY * mine[fastest]:
                    del left[label]
    if ARRIVAL in best and LONGEST in best:
        best[ARRIVAL] = best[LONGEST]
    return best


def turn_of(contestant: Contestant, workload: Workload, size: int) -> Turn:
    """A turn that computes the workload once."""
    return timed(lambda: contestant.run(workload, size))


def _with_one_size(part: Part) -> Part:
    """Everyone has one batch size to try, the middle one."""
    contestants = (replace(each, sizes=each.sizes[len(each.sizes) // 2 :][:1]) for each in part.contestants)
    return replace(part, contestants=tuple(contestants))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)
