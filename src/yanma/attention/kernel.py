"""softmax(q kᵀ · scale + bias) v for a batch of equal blocks, and its gradients; always in float32, or in float64.

Which of two kernels serves a block depends on its shape alone, never on how many blocks there are, so a block has the
same bits in any company.
"""

# B blocks in the batch, H heads, R queries, K keys, D head width, C = max(K, 16) columns of a score matrix

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..keyed import only

MOST_SCORE_BYTES = 2**20
"""Scores that should be in memory at once, where they are: 1 MiB stays in a core's cache."""

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, eq=False)
class Softmax:
    """How scores become weights."""

    scale: float
    causal: bool = False
    bias: Tensor | None = None
    """(B or 1, 1 or H, R, K) in the working dtype: 0 or -inf, with a 0 in each row; by products, any numbers."""
    kept: Tensor | None = None
    """Bool (B, H, R, K or C): weights that dropout leaves."""
    kept_scale: float = 1.0
    """What those are multiplied by."""

    def with_two_rows(self) -> Softmax:
        """For R = 1 and another query behind it, which sees all keys."""
        bias = None if self.bias is None else pad(self.bias, (0, 0, 0, 1))
        kept = None if self.kept is None else pad(self.kept, (0, 0, 0, 1))
        return replace(self, bias=bias, kept=kept)


def working(dtype: torch.dtype) -> torch.dtype:
    """What is computed in: bf16's own batched products build a kernel for every new shape."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def num_columns(num_kv: int) -> int:
    """C: at least 16, as softmax over fewer columns takes three times as long."""
    return max(num_kv, 16)


def is_flash(shape: torch.Size, num_kv: int, dropped: bool) -> bool:
    """Whether the flash kernel, which knows no dropout, beats plain products; shape: (B, H, R, D), `num_kv`: K.

    Measured on an AVX512 machine with 12 heads of 32: above 64 keys. For heads narrower than 16, and for one head of
    one document, the kernel's bits depend on which thread computes them; for fewer than 4 queries, on where they lie
    in memory.
    """
    _, heads, num_q, width = shape
    return not dropped and num_kv > 64 and width >= 16 and heads > 1 and num_q >= 4


def attend(
    q: Tensor,  # (B, H, R, D)
    k: Tensor,  # (B, H, K, D)
    v: Tensor,  # (B, H, K, D)
    softmax: Softmax,
) -> tuple[Tensor, Tensor]:
    """The output (B, H, R, D), and what its backward needs: log-sum-exp (B, H, R), or weights (B * H, R, C)."""
    if _is_one_row(q, k):
        out, saved = attend(_two_rows(q), k, v, softmax.with_two_rows())
        return out[:, :, :1], saved
    if is_flash(q.shape, k.shape[2], softmax.kept is not None):
        tensors = (x.to(working(x.dtype)) for x in (q, k, v))
        return _flash(*tensors, 0.0, softmax.causal, attn_mask=softmax.bias, scale=softmax.scale)  # type: ignore[no-any-return]
    return attend_by_products(q, k, v, softmax)


def attend_by_products(q: Tensor, k: Tensor, v: Tensor, softmax: Softmax) -> tuple[Tensor, Tensor]:
    """`attend` without the flash kernel; autograd can follow it, to the bias too."""
    found = weights(q, k, softmax)
    values = _matrices(v, found.shape[2])
    if softmax.kept is None:
        return products(found, values).view(q.shape), found
    left = only(found, _fitted(softmax.kept, found))
    return products(left, values).mul_(softmax.kept_scale).view(q.shape), found


def weights(q: Tensor, k: Tensor, softmax: Softmax) -> Tensor:
    """Attention weights before any is dropped, (B * H, R, C); what `attend` saves without the flash kernel."""
    if _is_one_row(q, k):
        return weights(_two_rows(q), k, softmax.with_two_rows())
    num_kv = k.shape[2]
    keys = _matrices(k, num_columns(num_kv))
    scores = products(_matrices(q), keys.transpose(1, 2)).mul_(softmax.scale)
    scores[..., num_kv:] = -torch.inf
    if softmax.causal:
        scores.masked_fill_(_future(scores), -torch.inf)
    if softmax.bias is not None:
        scores.view(*q.shape[:3], -1)[..., :num_kv] += softmax.bias
    return torch.softmax(scores, -1)


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, saved: Tensor, softmax: Softmax
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; `out` and `saved` are what `attend` gave for the same arguments."""
    if _is_one_row(q, k):
        two = _two_rows(grad), _two_rows(q), k, v, _two_rows(out)
        grad_q, grad_k, grad_v = attend_backward(*two, saved, softmax.with_two_rows())
        return grad_q[:, :, :1], grad_k, grad_v
    if is_flash(q.shape, k.shape[2], softmax.kept is not None):
        tensors = (x.to(working(x.dtype)) for x in (grad, q, k, v, out))
        return _flash_backward(  # type: ignore[no-any-return]
            *tensors, saved, 0.0, softmax.causal, attn_mask=softmax.bias, scale=softmax.scale
        )
    columns = saved.shape[2]
    queries, grad_out = _matrices(q), _matrices(grad)
    keys, values = _matrices(k, columns), _matrices(v, columns)
    if softmax.kept is None:
        grad_values = products(saved.transpose(1, 2), grad_out)
        grad_weights = products(grad_out, values.transpose(1, 2))
    else:
        kept = _fitted(softmax.kept, saved)
        grad_out = grad_out * softmax.kept_scale
        grad_values = products(only(saved, kept).transpose(1, 2), grad_out)
        grad_weights = only(products(grad_out, values.transpose(1, 2)), kept)
    grad_scores = torch._softmax_backward_data(grad_weights, saved, -1, saved.dtype).mul_(softmax.scale)
    grad_queries, grad_keys = products(grad_scores, keys), products(grad_scores.transpose(1, 2), queries)
    wide = (*k.shape[:2], columns, k.shape[3])
    grad_keys, grad_values = (x.view(wide)[:, :, : k.shape[2]] for x in (grad_keys, grad_values))
    return grad_queries.view(q.shape), grad_keys, grad_values


