"""One model on one set of texts, padded in three ways and not at all: inference, and training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from ..machine import bound_kernel_caches, keep_buffers
from ..models import is_unpadded, restore, unpad
from ..report.tables import Table
from ..seeded import seeded
from . import hf, ours, parity
from .contestant import Contestant
from .measure import Timing, in_turns
from .outputs import kind_of
from .run import turn_of
from .workloads import SEED, Workload

DYNAMIC = "dynamic (yanma)"
_SIZES = (32, 32, 16, 4096)


@dataclass(frozen=True)
class Row:
    """One way of masking."""

    name: str
    timing: Timing
    padding: float
    """Share of padding among the places computed, 0 to 1."""
    difference: float
    """Of inference, the largest of any number of its outputs from the packed ones; of training, from float64."""


@dataclass(frozen=True)
class Comparison:
    """What `side_by_side` found."""

    rows: tuple[Row, ...]
    """Static, longest, length-sorted, dynamic."""
    num_texts: int
    num_tokens: int

    @property
    def largest_difference(self) -> float:
        """Between the packed outputs and those of any way of padding."""
        return max(row.difference for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "texts": self.num_texts,
            "tokens": self.num_tokens,
            "largest_difference": self.largest_difference,
            "rows": [self._row_as_dict(row) for row in self.rows],
        }

    def table(self) -> Table:
        """A row each."""
        columns = ("", "seconds", "tokens/s", "padding", "x dynamic's time", "largest difference")
        return Table(columns, tuple(map(self._cells, self.rows)))

    def _cells(self, row: Row) -> tuple[str, ...]:
        return (
            row.name,
            f"{row.timing.median:.2f}",
            f"{self.num_tokens / row.timing.median:,.0f}",
            f"{row.padding:.0%}".replace("%", " %"),
            f"{row.timing.over(self.rows[-1].timing):.2f}",
            f"{row.difference:.1e}" if row is not self.rows[-1] else "",
        )

    def _row_as_dict(self, row: Row) -> dict[str, Any]:
        return {
            "name": row.name,
            "seconds": row.timing.median,
            "tokens_per_s": self.num_tokens / row.timing.median,
            "padding": row.padding,
            "times_dynamic": row.timing.over(self.rows[-1].timing),
            "difference": row.difference,
        }


def side_by_side(
    model: nn.Module,
    sequences: Sequence[Sequence[int]],
    *,
    rounds: int = 3,
    width: int = 128,
    told: Callable[[str], None] = lambda name: None,
) -> Comparison:
    """Time a model's inference on token ids, in the order of arrival, in four ways of masking, in turns.

    static (rows of `width` slots, or of the longest text's length where that is more; batches of 32), padded to the
    longest (of 32), sorted by length (of 16) and then padded, and packed by yanma (packs of 4096 tokens). The model
    may be stock or unpadded, with a head or without; it is copied, not changed. `told` hears the name of whoever has
    its turn.

    Before anything is timed, every way's outputs are compared with float64, one text at a time, on a sample;
    ParityError where one is off.

    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> tiny = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    >>> result = side_by_side(BertForSequenceClassification(tiny), [[1, 2, 3], [4] * 9], rounds=1, width=12)
    >>> [row.name for row in result.rows], result.largest_difference < 1e-5
    (['static 12', 'longest', 'length-sorted', 'dynamic (yanma)'], True)
    """
    workload = _given(sequences)
    stock = copy.deepcopy(model).eval()
    if is_unpadded(stock):
        restore(stock)
    kind, width = kind_of(stock), max(width, *workload.lengths)
    ways = [*hf.inference(stock, kind, width), *ours.inference(unpad(copy.deepcopy(stock)), kind)]
    four, outputs = _four(ways, width), dict[str, list[Tensor]]()
    parity.outputs(stock, kind, [_kept(each, outputs) for each in four], workload, told)
    differences = {
        name: max(float((a - b).abs().max()) for a, b in zip(mine, outputs[DYNAMIC], strict=True))
        for name, mine in outputs.items()
    }
    return _timed(four, workload, differences, rounds, told)


@seeded(SEED)  # dropout
def training_side_by_side(
    stock: nn.Module,
    sequences: Sequence[Sequence[int]],
    *,
    rounds: int = 3,
    width: int = 128,
    told: Callable[[str], None] = lambda name: None,
) -> Comparison:
    """Time forward and backward of a stock classifier of 77 classes, dropout on, in the four ways of `side_by_side`.

    Before anything is timed, loss and gradient of each, dropout off, are compared with float64 on a sample, and
    ParityError names who is off; here `Row.difference` is that relative difference.
    """
    workload = _given(sequences)
    stock, width = copy.deepcopy(stock), max(width, *workload.lengths)
    four = _four([*hf.training(stock, width), *ours.training(unpad(copy.deepcopy(stock)))], width)
    verdicts = parity.gradients(lambda model: hf.training(model, width)[1], stock, four, workload, told)
    differences = {name: verdict.difference for name, verdict in verdicts.items()}
    return _timed(four, workload, differences, rounds, told)


def _given(sequences: Sequence[Sequence[int]]) -> Workload:
    if not sequences:
        raise ValueError("no sequences to compute")
    return Workload("side by side", "given", tuple(tuple(sequence) for sequence in sequences))


def _four(ways: Sequence[Contestant], width: int) -> list[Contestant]:
    """Static, longest, length-sorted and packs, by their short names and with one batch size each."""
    names = (f"static {width}", "longest", "length-sorted", DYNAMIC)
    four = zip(ways[:4], names, _SIZES, strict=True)
    return [replace(way, name=name, sizes=(size,)) for way, name, size in four]


def _kept(contestant: Contestant, outputs: dict[str, list[Tensor]]) -> Contestant:
    """The same, which leaves what it computes in `outputs`."""

    def run(workload: Workload, size: int) -> list[Tensor]:
        outputs[contestant.name] = contestant.run(workload, size)
        return outputs[contestant.name]

    return replace(contestant, run=run)


def _timed(
    four: Sequence[Contestant],
    workload: Workload,
    differences: Mapping[str, float],
    rounds: int,
    told: Callable[[str], None],
) -> Comparison:
    keep_buffers()
    bound_kernel_caches()
    timings = in_turns({each.name: turn_of(each, workload, *each.sizes) for each in four}, rounds, told=told)
    rows = (
        Row(each.name, timings[each.name], each.padding(workload, *each.sizes) or 0.0, differences[each.name])
        for each in four
    )
    return Comparison(tuple(rows), len(workload.sequences), workload.num_tokens)
