"""softmax(q kᵀ · scale + bias) v for a batch of equal blocks, and its gradients.

Which of two kernels serves a block depends on its shape and its dtype alone, never on how many blocks there are, so a
block has the same bits in any company.
"""

# B blocks in the batch, H heads, R queries, K keys, D head width

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..keyed import only

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, eq=False)
class Softmax:
    """How scores become weights."""

    scale: float
    causal: bool = False
    bias: Tensor | None = None
    """(B or 1, 1, R, K): 0 or -inf, with a 0 in each row."""
    kept: Tensor | None = None
    """Bool (B, H, R, K): weights that dropout leaves."""
    kept_scale: float = 1.0
    """What those are multiplied by."""

    def with_two_rows(self) -> Softmax:
        """For R = 1 and another query behind it, which sees all keys."""
        bias = None if self.bias is None else pad(self.bias, (0, 0, 0, 1))
        kept = None if self.kept is None else pad(self.kept, (0, 0, 0, 1), value=True)
        return replace(self, bias=bias, kept=kept)


def is_flash(q: Tensor, num_kv: int, softmax: Softmax) -> bool:
    """Whether the flash kernel, which knows no dropout, beats plain products for q (B, H, R, D) and K = `num_kv`.

    Measured on an AVX512 machine with 12 heads of 32: in bf16 above 256 keys, in fp32 above 12. For heads narrower
    than 16, and for one head of one document, the kernel's bits depend on which thread computes them; for fewer than
    4 queries, on where they lie in memory.
    """
    if softmax.kept is not None or q.shape[3] < 16 or q.shape[1] == 1 or q.shape[2] < 4:
        return False
    return num_kv > (256 if q.dtype in (torch.bfloat16, torch.float16) else 12)


def attend(
    q: Tensor,  # (B, H, R, D)
    k: Tensor,  # (B, H, K, D)
    v: Tensor,  # (B, H, K, D)
    softmax: Softmax,
) -> tuple[Tensor, Tensor]:
    """The output (B, H, R, D), and what its backward needs: log-sum-exp (B, H, R), or weights (B * H, R, K)."""
    if _is_one_row(q, k):
        out, saved = attend(_two_rows(q), k, v, softmax.with_two_rows())
        return out[:, :, :1], saved
    if is_flash(q, k.shape[2], softmax):
        return _flash(q, k, v, 0.0, softmax.causal, attn_mask=softmax.bias, scale=softmax.scale)  # type: ignore[no-any-return]
    found, values = weights(q, k, softmax), _matrices(v)
    if softmax.kept is None:
        return _products(found, values).view(q.shape), found
    left = only(found, softmax.kept.view(found.shape))
    return _products(left, values).mul_(softmax.kept_scale).view(q.shape), found


def weights(q: Tensor, k: Tensor, softmax: Softmax) -> Tensor:
    """Attention weights before any is dropped, (B * H, R, K); what `attend` saves without the flash kernel."""
    if _is_one_row(q, k):
        return weights(_two_rows(q), k, softmax.with_two_rows())
    scores = _products(_matrices(q), _matrices(k).transpose(1, 2)).mul_(softmax.scale)
    if softmax.causal:
        scores.masked_fill_(_future(scores), -torch.inf)
    if softmax.bias is not None:
        scores.view(*q.shape[:3], k.shape[2]).add_(softmax.bias)
    return torch.softmax(scores, -1)


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, saved: Tensor, softmax: Softmax
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; `out` and `saved` are what `attend` gave for the same arguments."""
    if _is_one_row(q, k):
        two = _two_rows(grad), _two_rows(q), k, v, _two_rows(out)
        grad_q, grad_k, grad_v = attend_backward(*two, saved, softmax.with_two_rows())
        return grad_q[:, :, :1], grad_k, grad_v
    if is_flash(q, k.shape[2], softmax):
        tensors = grad, q, k, v, out, saved
        return _flash_backward(*tensors, 0.0, softmax.causal, attn_mask=softmax.bias, scale=softmax.scale)  # type: ignore[no-any-return]
    queries, keys, values, grad_out = _matrices(q), _matrices(k), _matrices(v), _matrices(grad)
    if softmax.kept is None:
        grad_values = _products(saved.transpose(1, 2), grad_out)
        grad_weights = _products(grad_out, values.transpose(1, 2))
    else:
        kept = softmax.kept.view(saved.shape)
        grad_out = grad_out * softmax.kept_scale
        grad_values = _products(only(saved, kept).transpose(1, 2), grad_out)
        grad_weights = only(_products(grad_out, values.transpose(1, 2)), kept)
    grad_scores = torch._softmax_backward_data(grad_weights, saved, -1, saved.dtype).mul_(softmax.scale)
    grad_queries, grad_keys = _products(grad_scores, keys), _products(grad_scores.transpose(1, 2), queries)
    return grad_queries.view(q.shape), grad_keys.view(k.shape), grad_values.view(k.shape)


def _is_one_row(q: Tensor, k: Tensor) -> bool:
    """Whether products would be of a single row, whose bits depend on where it lies in memory: it gets company."""
    return q.shape[2] == 1 and k.shape[2] > 1


def _two_rows(x: Tensor) -> Tensor:
    """(B, H, 1, D) with a row of zeros behind it."""
    return pad(x, (0, 0, 0, 1))


def _matrices(x: Tensor) -> Tensor:
    """(B, H, length, D) as (B * H, length, D)."""
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
