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
from torch.nn.functional import pad

from ..keyed import only
from ..masks import Documents, Full, Window
from .dropout import Dropout, document_lengths
from .problem import Problem

_MOST_SCORE_BYTES = 2**20
"""Scores that are in memory at once, where they are: 1 MiB stays in a core's cache."""

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def refusal(problem: Problem) -> str | None:
    """Why this backend cannot do it; None = it can."""
    if problem.device.type != "cpu":
        return f"runs on a CPU, and this is {problem.device.type}"
    others = [term for term in problem.mask.terms() if not isinstance(term, Documents)]
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
    groups = tuple(piece for group in _groups(lengths) for piece in _pieces(group, q, dropout))
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    with torch.autocast("cpu", enabled=False):  # it would compute products in less than what `_working` says
        if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
            return _Segments.apply(q, k, v, groups, causal, scale, dropout)  # type: ignore[no-any-return, no-untyped-call]
        return _all_groups(q, k, v, groups, causal, scale, dropout, saved=None)


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
    """Runs of neighbours with equal lengths."""
    first = q_start = kv_start = 0
    while first < len(lengths):
        num_q, num_kv = lengths[first]
        end = first + 1
        while end < len(lengths) and lengths[end] == (num_q, num_kv):
            end += 1
        q_end, kv_end = q_start + (end - first) * num_q, kv_start + (end - first) * num_kv
        if num_q or num_kv:
            yield _Group(first, end - first, num_q, num_kv, slice(q_start, q_end), slice(kv_start, kv_end))
        first, q_start, kv_start = end, q_end, kv_end


def _pieces(group: _Group, q: Tensor, dropout: Dropout | None) -> Iterator[_Group]:
    """The group, cut where its scores would leave the cache; the flash kernel never has all of them in memory."""
    a_document = q.shape[1] * group.num_q * _num_columns(group.num_kv) * _working(q.dtype).itemsize
    most = group.count if _is_flash(group, q, dropout) else max(1, _MOST_SCORE_BYTES // max(a_document, 1))
    for first in range(0, group.count, most):
        count = min(most, group.count - first)
        q_start = group.q_rows.start + first * group.num_q
        kv_start = group.kv_rows.start + first * group.num_kv
        q_rows = slice(q_start, q_start + count * group.num_q)
        kv_rows = slice(kv_start, kv_start + count * group.num_kv)
        yield replace(group, first=group.first + first, count=count, q_rows=q_rows, kv_rows=kv_rows)


def _all_groups(
    q: Tensor, k: Tensor, v: Tensor, groups: tuple[_Group, ...],
    causal: bool, scale: float, dropout: Dropout | None, saved: list[Tensor] | None,
) -> Tensor:  # fmt: skip
    """(Tq, H, D); what backward will need is added to `saved`, unless that is None."""
    out = torch.empty_like(q)
    for group in groups:
        if not (group.num_q and group.num_kv):
            out[group.q_rows] = 0
            continue
        result, *kept = _forward(group, q, k, v, causal, scale, dropout)
        group.q(out).copy_(result)
        if saved is not None:
            saved += kept
    return out


class _Segments(torch.autograd.Function):
    """One node for the whole pack: autograd's own slices would each write a gradient as long as the pack."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor,
        groups: tuple[_Group, ...], causal: bool, scale: float, dropout: Dropout | None,
    ) -> Tensor:  # fmt: skip
        saved: list[Tensor] = []
        out = _all_groups(q, k, v, groups, causal, scale, dropout, saved)
        ctx.save_for_backward(q, k, v, out, *saved)
        ctx.groups, ctx.causal, ctx.scale, ctx.dropout = groups, causal, scale, dropout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *saved = ctx.saved_tensors
        grad = grad.contiguous()
        grads = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        rest = iter(saved)
        for group in ctx.groups:
            if not (group.num_q and group.num_kv):
                grads[0][group.q_rows] = grads[1][group.kv_rows] = grads[2][group.kv_rows] = 0
                continue
            with torch.autocast("cpu", enabled=False):
                parts = _backward(group, q, k, v, out, grad, rest, ctx.causal, ctx.scale, ctx.dropout)
            for whole, view, part in zip(grads, (group.q, group.kv, group.kv), parts, strict=True):
                view(whole).copy_(part)
        return *grads, None, None, None, None


def _is_flash(group: _Group, q: Tensor, dropout: Dropout | None) -> bool:
    """Whether the flash kernel, which knows no dropout, beats plain products; by lengths and width alone.

    Measured on an AVX512 machine with 12 heads of 32: above 64 keys. For heads narrower than 16, and for one head of
    one document, the kernel's bits depend on which thread computes them.
    """
    return dropout is None and group.num_kv > 64 and q.shape[2] >= 16 and q.shape[1] > 1


def _num_columns(num_kv: int) -> int:
    """Columns of a score matrix: at least 16, as softmax over fewer takes three times as long."""
    return max(num_kv, 16)


def _working(dtype: torch.dtype) -> torch.dtype:
    """What a product is computed in: bf16's own batched products build a kernel for every new shape."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _forward(
    group: _Group, q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, dropout: Dropout | None
) -> tuple[Tensor, ...]:
    """One group's output (count, H, num_q, D), and what its backward needs: log-sum-exp, or weights and what stays."""
    if _is_flash(group, q, dropout):
        tensors = (x.to(_working(x.dtype)) for x in (group.q(q), group.kv(k), group.kv(v)))
        out, logsumexp = _flash(*tensors, 0.0, causal, scale=scale)
        return out, logsumexp
    columns = _num_columns(group.num_kv)
    queries, keys, values = _matrices(group.q(q)), *(_matrices(group.kv(x), columns) for x in (k, v))
    scores = _products(queries, keys.transpose(1, 2)).mul_(scale)
    scores[..., group.num_kv :] = -torch.inf
    if causal:
        scores.masked_fill_(_future(scores), -torch.inf)
    weights = torch.softmax(scores, -1)
    shape = group.q(q).shape
    if dropout is None:
        return _products(weights, values).view(shape), weights
    kept = dropout.keep(group.q_rows, group.num_q, columns).view(weights.shape)
    return _products(only(weights, kept), values).mul_(dropout.scale).view(shape), weights, kept


