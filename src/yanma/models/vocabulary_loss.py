"""Cross-entropy over a vocabulary whose logits are never all there: chunk by chunk, within a bound of memory.

The logits of 1,000 tokens over XLM-R's 250,002 words are 1 GB, and their gradient is another. Here a product makes a
few thousand columns of them at a time; what softmax needs of a row is its largest logit and a sum, which are carried
from chunk to chunk (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). The backward makes the
chunks again, but for those that the bound leaves room to keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .layout import Scoring
from .linear import MIN_ROWS, linear, product, weight_gradient

# K scored tokens, D width, V vocabulary; R rows of a block, C columns of a chunk

COLUMNS = 4096
"""Of one chunk, whatever the number of rows, so that a token's loss does not depend on how many others there are."""
LEAST_MIB = 4
"""With less, blocks of rows would be thinner than products keep their bits."""


def cross_entropy(
    rows: Tensor,  # (K, D)
    weight: Tensor,  # (V, D)
    bias: Tensor | None,  # (V,)
    labels: Tensor,  # (K,) int64, each in 0..V-1
    *,
    cap: float | None = None,
    max_logits_mib: int = 64,
    leaves_to: Scoring | None = None,
) -> tuple[Tensor, Tensor]:
    """Each row's cross-entropy (K,), in float32 at least, and its likeliest word (K,) int64, the first of equal ones.

    The logits are `rows @ weight.T + bias`, and where there is a `cap` then `cap * tanh(logits / cap)`. At no time
    are there more than `max_logits_mib` MiB of them and of their gradient, all told; the least is `LEAST_MIB`.

    The gradient of `weight` goes into `leaves_to`, if it is given, and not to autograd.

    >>> rows, weight, labels = torch.eye(3), torch.eye(3), torch.tensor([0, 1, 0])
    >>> losses, likeliest = cross_entropy(rows, weight, None, labels)
    >>> losses.allclose(F.cross_entropy(rows, labels, reduction="none")), likeliest.tolist()
    (True, [0, 1, 2])
    """
    # Kernels take other ways for very few rows, and for a single one reductions do.
    missing = max(0, MIN_ROWS - len(rows))
    padded = F.pad(rows, (0, 0, 0, missing))
    losses, likeliest = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        padded, weight, bias, F.pad(labels, (0, missing)), cap, max_logits_mib * 2**20, leaves_to
    )
    return losses[: len(rows)], likeliest[: len(rows)]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        cap: float | None,
        max_bytes: int,
        leaves_to: Scoring | None,
    ) -> tuple[Tensor, Tensor]:
        head = _Head(weight, bias, rows.dtype, cap)
        room = max_bytes // 2 if any(ctx.needs_input_grad) else 0
        losses, normalizers, likeliest, kept = [], [], [], []
        for block in _blocks(len(rows), max_bytes, head.accumulated):
            online = _Online.of(labels[block], head.accumulated)
            for chunk in head.chunks():
                logits = head.logits(rows[block], chunk)
                online.add(logits, chunk)
                room -= logits.nbytes
                if room >= 0:
                    kept.append(logits)
            normalizer = online.normalizer()
            losses.append(normalizer - online.own)
            normalizers.append(normalizer)
            likeliest.append(online.likeliest)
        ctx.save_for_backward(rows, weight, bias, labels, torch.cat(normalizers), *kept)
        ctx.cap, ctx.max_bytes, ctx.leaves_to = cap, max_bytes, leaves_to
        found = torch.cat(likeliest)
        ctx.mark_non_differentiable(found)
        return torch.cat(losses), found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, bias, labels, normalizers, *kept = ctx.saved_tensors
        wants_rows, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        head = _Head(weight, bias, rows.dtype, ctx.cap)
        grad_rows = torch.zeros_like(rows, dtype=head.accumulated) if wants_rows else None
        grad_weight = torch.empty_like(weight) if wants_weight else None
        grad_bias = torch.zeros_like(bias) if wants_bias else None
        remade = iter(kept)
        for block in _blocks(len(rows), ctx.max_bytes, head.accumulated):
            for chunk in head.chunks():
                logits = next(remade, None)
                if logits is None:
                    logits = head.logits(rows[block], chunk)
                grad_logits = _logits_gradient(
                    logits, normalizers[block], labels[block] - chunk.start, ctx.cap
                )
                grad_logits = grad_logits.mul_(grad[block, None]).to(rows.dtype)
                if grad_rows is not None:
                    grad_rows[block] += product(grad_logits, head.weight(chunk).t())
                if grad_weight is not None:
                    _put(
                        grad_weight[chunk],
                        weight_gradient(grad_logits, rows[block]),
                        is_first=block.start == 0,
                    )
                if grad_bias is not None:
                    grad_bias[chunk] += grad_logits.sum(0)
        if ctx.leaves_to is not None:
            ctx.leaves_to.table_gradient, grad_weight = grad_weight, None
        grad_rows = None if grad_rows is None else grad_rows.to(rows.dtype)
        return grad_rows, grad_weight, grad_bias, None, None, None, None


