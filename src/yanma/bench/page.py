"""docs/benchmarks.md: the part between two markers is written by `yanma bench --write`, the rest by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError
from ..markers import Markers
from .report import Report, Section

MARKERS = Markers("yanma bench")
BEGIN, END = MARKERS.begin, MARKERS.end
_NEW_PAGE = f"# Benchmarks\n\n{MARKERS.empty}"

_METHOD = """\
- Every contestant computes the same texts on the same number of threads under one setting of the allocator, in turns
  (A B C A B C ...), after a warm-up. ONNX Runtime and CTranslate2 have a process each, as their pools of threads slow
  down everybody else in theirs; carrying texts and outputs there and back takes them 1 to 2 ms. A time is that of the
  whole workload, from token ids to one output a text in the order of the texts: grouping, collation and pooling are
  included.
- Where a batch size stands, several were tried beforehand on the same texts, and the fastest is measured: one round of
  all sizes, and a second of those that came within 10 % of the contestant's fastest.
- "x yanma" is how many times yanma's time it takes: the median of the ratios round by round.
- "off float64 by": before anything is timed, outputs are compared with the stock model in float64, one text at a
  time, on a sample: the largest difference of any number. In fp32 it may be twice what stock transformers is off by
  itself, or 1e-5; otherwise there is no report. For lower precision the cosine with float64 is told, the mean over
  the texts and the least of them; yanma's own bf16 must have a mean of 0.9999 with its fp32. Training: relative
  difference of loss or whole gradient, whichever is larger, dropout off, at most 1e-5.
- The floor is no contestant: the bare matrix products of the real tokens' linear layers, at the fastest speed that
  any of these products reached in that round.
"""

_NOT_CLAIMED = """\
- Nothing about GPUs: all of this is measured on a CPU.
- Nothing about other models, lengths, thread counts or chips. With texts of equal length there is no padding to
  avoid, and what is left is the difference between the kernels.
- Nothing about serving, where texts arrive one by one.
- Training times are forward and backward, gradients added up over all batches (for batches of 8 texts that is a few
  percent of the time); the optimizer's step and the loading of data are not in them. yanma's
  packs of the best size hold more texts than the padded batches; the line with the batches of 'padded to the longest'
  shows what remains when only the padding goes.
- bf16 and int8 are not exact, and are compared with each other only at the cosine that stands beside them.
"""


def check(path: Path) -> None:
    """Raise ConfigError, before anything is measured, where `write` could not write."""
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}")
    MARKERS.replaced(_now(path), "", str(path))


def write(path: Path, report: Report) -> None:
    """Rewrite the part between the markers; a page that is missing is made."""
    path.write_text(MARKERS.replaced(_now(path), render(report), str(path)), encoding="utf-8")


def _now(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else _NEW_PAGE


def render(report: Report) -> str:
    """The measured part, as Markdown."""
    machine = report.machine
    lines = [
        "## Speed",
        "",
        f"Measured on {machine.date} with `{report.command}`, {report.rounds} rounds"
        + (", quick: too short to be quoted." if report.quick else "."),
        "",
        f"- Machine: {machine.device}, {machine.cores} cores, {machine.threads} threads, {machine.instructions}, "
        f"{machine.system}.",
        f"- Versions: Python {machine.python}, {', '.join(f'{k} {v}' for k, v in machine.versions.items())}.",
        f"- Model: {report.model}.",
        *(f"- yanma's products, {precision}: {kernels}." for precision, kernels in machine.kernels.items()),
        "",
    ]
    for section in report.sections:
        lines += [
            f"### {section.title}, {section.workload}",
            "",
            f"{section.about}.",
            "",
            *_table(section),
            "",
        ]
        lines += [f"{name}: {why}.\n" for name, why in section.absent]
    lines += ["### How it is measured", "", _METHOD, "### What is not claimed", "", _NOT_CLAIMED]
    return "\n".join(lines)


def _table(section: Section) -> Iterator[str]:
    columns = section.columns()
    yield f"| {' | '.join(columns)} |"
    yield f"|---|{'---:|' * (len(columns) - 1)}"
    for cells in section.cells():
        yield f"| {' | '.join(cells)} |"