def _backward(
    group: _Group, q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, saved: Iterator[Tensor],
    causal: bool, scale: float, dropout: Dropout | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of one group's queries, keys and values, each (count, H, length, D)."""
    if _is_flash(group, q, dropout):
        views = group.q(grad), group.q(q), group.kv(k), group.kv(v), group.q(out)
        tensors = (x.to(_working(x.dtype)) for x in views)
        return _flash_backward(*tensors, next(saved), 0.0, causal, scale=scale)  # type: ignore[no-any-return]
    weights = next(saved)
    columns = weights.shape[-1]
    queries, keys, values = _matrices(group.q(q)), *(_matrices(group.kv(x), columns) for x in (k, v))
    grad_out = _matrices(group.q(grad))
    if dropout is None:
        grad_values = _products(weights.transpose(1, 2), grad_out)
        grad_weights = _products(grad_out, values.transpose(1, 2))
    else:
        kept = next(saved)
        grad_out = grad_out * dropout.scale
        grad_values = _products(only(weights, kept).transpose(1, 2), grad_out)
        grad_weights = only(_products(grad_out, values.transpose(1, 2)), kept)
    grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype).mul_(scale)
    grad_queries, grad_keys = _products(grad_scores, keys), _products(grad_scores.transpose(1, 2), queries)
    shape, wide = group.q(q).shape, (group.count, q.shape[1], columns, q.shape[2])
    grad_keys, grad_values = (x.view(wide)[:, :, : group.num_kv] for x in (grad_keys, grad_values))
    return grad_queries.view(shape), grad_keys, grad_values


def _matrices(x: Tensor, length: int | None = None) -> Tensor:
    """(count, H, n, D) as (count * H, length, D) to compute with; zeros stand behind the n rows."""
    count, heads, num_rows, dim = x.shape
    shape = count, heads, length or num_rows, dim
    matrices = (torch.empty if shape == x.shape else torch.zeros)(shape, dtype=_working(x.dtype))
    matrices[:, :, :num_rows] = x
    return matrices.view(-1, *shape[2:])


def _products(a: Tensor, b: Tensor) -> Tensor:
    """(B, M, K) times (B, K, N) as torch.bmm gives it, with bits of each product that do not depend on B.

    torch.bmm takes another kernel for a product by itself: that one is given company.
    """
    return torch.bmm(a, b) if len(a) > 1 else torch.bmm(_widened(a), _widened(b))[:1]


def _widened(x: Tensor) -> Tensor:
    """x (1, M, N) and zeros behind it, (2, M, N), in memory as x is: that too decides on the kernel."""
    zeros = (0, 0, 0, 0, 0, 1)
    is_transposed = x.stride(1) == 1 and x.stride(2) != 1
    return pad(x.mT, zeros).mT if is_transposed else pad(x, zeros)


def _future(scores: Tensor) -> Tensor:
    return torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device).triu_(1)
