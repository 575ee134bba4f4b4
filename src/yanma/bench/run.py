"""bench(settings): parity of everyone on a workload, then everyone's time on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ..machine import bound_kernel_caches, keep_buffers
from ..seeded import seeded
from . import workloads as makers
from .contestant import Contestant
from .contestants_hf import LONGEST
from .contestants_yanma import ARRIVAL
from .machine import here
from .measure import Timing, Turn, in_turns, timed
from .model import Models, load
from .parity import Verdict
from .parts import Part, parts
from .progress import Teller
from .report import Report, Row, Section
from .settings import Settings
from .workloads import Workload

_NEARLY = 1.1


@seeded(makers.SEED)  # dropout, in training
def bench(
    settings: Settings,
    *,
    teller: Teller | None = None,
    show: Callable[[Section], None] = lambda section: None,
) -> Report:
    """Measure what `settings` ask for; `show` gets each section as soon as it is there.

    Nothing of a workload is shown before every contestant of every part has passed its comparison on it: ParityError
    says who has not. Raises ConfigError or DataError for a model or data that cannot be used.
    """
    teller = teller or Teller(enabled=False)
    keep_buffers()
    bound_kernel_caches()
    with _threads(settings.threads), TemporaryDirectory(prefix="yanma-bench-") as folder:
        models = load(settings.model, settings.max_length, settings.shape)
        texts = [_workload(name, settings, models) for name in settings.workloads]
        teller.note("preparing: models are copied, exported and converted")
        contests = parts(models, settings.only, settings.max_length, Path(folder))
        if settings.quick:
            contests = [_with_one_size(part) for part in contests]
        sections = []
        for workload in texts:
            for section in _sections(contests, workload, settings.num_rounds, teller):
                sections.append(section)
                show(section)
        return Report(
            here(), models.about, settings.command, settings.num_rounds, settings.quick, tuple(sections)
        )


def _workload(name: str, settings: Settings, models: Models) -> Workload:
    tokenizer, count, longest = models.tokenizer, settings.num_texts, settings.max_length
    if name == "drawn":
        return makers.drawn(tokenizer, count, longest)
    if settings.data is None:
        return makers.from_corpus(tokenizer, count, longest)
    return makers.from_file(settings.data, settings.text_column, tokenizer, count, longest)


def _sections(contests: list[Part], workload: Workload, rounds: int, teller: Teller) -> Iterator[Section]:
    verdicts = []
    for part in contests:
        with teller.stage(f"{workload.name}, {part.key}: parity", part.examine.turns(part.contestants)):
            verdicts.append(part.examine(part.contestants, workload, teller.turn))
    for part, passed in zip(contests, verdicts, strict=True):
        sizes = _best_sizes(part, workload, teller)
        timings = _timings(part, workload, sizes, rounds, teller)
        yield _section(part, workload, sizes, timings, passed)


def _best_sizes(part: Part, workload: Workload, teller: Teller) -> dict[str, int]:
    """Each contestant's fastest batch size: one round of all, and a second of those that were nearly as fast.

    Packs of the padded baseline's batches follow that baseline.
    """
    best = {each.name: each.sizes[0] for each in part.contestants}
    tuned = [each for each in part.contestants if len(each.sizes) > 1 and each.name != ARRIVAL]
    left = {f"{each.name}, {size}": (each, size) for each in tuned for size in each.sizes}
    seconds = dict.fromkeys(left, math.inf)
    for stage in ("batch sizes", "batch sizes again") if left else ():
        turns = {label: _turn(each, workload, size) for label, (each, size) in left.items()}
        with teller.stage(f"{workload.name}, {part.key}: {stage}", len(turns)):
            for label, timing in in_turns(turns, 1, told=teller.turn).items():
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


def _timings(
    part: Part, workload: Workload, sizes: Mapping[str, int], rounds: int, teller: Teller
) -> dict[str, Timing]:
    turns = {each.name: _turn(each, workload, sizes[each.name]) for each in part.contestants}
    turns |= {floor.name: floor.turn(workload) for floor in part.floors}
    with teller.stage(f"{workload.name}, {part.key}: time", (rounds + 1) * len(turns)):
        in_turns(turns, 1, told=teller.turn)  # the warm-up
        return in_turns(turns, rounds, told=teller.turn)


def _turn(contestant: Contestant, workload: Workload, size: int) -> Turn:
    return timed(lambda: contestant.run(workload, size))


def _section(
    part: Part,
    workload: Workload,
    sizes: Mapping[str, int],
    timings: Mapping[str, Timing],
    verdicts: Mapping[str, Verdict],
) -> Section:
    rows = [
        Row(
            each.name,
            timings[each.name],
            f"{sizes[each.name]} {each.unit}",
            each.padding(workload, sizes[each.name]),
            verdicts[each.name],
        )
        for each in part.contestants
    ]
    rows += [Row(floor.name, timings[floor.name]) for floor in part.floors]
    return Section(
        part.key,
        part.title,
        workload.name,
        f"{workload.about}; {workload.describe()}",
        workload.num_tokens,
        tuple(rows),
        part.absent,
        part.yardsticks,
    )


def _with_one_size(part: Part) -> Part:
    """Everyone has one batch size to try, the middle one."""
    contestants = tuple(each.with_sizes((each.sizes[len(each.sizes) // 2],)) for each in part.contestants)
    return replace(part, contestants=contestants)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)