def _is_one_row(q: Tensor, k: Tensor) -> bool:
    """Whether products would be of a single row, whose bits depend on where it lies in memory: it gets company."""
    return q.shape[2] == 1 and k.shape[2] > 1


def _two_rows(x: Tensor) -> Tensor:
    """(B, H, 1, D) with a row of zeros behind it."""
    return pad(x, (0, 0, 0, 1))


def _fitted(kept: Tensor, like: Tensor) -> Tensor:
    """What stays, in the shape of the weights (B * H, R, C)."""
    missing = like.shape[2] - kept.shape[3]
    return (pad(kept, (0, missing)) if missing else kept).view(like.shape)


def _matrices(x: Tensor, length: int | None = None) -> Tensor:
    """(B, H, n, D) as (B * H, length, D) to compute with; zeros stand behind the n rows."""
    count, heads, num_rows, dim = x.shape
    shape = count, heads, length or num_rows, dim
    matrices = (torch.empty if shape == x.shape else torch.zeros)(shape, dtype=working(x.dtype))
    matrices[:, :, :num_rows] = x
    return matrices.view(-1, *shape[2:])


def products(a: Tensor, b: Tensor) -> Tensor:
    """(B, M, K) times (B, K, N) as torch.bmm gives it, with bits of each product that do not depend on B.

    torch.bmm takes another kernel for a product by itself: that one is given company.
    """
    return torch.bmm(a, b) if len(a) > 1 else torch.bmm(_widened(a), _widened(b))[:1]


def rows_times(a: Tensor, b: Tensor) -> Tensor:
    """(M, R, N) of a (M, R, X) and b (M, X, N); a single row, whose bits depend on where it lies, gets company."""
    return products(a, b) if a.shape[1] > 1 else products(pad(a, (0, 0, 0, 1)), b)[:, :1]


def _widened(x: Tensor) -> Tensor:
    """x (1, M, N) and zeros behind it, (2, M, N), in memory as x is: that too decides on the kernel."""
    zeros = (0, 0, 0, 0, 0, 1)
    is_transposed = x.stride(1) == 1 and x.stride(2) != 1
    return pad(x.mT, zeros).mT if is_transposed else pad(x, zeros)


def _future(scores: Tensor) -> Tensor:
    return torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device).triu_(1)
