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
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from ..keyed import only
from ..masks import Documents, Full, Window
from .dropout import Dropout, document_lengths
from .problem import Problem

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


class _Segments(torch.autograd.Function):
    """One node for the whole pack: autograd's own slices would each write a gradient as long as the pack."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor,
        groups: tuple[_Group, ...], causal: bool, scale: float, dropout: Dropout | None,
    ) -> Tensor:  # fmt: skip
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out = torch.empty_like(q)
        saved: list[Tensor] = []
        for group in groups:
            if not (group.num_q and group.num_kv):
                out[group.q_rows] = 0
                continue
            result, *kept = _forward(group, q, k, v, causal, scale, dropout)
            group.q(out).copy_(result)
            saved += kept
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
            parts = _backward(group, q, k, v, out, grad, rest, ctx.causal, ctx.scale, ctx.dropout)
            for whole, view, part in zip(grads, (group.q, group.kv, group.kv), parts, strict=True):
                view(whole).copy_(part)
        return *grads, None, None, None, None


def _is_flash(group: _Group, q: Tensor, dropout: Dropout | None) -> bool:
    """Whether the flash kernel, which knows no dropout, beats plain products; by lengths, width and dtype alone.

    Measured on an AVX512 machine with 12 heads of 32: in bf16 above 256 keys, in fp32 above 12. For heads narrower
    than 16, and for one head of one document, the kernel's bits depend on which thread computes them.
    """
    if dropout is not None or q.shape[2] < 16 or q.shape[1] == 1:
        return False
    return group.num_kv > (256 if q.dtype in (torch.bfloat16, torch.float16) else 12)


def _forward(
    group: _Group, q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, dropout: Dropout | None
) -> tuple[Tensor, ...]:
    """One group's output (count, H, num_q, D), and what its backward needs: log-sum-exp, or weights and what stays."""
    if _is_flash(group, q, dropout):
        out, logsumexp = _flash(group.q(q), group.kv(k), group.kv(v), 0.0, causal, scale=scale)
        return out, logsumexp
    queries, keys, values = _matrices(group.q(q)), _matrices(group.kv(k)), _matrices(group.kv(v))
    scores = _products(queries, keys.transpose(1, 2)).mul_(scale)
    if causal:
        scores.masked_fill_(_future(scores), -torch.inf)
    weights = torch.softmax(scores, -1)
    shape = group.q(q).shape
    if dropout is None:
        return _products(weights, values).view(shape), weights
    kept = dropout.keep(group.q_rows, group.num_q, group.num_kv).view(weights.shape)
    return _products(only(weights, kept), values).mul_(dropout.scale).view(shape), weights, kept


def _backward(
    group: _Group, q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, saved: Iterator[Tensor],
    causal: bool, scale: float, dropout: Dropout | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of one group's queries, keys and values, each (count, H, length, D)."""
    if _is_flash(group, q, dropout):
        tensors = group.q(grad), group.q(q), group.kv(k), group.kv(v), group.q(out)
        return _flash_backward(*tensors, next(saved), 0.0, causal, scale=scale)  # type: ignore[no-any-return]
    weights = next(saved)
    queries, keys, values = _matrices(group.q(q)), _matrices(group.kv(k)), _matrices(group.kv(v))
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
    shape, kv_shape = group.q(q).shape, group.kv(k).shape
    return grad_queries.view(shape), grad_keys.view(kv_shape), grad_values.view(kv_shape)


def _matrices(x: Tensor) -> Tensor:
    """(count, H, length, D) as (count * H, length, D)."""
    return x.reshape(-1, *x.shape[2:])


def _products(a: Tensor, b: Tensor) -> Tensor:
    """(B, M, K) times (B, K, N) as torch.bmm gives it, with bits of each product that do not depend on B.

    torch.bmm takes another kernel for a product by itself (fp32) and for up to 4096 multiplications in all (bf16):
    thinner batches are widened with zeros.
    """
    count = len(a)
    least = 2 if a.dtype == torch.float32 else max(2, 4096 // (a[0].numel() * b.shape[2]) + 1)
    if count >= least:
        return torch.bmm(a, b)
    return torch.bmm(_widened(a, least), _widened(b, least))[:count]


def _widened(x: Tensor, count: int) -> Tensor:
    """x (B, M, N) and products of zeros behind it, (count, M, N), in memory as x is: that too decides on the kernel."""
    zeros = (0, 0, 0, 0, 0, count - len(x))
    is_transposed = x.stride(1) == 1 and x.stride(2) != 1
    return pad(x.mT, zeros).mT if is_transposed else pad(x, zeros)


def _future(scores: Tensor) -> Tensor:
    return torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device).triu_(1)
