"""Attention document by document, with a term of one's own added to the scores, as relative positions give one."""

# T tokens in the pack, B documents of n tokens each, H heads, D head width

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from ..autocast import as_cast
from ..errors import Unsupported
from ..masks import documents
from .dropout import Dropout, dropout_of
from .kernel import MOST_SCORE_BYTES, Softmax, attend_by_products, num_columns, working
from .problem import Problem

Bias = Callable[[Tensor, Tensor], Tensor]
"""(q (B, H, n, D), k (B, H, n, D)), in float32 at least -> what is added to scaled scores, (B or 1, H, n, n)."""


def attend_biased(
    q: Tensor,  # (T, H, D)
    k: Tensor,  # (T, H, D)
    v: Tensor,  # (T, H, D)
    lengths: Sequence[int],
    bias: Bias,
    scale: float,
    dropout: float = 0.0,
    seed: int | Sequence[int] | Tensor | None = None,
    causal: bool = False,
) -> Tensor:  # (T, H, D)
    """softmax(q kᵀ · scale + bias) v in each document; gradients also flow to whatever `bias` is made of.

    If `causal`, a token reads no later ones.

    Equal-length neighbours are computed together, with the bits that each would have alone if those of `bias` have.
    `dropout` and `seed` are as in `attention`.

    Raises Unsupported where there is no CPU.
    """
    if q.device.type != "cpu":
        raise Unsupported(f"attention with a bias runs on a CPU, and this is {q.device.type}")
    q, k, v = as_cast(q), as_cast(k), as_cast(v)
    dropped = dropout_of(dropout, seed, Problem.of(q, k, v, documents(lengths), dropout))
    groups = list(_groups(lengths, q))
    sizes = [group.count * group.length for group in groups]
    parts = zip(q.split(sizes), k.split(sizes), v.split(sizes), strict=True)
    with torch.autocast("cpu", enabled=False):  # it would compute products in less than float32
        found = [
            _attended(group, *part, bias=bias, softmax=Softmax(scale, causal), dropout=dropped)
            for group, part in zip(groups, parts, strict=True)
        ]
    return torch.cat(found).to(q.dtype)


@dataclass(frozen=True)
class _Group:
    """Neighbouring documents of one length."""

    first_row: int
    count: int
    length: int

    def heads_first(self, x: Tensor) -> Tensor:
        """(count * length, H, D) as (count, H, length, D)."""
        return x.view(self.count, self.length, *x.shape[1:]).transpose(1, 2)


def _groups(lengths: Sequence[int], q: Tensor) -> Iterator[_Group]:
    """Runs of equal lengths, cut where their scores would leave the cache."""
    row = 0
    for length, run in groupby(lengths):
        count = len(list(run))
        a_document = q.shape[1] * length * num_columns(length) * working(q.dtype).itemsize
        most = max(1, MOST_SCORE_BYTES // max(a_document, 1))
        for first in range(0, count, most):
            group = _Group(row, min(most, count - first), length)
            yield group
            row += group.count * length


def _attended(
    group: _Group, q: Tensor, k: Tensor, v: Tensor, bias: Bias, softmax: Softmax, dropout: Dropout | None
) -> Tensor:
    """(count * length, H, D) of the group's rows."""
    q, k, v = (group.heads_first(x.to(working(x.dtype))) for x in (q, k, v))
    softmax = replace(softmax, bias=bias(q, k))
    if dropout is not None:
        rows = slice(group.first_row, group.first_row + group.count * group.length)
        kept = dropout.keep(rows, group.length, num_columns(group.length))
        softmax = replace(softmax, kept=kept, kept_scale=dropout.scale)
    out, _ = attend_by_products(q, k, v, softmax)
    return out.transpose(1, 2).flatten(0, 1)