@dataclass(frozen=True)
class _Head:
    """The last layer of a model of language."""

    whole: Tensor
    """(V, D)."""
    bias: Tensor | None
    """(V,)."""
    dtype: torch.dtype
    """In which products are computed."""
    cap: float | None

    @property
    def accumulated(self) -> torch.dtype:
        """In which softmax is computed."""
        return torch.promote_types(self.dtype, torch.float32)

    def chunks(self) -> Iterator[slice]:
        """Slices of the vocabulary."""
        for start in range(0, len(self.whole), COLUMNS):
            yield slice(start, min(start + COLUMNS, len(self.whole)))

    def weight(self, chunk: slice) -> Tensor:
        """(C, D)."""
        return self.whole[chunk].to(self.dtype)

    def logits(self, rows: Tensor, chunk: slice) -> Tensor:
        """(R, C)."""
        bias = None if self.bias is None else self.bias[chunk].to(self.dtype)
        logits = linear(rows, self.weight(chunk), bias).to(self.accumulated)
        return logits if self.cap is None else logits.div_(self.cap).tanh_().mul_(self.cap)


@dataclass(eq=False)
class _Online:
    """What softmax has seen of R rows so far."""

    labels: Tensor
    """(R,) int64."""
    highest: Tensor
    """(R,): the largest logit."""
    total: Tensor
    """(R,): the sum of exp(logit - highest)."""
    likeliest: Tensor
    """(R,) int64: where the largest logit is."""
    own: Tensor
    """(R,): the label's logit."""

    @classmethod
    def of(cls, labels: Tensor, dtype: torch.dtype) -> _Online:
        """Before anything is seen; the smallest number and not -inf, of which a difference would be NaN."""
        zeros = torch.zeros(len(labels), dtype=dtype, device=labels.device)
        lowest = torch.full_like(zeros, torch.finfo(dtype).min)
        return cls(labels, lowest, zeros, torch.zeros_like(labels), zeros)

    def add(self, logits: Tensor, chunk: slice) -> None:
        """Go on with the logits (R, C) of a chunk."""
        top, column = logits.max(1)
        self.likeliest = (column + chunk.start).where(top > self.highest, self.likeliest)
        highest = torch.maximum(self.highest, top)
        self.total *= (self.highest - highest).exp_()
        self.total += (logits - highest[:, None]).exp_().sum(1)
        self.highest = highest
        columns = self.labels - chunk.start
        is_here, columns = _within(columns, logits.shape[1])
        self.own = logits.gather(1, columns[:, None])[:, 0].where(is_here, self.own)

    def normalizer(self) -> Tensor:
        """(R,): the logarithm of the sum of exp(logit)."""
        return self.highest + self.total.log()


def _within(columns: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Which columns (R,) are in a chunk of this width, and the columns, those outside moved to its edge."""
    inside = columns.clamp(0, width - 1)
    return inside == columns, inside


def _logits_gradient(logits: Tensor, normalizer: Tensor, columns: Tensor, cap: float | None) -> Tensor:
    """(R, C): of each row's cross-entropy; `columns` (R,) are where the labels are, counted from the chunk's first."""
    grad_logits = (logits - normalizer[:, None]).exp_()
    is_here, columns = _within(columns, logits.shape[1])
    grad_logits.scatter_add_(1, columns[:, None], -is_here.to(grad_logits.dtype)[:, None])
    return grad_logits if cap is None else grad_logits.mul_(1 - (logits / cap).square_())


def _put(place: Tensor, gradient: Tensor, is_first: bool) -> None:
    """Write the first block's part of a gradient, add the others'."""
    if is_first:
        place.copy_(gradient)
    else:
        place += gradient


def _blocks(num_rows: int, max_bytes: int, dtype: torch.dtype) -> Iterator[slice]:
    """Slices of rows of which a chunk takes a sixteenth of the bound: four are there at once, and half is for keeping.

    None is thinner than `MIN_ROWS`, if there are so many rows.
    """
    step = max(MIN_ROWS, max_bytes // 16 // (COLUMNS * dtype.itemsize))
    firsts = range(0, max(1, num_rows - MIN_ROWS + 1), step)
    for start, end in pairwise([*firsts, num_rows]):
        yield slice(start, end)
