"""Attention under a mask against one dense mask: correct first, then times in turns, growth, and what a mask costs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ..attention import attention
from ..attention.plans import make, make_whole
from ..markers import Markers
from ..masks import Mask, causal, documents, global_tokens, window
from ..report.tables import Table
from ..seeded import seeded
from .measure import Timing, in_turns, timed
from .parity import ParityError
from .report import Machine, here

HEADS, HEAD_DIM = 12, 32
TOKENS, QUICK_TOKENS = 8192, 1024
_FLOOR = 1e-6

Work = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One mask: yanma's time and that of torch with a dense mask made beforehand."""

    mask: str
    backward: bool
    ours: Timing
    dense: Timing
    difference: float
    """The largest of any number of the output (and the gradients) from float64."""
    dense_difference: float

    @property
    def cells(self) -> tuple[str, ...]:
        """As text."""
        return (
            f"{self.mask}, {'forward and backward' if self.backward else 'forward'}",
            f"{1000 * self.ours.median:.1f} ms",
            f"{1000 * self.dense.median:.1f} ms",
            f"{self.dense.over(self.ours):.1f}",
            f"{self.difference:.1e}",
            f"{self.dense_difference:.1e}",
        )


COLUMNS = ("mask", "yanma", "dense mask", "times as fast", "yanma off float64 by", "dense off by")


@dataclass(frozen=True)
class MasksReport:
    """One run."""

    machine: Machine
    num_tokens: int
    rounds: int
    rows: tuple[Row, ...]
    growth: tuple[tuple[int, float], ...]
    """(tokens, seconds) of window(64, 64), forward."""
    lowering_s: float
    """Making the plan of 32 texts' mask anew, the lengths having been met before."""
    first_lowering_s: float
    """The same, without anything kept."""
    forward_s: float
    """The forward of a model of MiniLM's size (6 layers of 384) on those texts, without padding."""

    @property
    def slope(self) -> float:
        """By which power of the number of tokens time grows, by least squares between logarithms."""
        points = [(math.log(tokens), math.log(seconds)) for tokens, seconds in self.growth]
        return statistics.linear_regression(*zip(*points, strict=True)).slope

    def lines(self) -> Iterator[str]:
        """Markdown."""
        yield (
            f"{self.num_tokens:,} tokens, {HEADS} heads of {HEAD_DIM}, fp32, {self.rounds} rounds in turns, medians; "
            f"{self.machine.device}, {self.machine.threads} threads, {self.machine.date}."
        )
        yield ""
        yield from Table(COLUMNS, tuple(row.cells for row in self.rows)).markdown()
        yield ""
        grown = ", ".join(f"{tokens:,}: {1000 * seconds:.1f} ms" for tokens, seconds in self.growth)
        yield f"window(64, 64), forward: {grown}. Time grows with tokens to the power {self.slope:.2f}."
        yield ""
        yield (
            f"The plan of a new mask for 32 short texts is made once a batch: {1000 * self.lowering_s:.2f} ms where "
            f"texts of their lengths were met before, {1000 * self.first_lowering_s:.2f} ms the first time. The "
            f"forward of a model of MiniLM's size on them takes {1000 * self.forward_s:.1f} ms: the plan's share is "
            f"{100 * self.lowering_s / self.forward_s:.1f} %."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "slope": self.slope}


@seeded(0)  # the model's weights
def bench_masks(rounds: int = 5, *, quick: bool = False) -> MasksReport:
    """Measure; raises ParityError where anything is further from float64 than twice torch with a dense mask."""
    tokens = QUICK_TOKENS if quick else TOKENS
    lengths = [tokens // 128] * 128
    pairs = [
        (window(64, 64), False),
        (window(64, 64), True),
        (window(64, 64) | global_tokens(first=1), True),
        (documents(lengths), False),
        (documents(lengths) & causal(), True),
        (documents(lengths) & window(64, 64), True),
    ]
    rows = tuple(_row(mask, tokens, backward, rounds) for mask, backward in pairs)
    sizes = [tokens // 4 * 2**power for power in range(3 if quick else 6)]
    return MasksReport(here(), tokens, rounds, rows, tuple(_growth(sizes, rounds)), *_fixed_cost(rounds))


def _row(mask: Mask, tokens: int, backward: bool, rounds: int) -> Row:
    inputs = _tensors(tokens)
    seen = mask.dense(tokens)
    ours: Work = partial(attention, mask=mask, backend="segments")
    dense = partial(_dense, seen=seen)
    run = _gradients if backward else _output
    exact = run(dense, [x.double() for x in inputs])
    differences = [_difference(run(work, inputs), exact) for work in (ours, dense)]
    if differences[0] > max(2 * differences[1], _FLOOR):
        raise ParityError(
            f"{mask.describe()}: off float64 by {differences[0]:.1e}, torch by {differences[1]:.1e}"
        )
    turns = {"ours": timed(lambda: run(ours, inputs)), "dense": timed(lambda: run(dense, inputs))}
    in_turns(turns, 1)
    times = in_turns(turns, rounds)
    return Row(mask.describe(), backward, times["ours"], times["dense"], *differences)


def _tensors(tokens: int) -> list[Tensor]:
    """q, k, v and the gradient of the output."""
    draw = torch.Generator().manual_seed(tokens)
    return [torch.randn(tokens, HEADS, HEAD_DIM, generator=draw) for _ in range(4)]


def _dense(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=seen)[0].transpose(0, 1)


def _output(work: Work, inputs: Sequence[Tensor]) -> list[Tensor]:
    with torch.inference_mode():
        return [work(*inputs[:3])]


def _gradients(work: Work, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The output, and the gradients of q, k and v."""
    leaves = [x.detach().requires_grad_() for x in inputs[:3]]
    out = work(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, inputs[3])]


def _difference(got: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    return max((a.double() - b).abs().max().item() for a, b in zip(got, exact, strict=True))


def _growth(sizes: Sequence[int], rounds: int) -> Iterator[tuple[int, float]]:
    for tokens in sizes:
        inputs = _tensors(tokens)
        ours: Work = partial(attention, mask=window(64, 64), backend="segments")
        turns = {"ours": timed(partial(_output, ours, inputs))}
        in_turns(turns, 1)
        yield tokens, in_turns(turns, rounds)["ours"].median


def _fixed_cost(rounds: int) -> tuple[float, float, float]:
    """Seconds of making the plan of 32 short texts' mask, anew and for the first time; and of a model's forward."""
    from transformers import BertConfig, BertModel

    from ..batch import PackedBatch
    from ..models import unpad

    lengths = [5 + 3 * text % 60 for text in range(32)]
    key = (documents(lengths) & window(16, 16), sum(lengths), sum(lengths))
    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, vocab_size=1000
    )
    model = unpad(BertModel(config).eval())
    batch = PackedBatch.from_sequences([[2] * length for length in lengths])
    with torch.inference_mode():
        turns = {
            "plan": timed(lambda: make(key)),
            "first plan": timed(lambda: make_whole(key)),
            "model": timed(lambda: model(batch)),
        }
        in_turns(turns, 1)
        times = in_turns(turns, max(rounds, 5))
    return times["plan"].median, times["first plan"].median, times["model"].median


MARKERS = Markers("yanma bench masks")
