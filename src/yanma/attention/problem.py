"""What a backend is asked to compute, without the tensors: enough to accept or to refuse."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..masks import Mask
from ..masks.algebra import has_documents


@dataclass(frozen=True)
class Problem:
    """Shapes and arguments of one attention call."""

    mask: Mask
    num_q: int
    num_kv: int
    num_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device
    dropout: float
    needs_grad: bool
    """Whether gradients of q, k or v will be asked for."""

    @classmethod
    def of(cls, q: Tensor, k: Tensor, v: Tensor, mask: Mask, dropout: float) -> Problem:
        """Check shapes once, here; backends rely on them."""
        if not isinstance(mask, Mask):
            raise TypeError(
                f"mask is a {type(mask).__name__}, not a mask; wrap a bool tensor in from_dense()"
            )
        for name, tensor in (("q", q), ("k", k), ("v", v)):
            if tensor.dim() != 3:
                raise ValueError(f"{name} must be (tokens, heads, head width); got {tuple(tensor.shape)}")
            if (tensor.dtype, tensor.device) != (q.dtype, q.device):
                raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}, q is {q.dtype} on {q.device}")
        if k.shape != v.shape or k.shape[2] != q.shape[2]:
            raise ValueError(
                f"k {tuple(k.shape)} and v {tuple(v.shape)} must agree, and with q {tuple(q.shape)} in width"
            )
        if not q.is_floating_point():
            raise ValueError(
                f"q, k and v are {q.dtype}; attention is computed in floats, such as torch.float32"
            )
        if 0 in (*q.shape[1:], k.shape[1]):
            raise ValueError(f"q {tuple(q.shape)} and k {tuple(k.shape)} need a head, and a number in it")
        if q.shape[1] % k.shape[1]:
            raise ValueError(f"{q.shape[1]} query heads cannot share {k.shape[1]} key heads evenly")
        if mask.frame is None and has_documents(mask):
            raise ValueError(
                f"{mask.describe()} has documents without lengths, and {len(q)} queries would pass for one document; "
                f"say where documents lie with mask.bind(lengths)"
            )
        if mask.shape not in (None, (len(q), len(k))):
            raise ValueError(
                f"{mask.describe()} is {mask.shape}, but there are {len(q)} queries and {len(k)} keys"
            )
        needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
        return cls(mask, len(q), len(k), q.shape[1], q.shape[2], q.dtype, q.device, dropout, needs_grad)


@dataclass(frozen=True)
class Cost:
    """What a backend would do for a call: an estimate, from the mask alone."""

    pairs: int
    """(query, key) pairs that are computed, for each head; those that a kernel skips by itself are counted too."""
    mask_bytes: int
    """Memory of the mask in the form that the backend needs."""

    def __str__(self) -> str:
        return f"{self.pairs:,} pairs a head, {self.mask_bytes:,} bytes of mask"
