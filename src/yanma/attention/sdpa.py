"""torch's scaled_dot_product_attention with one dense bool mask (Tq, Tk): any mask, quadratic memory."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .dropout import Dropout
from .problem import Cost, Problem

MAX_MASK_BYTES = 2**30
"""The largest dense mask that is built: 1 GiB, about 32,000 x 32,000."""


def refusal(problem: Problem) -> str | None:
    """Why this backend cannot do it; None = it can."""
    if problem.dropout:
        return "draws dropout from torch's stream, so it would depend on what shares the batch"
    if problem.num_q * problem.num_kv > MAX_MASK_BYTES:
        return (
            f"needs a dense mask of {problem.num_q} x {problem.num_kv} bytes; the bound is {MAX_MASK_BYTES}"
        )
    return None


def cost(problem: Problem) -> Cost:
    """Every pair, and a bool for each."""
    return Cost(problem.num_q * problem.num_kv, problem.num_q * problem.num_kv)


def run(q: Tensor, k: Tensor, v: Tensor, problem: Problem, scale: float, dropout: Dropout | None) -> Tensor:
    """(Tq, H, D)."""
    seen = problem.mask.dense((problem.num_q, problem.num_kv), device=q.device)
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    out = scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale)
    # Rows that see nothing are 0 in today's torch; that is checked in the tests and not promised by torch.
    return out[0].transpose(0, 1).masked_fill(~seen.any(1)[:, None, None], 0)
