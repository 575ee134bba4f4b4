"""What was measured and on which machine: as plain data, as tables, and as the measured part of docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from ..machine import chip, installed
from ..markers import Markers
from ..models.kernels import fastest
from ..report.tables import Table
from .measure import Timing
from .parity import Verdict

MARKERS = Markers("yanma bench", heading="# Benchmarks")
PACKAGES = ("yanma", "torch", "transformers", "sentence-transformers", "onnxruntime", "ctranslate2", "numpy")


@dataclass(frozen=True)
class Machine:
    """What the numbers hold for."""

    date: str
    device: str
    cores: int
    threads: int
    instructions: str
    system: str
    python: str
    versions: dict[str, str]
    """Of the packages that took part; those not installed are missing."""
    kernels: dict[str, str]
    """Which product yanma takes for each precision, and why."""


def here() -> Machine:
    """This machine, now."""
    cpu = torch.device("cpu")
    return Machine(
        date=datetime.now(UTC).date().isoformat(),
        device=chip(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions=installed(*PACKAGES),
        kernels={"fp32": str(fastest(torch.float32, cpu)), "bf16": str(fastest(torch.bfloat16, cpu))},
    )


@dataclass(frozen=True)
class Row:
    """One contestant on one workload."""

    name: str
    timing: Timing
    setting: str = ""
    """Its best batch size: "16 texts"."""
    padding: float | None = None
    """Share of padding among the places computed; None = not known, or nothing is computed."""
    verdict: Verdict | None = None
    """None for the floor, which computes nothing that could be compared."""


@dataclass(frozen=True)
class Section:
    """All contestants of one kind of work on one workload."""

    part: str
    title: str
    workload: str
    about: str
    """The workload, in one line."""
    num_tokens: int
    rows: tuple[Row, ...]
    absent: tuple[tuple[str, str], ...] = ()
    """(baseline, why it did not take part)."""
    yardsticks: tuple[str, ...] = ("yanma",)
    """Rows by whose time the others are divided, round by round."""

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def table(self) -> Table:
        """A row each."""
        ratios = (f"x {name}" for name in self.yardsticks)
        columns = (
            "",
            "batch",
            "seconds",
            "p20-p80",
            "best",
            "tokens/s",
            "padding",
            *ratios,
            "off float64 by",
        )
        return Table(columns, tuple(map(self._cells, self.rows)))

    def _cells(self, row: Row) -> tuple[str, ...]:
        timing = row.timing
        return (
            row.name,
            row.setting,
            f"{timing.median:.3f}",
            f"{timing.percentile(0.2):.3f}-{timing.percentile(0.8):.3f}",
            f"{timing.best:.3f}",
            f"{self.num_tokens / timing.median:,.0f}",
            "" if row.padding is None else f"{row.padding:.0%}".replace("%", " %"),
            *(f"{timing.over(self.row(name).timing):.2f}" for name in self.yardsticks),
            "" if row.verdict is None else row.verdict.text,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "part": self.part,
            "workload": self.workload,
            "about": self.about,
            "tokens": self.num_tokens,
            "absent": dict(self.absent),
            "rows": [self._row_as_dict(row) for row in self.rows],
        }

    def _row_as_dict(self, row: Row) -> dict[str, Any]:
        timing = row.timing
        return {
            "name": row.name,
            "batch": row.setting,
            "seconds": {
                "rounds": timing.seconds,
                "median": timing.median,
                "p20": timing.percentile(0.2),
                "p80": timing.percentile(0.8),
                "best": timing.best,
            },
            "tokens_per_s": self.num_tokens / timing.median,
            "padding": row.padding,
            "times": {name: timing.over(self.row(name).timing) for name in self.yardsticks},
            "parity": None if row.verdict is None else asdict(row.verdict),
        }


@dataclass(frozen=True)
class Report:
    """One run."""

    machine: Machine
    model: str
    command: str
    rounds: int
    quick: bool
    sections: tuple[Section, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "machine": asdict(self.machine),
            "model": self.model,
            "command": self.command,
            "rounds": self.rounds,
            "quick": self.quick,
            "sections": [section.as_dict() for section in self.sections],
        }

    def lines(self) -> Iterator[str]:
        """The measured part of the page, as Markdown."""
        machine = self.machine
        quick = ", quick: too short to be quoted." if self.quick else "."
        yield from ("## Speed", "")
        yield f"Measured on {machine.date} with `{self.command}`, {self.rounds} rounds{quick}"
        yield ""
        yield (
            f"- Machine: {machine.device}, {machine.cores} cores, {machine.threads} threads, {machine.instructions}, "
            f"{machine.system}."
        )
        yield f"- Versions: Python {machine.python}, {', '.join(f'{k} {v}' for k, v in machine.versions.items())}."
        yield f"- Model: {self.model}."
        yield from (
            f"- yanma's products, {precision}: {kernels}." for precision, kernels in machine.kernels.items()
        )
        for section in self.sections:
            yield from ("", f"### {section.title}, {section.workload}", "", f"{section.about}.", "")
            yield from section.table().markdown()
            yield from (f"\n{name}: {why}." for name, why in section.absent)
        yield from ("", "### How it is measured", "", _METHOD)
        yield from ("", "### What is not claimed", "", _NOT_CLAIMED)


_METHOD = """\
- Every contestant computes the same texts on the same number of threads under one setting of the allocator, in turns
  (A B C A B C ...), after a warm-up. ONNX Runtime and CTranslate2 have a process each, as their pools of threads slow
  down everybody else in theirs; carrying texts and outputs there and back takes them 1 to 2 ms. A time is that of the
  whole workload, from token ids to one output a text in the order of the texts: grouping, collation and pooling are
  included. yanma answers through its engine and trains by the step of its training loop, as for its users.
- Where a batch size stands, several were tried beforehand on the same texts, and the fastest is measured: one round of
  all sizes, and a second of those that came within 10 % of the contestant's fastest.
- "x yanma" is how many times yanma's time it takes: the median of the ratios round by round.
- "off float64 by": before anything is timed, outputs are compared with the stock model in float64, one text at a
  time, on a sample: the largest difference of any number. In fp32 it may be twice what stock transformers is off by
  itself, or 1e-5; otherwise there is no report. For lower precision the cosine with float64 is told, the mean over
  the texts and the least of them; yanma's own bf16 must have a mean of 0.9999 with its fp32. Training: relative
  difference of loss or whole gradient, whichever is larger, dropout off, at most 1e-5.
- The floor is no contestant: the bare matrix products of the real tokens' linear layers, at the fastest speed that
  any of these products reached in that round."""

_NOT_CLAIMED = """\
- Nothing about GPUs: all of this is measured on a CPU.
- Nothing about other models, lengths, thread counts or chips. With texts of equal length there is no padding to
  avoid, and what is left is the difference between the kernels.
- Nothing about serving, where texts arrive one by one.
- Training times are forward and backward, gradients added up over all batches (for batches of 8 texts that is a few
  percent of the time); the optimizer's step and the loading of data are not in them. yanma's
  packs of the best size hold more texts than the padded batches; the line with the batches of 'padded to the longest'
  shows what remains when only the padding goes.
- bf16 and int8 are not exact, and are compared with each other only at the cosine that stands beside them."""
