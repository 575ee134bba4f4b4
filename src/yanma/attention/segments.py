"""Attention document by document: equal-length neighbours share one kernel call, and no two documents ever meet.

Nothing outside the documents' own blocks is computed. Which kernel serves a document depends on its lengths and
its dtype alone, never on its neighbours, so a document's output has the same bits in any company.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..masks import Documents, Full, Window
from .dropout import Dropout, document_lengths
from .problem import Problem

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def refusal(problem: Problem) -> str | None:
    """Why this backend cannot do it; None = it can."""
    others = [term for term in problem.mask.terms() if not isinstance(term, Documents)]
    several = len(problem.mask.terms()) - len(others) > 1
    if several:
        return "cannot express two different sets of documents"
    for term in others:
        if not isinstance(term, Full) and term != Window(None, 0):
            return f"cannot express {term.describe()}; only documents and causal"
    lengths = document_lengths(problem.mask) or [(problem.num_q, problem.num_kv)]
    if Window(None, 0) in others and any(num_q != num_kv for num_q, num_kv in lengths):
        return "cannot express causal where queries and keys differ in number"
    return None


def run(q: Tensor, k: Tensor, v: Tensor, problem: Problem, scale: float, dropout: Dropout | None) -> Tensor:
    """(Tq, H, D)."""
    lengths = document_lengths(problem.mask) or [(problem.num_q, problem.num_kv)]
    causal = Window(None, 0) in problem.mask.terms()
    return _Segments.apply(q, k, v, tuple(_groups(lengths)), causal, scale, dropout)  # type: ignore[no-any-return, no-untyped-call]


@dataclass(frozen=True)
class _Group:
    """Neighbouring documents of equal lengths."""

    first: int
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


def _groups(lengths: Sequence[tuple[int, int]]) -> Iterator[_Group]:
    """Runs of neighbours with equal lengths; documents without queries are passed over."""
    first = q_start = kv_start = 0
    while first < len(lengths):
        num_q, num_kv = lengths[first]
        end = first + 1
        while end < len(lengths) and lengths[end] == (num_q, num_kv):
            end += 1
        q_end, kv_end = q_start + (end - first) * num_q, kv_start + (end - first) * num_kv
        if num_q:
            yield _Group(first, end - first, num_q, num_kv, slice(q_start, q_end), slice(kv_start, kv_end))
        first, q_start, kv_start = end, q_end, kv_end


class _Segments(torch.autograd.Function):
    """One node for the whole pack: autograd's own slices would each write a gradient as long as the pack."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, groups: tuple[_Group, ...], causal: bool, scale: float, dropout: Dropout | None
    ) -> Tensor:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out = torch.empty_like(q)
        saved: list[Tensor] = []
        for group in groups:
            if not group.num_kv:
                out[group.q_rows] = 0
                saved.append(out.new_empty(0))
                continue
            kernel = _plain if _is_plain(group, q, dropout) else _flashed
            result, kept = kernel(group.q(q), group.kv(k), group.kv(v), causal, scale, dropout, group.first)
            group.q(out).copy_(result)
            saved.append(kept)
        ctx.save_for_backward(q, k, v, out, *saved)
        ctx.groups, ctx.causal, ctx.scale, ctx.dropout = groups, causal, scale, dropout
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *saved = ctx.saved_tensors
        grad = grad.contiguous()
        grads = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for group, kept in zip(ctx.groups, saved, strict=True):
            if not group.num_kv:
                grads[0][group.q_rows] = 0
                continue
            tensors = group.q(q), group.kv(k), group.kv(v), group.q(out), group.q(grad)
            kernel = _plain_backward if _is_plain(group, q, ctx.dropout) else _flashed_backward
            parts = kernel(*tensors, kept, ctx.causal, ctx.scale, ctx.dropout, group.first)
            for whole, view, part in zip(grads, (group.q, group.kv, group.kv), parts, strict=True):
                view(whole).copy_(part)
        return *grads, None, None, None, None


def _is_plain(group: _Group, q: Tensor, dropout: Dropout | None) -> bool:
    """Whether two plain matrix products beat the flash kernel (which knows no dropout), from lengths and dtype alone.

    Measured on an AVX512 machine with 12 heads of 32: in bf16 up to 256 keys, in fp32 only below 12.
    """
    if dropout is not None:
        return True
    return group.num_kv <= (256 if q.dtype in (torch.bfloat16, torch.float16) else 12)


def _flashed(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, dropout: Dropout | None, first: int
) -> tuple[Tensor, Tensor]:
    out, logsumexp = _flash(q, k, v, 0.0, causal, scale=scale)
    return out, logsumexp


def _flashed_backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, logsumexp: Tensor,
    causal: bool, scale: float, dropout: Dropout | None, first: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return _flash_backward(grad, q, k, v, out, logsumexp, 0.0, causal, scale=scale)  # type: ignore[no-any-return]


def _plain(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, dropout: Dropout | None, first: int
) -> tuple[Tensor, Tensor]:
    shape = q.shape
    q, k, v = (x.reshape(-1, *x.shape[2:]) for x in (q, k, v))
    scores = torch.bmm(q, k.transpose(1, 2)).mul_(scale)
    if causal:
        scores.masked_fill_(_future(scores), -torch.inf)
    weights = torch.softmax(scores, -1)
    return torch.bmm(_dropped(weights, shape, dropout, first), v).view(shape), weights


def _plain_backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, weights: Tensor,
    causal: bool, scale: float, dropout: Dropout | None, first: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    shape, kv_shape = q.shape, k.shape
    q, k, v, grad = (x.reshape(-1, *x.shape[2:]) for x in (q, k, v, grad))
    grad_v = torch.bmm(_dropped(weights, shape, dropout, first).transpose(1, 2), grad)
    grad_weights = _dropped(torch.bmm(grad, v.transpose(1, 2)), shape, dropout, first)
    grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype).mul_(scale)
    grad_q, grad_k = torch.bmm(grad_scores, k), torch.bmm(grad_scores.transpose(1, 2), q)
    return grad_q.view(shape), grad_k.view(kv_shape), grad_v.view(kv_shape)


def _dropped(weights: Tensor, shape: torch.Size, dropout: Dropout | None, first: int) -> Tensor:
    if dropout is None:
        return weights
    count, num_heads, num_q = shape[:3]
    kept = dropout.keep(first, count, num_heads, num_q, weights.shape[2]).view(weights.shape)
    return torch.where(kept, weights * dropout.scale, 0)


def _future(scores: Tensor) -> Tensor:
    return torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device).triu_(1)
