"""The oracle: attention as the textbook writes it, in any float type, with the whole (H, Tq, Tk) matrix in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from .dropout import Dropout, document_lengths
from .problem import Cost, Problem

MAX_SCORE_BYTES = 2**32
"""The largest (H, Tq, Tk) of scores that is formed, 4 GiB: about 9,000 x 9,000 for 12 heads in fp32. There are about
four tensors of this size at a time."""


def refusal(problem: Problem) -> str | None:
    """Why this backend cannot do it; None = it can. The reference can do everything that fits the memory."""
    scores = problem.num_heads * problem.num_q * problem.num_kv * problem.dtype.itemsize
    if scores > MAX_SCORE_BYTES:
        return (
            f"needs several tensors of {scores} bytes, a score for each pair; the bound is {MAX_SCORE_BYTES}"
        )
    return None


def cost(problem: Problem) -> Cost:
    """Every pair, and a bool for each."""
    return Cost(problem.num_q * problem.num_kv, problem.num_q * problem.num_kv)


def run(q: Tensor, k: Tensor, v: Tensor, problem: Problem, scale: float, dropout: Dropout | None) -> Tensor:
    """softmax over the keys that may be read, (Tq, H, D); a query that may read nothing gives 0."""
    seen = problem.mask.dense((problem.num_q, problem.num_kv), device=q.device)
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    scores = scores.masked_fill(~seen, -torch.inf)
    # Weights are the same whatever is subtracted, so it needs no gradient.
    top = scores.detach().amax(-1, keepdim=True) if problem.num_kv else scores.detach().sum(-1, keepdim=True)
    top = top.clamp(min=torch.finfo(q.dtype).min)
    weights = torch.exp(scores - top)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)
    if dropout is not None:
        weights = weights * _keep(dropout, problem) * dropout.scale
    return torch.einsum("hqk,khd->qhd", weights, v)


def _keep(dropout: Dropout, problem: Problem) -> Tensor:
    """Bool (H, Tq, Tk): the documents' own blocks; outside them no weight is left to drop."""
    lengths = document_lengths(problem.mask) or [(problem.num_q, problem.num_kv)]
    kept = torch.ones(
        problem.num_heads, problem.num_q, problem.num_kv, dtype=torch.bool, device=problem.device
    )
    row = column = 0
    for num_q, num_kv in lengths:
        block = dropout.keep(slice(row, row + num_q), num_q, num_kv)[0] if num_q else True
        kept[:, row : row + num_q, column : column + num_kv] = block
        row, column = row + num_q, column + num_kv
    return kept
