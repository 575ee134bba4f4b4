"""Attention document by document: equal-length neighbours share one kernel call, and no two documents ever meet.

Nothing outside the documents' own blocks is computed. Which kernel serves a document depends on its lengths and
its dtype alone, never on its neighbours, so a document's output has the same bits in any company.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dropout import Dropout
from .kernel import MOST_SCORE_BYTES, Softmax, attend, attend_backward, is_flash, num_columns, working


def attend_documents(
    q: Tensor, k: Tensor, v: Tensor,
    lengths: Sequence[tuple[int, int]], causal: bool, scale: float, dropout: Dropout | None,
) -> Tensor:  # fmt: skip
    """Each query reads its own document, or what stands before it there; `lengths`: (queries, keys) of each.

    q, k and v are contiguous.
    """
    groups = tuple(piece for group in _groups(lengths) for piece in _pieces(group, q, dropout))
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        return _ByDocument.apply(q, k, v, groups, causal, scale, dropout)  # type: ignore[no-any-return, no-untyped-call]
    return _all_groups(q, k, v, groups, causal, scale, dropout, saved=None)


@dataclass(frozen=True)
class _Group:
    """Neighbouring documents of equal lengths."""

    count: int
    num_q: int
    num_kv: int
    q_rows: slice
    kv_rows: slice

    def heads_first(self, x: Tensor, rows: slice, length: int) -> Tensor:
        """(count, H, length, D): a view of this group's rows of (T, H, D)."""
        return x[rows].view(self.count, length, *x.shape[1:]).transpose(1, 2)

    def q(self, x: Tensor) -> Tensor:
        return self.heads_first(x, self.q_rows, self.num_q)

    def kv(self, x: Tensor) -> Tensor:
        return self.heads_first(x, self.kv_rows, self.num_kv)

    def softmax(self, causal: bool, scale: float, dropout: Dropout | None) -> Softmax:
        if dropout is None:
            return Softmax(scale, causal)
        kept = dropout.keep(self.q_rows, self.num_q, num_columns(self.num_kv))
        return Softmax(scale, causal, None, kept, dropout.scale)


def _groups(lengths: Sequence[tuple[int, int]]) -> Iterator[_Group]:
    """Runs of neighbours with equal lengths."""
    first = q_start = kv_start = 0
    while first < len(lengths):
        num_q, num_kv = lengths[first]
        end = first + 1
        while end < len(lengths) and lengths[end] == (num_q, num_kv):
            end += 1
        q_end, kv_end = q_start + (end - first) * num_q, kv_start + (end - first) * num_kv
        if num_q or num_kv:
            yield _Group(end - first, num_q, num_kv, slice(q_start, q_end), slice(kv_start, kv_end))
        first, q_start, kv_start = end, q_end, kv_end


def _pieces(group: _Group, q: Tensor, dropout: Dropout | None) -> Iterator[_Group]:
    """The group, cut where its scores would leave the cache; the flash kernel never has all of them in memory."""
    flash = is_flash(group.q(q).shape, group.num_kv, dropout is not None)
    a_document = q.shape[1] * group.num_q * num_columns(group.num_kv) * working(q.dtype).itemsize
    most = group.count if flash else max(1, MOST_SCORE_BYTES // max(a_document, 1))
    for first in range(0, group.count, most):
        count = min(most, group.count - first)
        q_start = group.q_rows.start + first * group.num_q
        kv_start = group.kv_rows.start + first * group.num_kv
        q_rows = slice(q_start, q_start + count * group.num_q)
        kv_rows = slice(kv_start, kv_start + count * group.num_kv)
        yield replace(group, count=count, q_rows=q_rows, kv_rows=kv_rows)


def _all_groups(
    q: Tensor, k: Tensor, v: Tensor, groups: tuple[_Group, ...],
    causal: bool, scale: float, dropout: Dropout | None, saved: list[tuple[Tensor, Softmax]] | None,
) -> Tensor:  # fmt: skip
    """(Tq, H, D); what backward will need of each group is added to `saved`, unless that is None."""
    out = torch.empty_like(q)
    for group in groups:
        if not (group.num_q and group.num_kv):
            out[group.q_rows] = 0
            continue
        softmax = group.softmax(causal, scale, dropout)
        result, own = attend(group.q(q), group.kv(k), group.kv(v), softmax)
        group.q(out).copy_(result)
        if saved is not None:
            saved.append((own, softmax))
    return out


class _ByDocument(torch.autograd.Function):
    """One node for the whole pack: autograd's own slices would each write a gradient as long as the pack."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor,
        groups: tuple[_Group, ...], causal: bool, scale: float, dropout: Dropout | None,
    ) -> Tensor:  # fmt: skip
        saved: list[tuple[Tensor, Softmax]] = []
        out = _all_groups(q, k, v, groups, causal, scale, dropout, saved)
        ctx.save_for_backward(q, k, v, out, *(own for own, _ in saved))
        ctx.groups, ctx.softmaxes = groups, [softmax for _, softmax in saved]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *saved = ctx.saved_tensors
        grad = grad.contiguous()
        grads = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        rest = zip(saved, ctx.softmaxes, strict=True)
        for group in ctx.groups:
            if not (group.num_q and group.num_kv):
                grads[0][group.q_rows] = grads[1][group.kv_rows] = grads[2][group.kv_rows] = 0
                continue
            tensors = group.q(grad), group.q(q), group.kv(k), group.kv(v), group.q(out)
            with torch.autocast("cpu", enabled=False):
                parts = attend_backward(*tensors, *next(rest))
            for whole, view, part in zip(grads, (group.q, group.kv, group.kv), parts, strict=True):
                view(whole).copy_(part)
        return *grads, None, None, None, None
