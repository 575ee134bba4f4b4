"""Stock transformers: padded to a fixed length, to the longest of the batch, and sorted by length first."""

from __future__ import annotations

from torch import Tensor, inference_mode, nn

from .batching import Rows, rectangle
from .contestant import Batched, Compute, Sequences
from .outputs import Kind, of_rows

SIZES = (8, 16, 32, 64)
STATIC, LONGEST, SORTED = "HF, static padding", "HF, padded to the longest", "HF, length-sorted"


def contestants(model: nn.Module, kind: Kind, width: int) -> list[Batched]:
    """The three ways of padding, through a stock model in eval mode; static rows are `width` slots wide."""
    to_longest, to_width = padded(model, kind), padded(model, kind, width)
    return [
        Batched(f"{STATIC} to {width}", Rows(width=width), SIZES, to_width),
        Batched(LONGEST, Rows(), SIZES, to_longest),
        Batched(SORTED, Rows(by_length=True), SIZES, to_longest),
    ]


def sorted_bf16(model: nn.Module, kind: Kind) -> Batched:
    """The best of the three with weights in bf16."""
    compute = padded(model, kind)
    return Batched(f"{SORTED}, bf16", Rows(by_length=True), SIZES, compute, precision="bf16")


def padded(model: nn.Module, kind: Kind, width: int | None = None) -> Compute:
    """One batch as a rectangle, to `width` slots or to the longest."""
    pad_token_id = int(model.config.pad_token_id or 0)  # type: ignore[union-attr, arg-type]

    def compute(sequences: Sequences) -> list[Tensor]:
        with inference_mode():
            return of_rows(model, kind, *rectangle(sequences, pad_token_id, width))

    return compute
