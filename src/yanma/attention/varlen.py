"""torch's varlen_attn: documents end to end on CUDA in half precision, with one window or none."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..errors import Unsupported
from ..masks import Mask, Varlen, varlen
from .dropout import Dropout
from .problem import Cost, Problem

_DTYPES = (torch.bfloat16, torch.float16)
_WIDEST = 256


def refusal(problem: Problem) -> str | None:
    """Why this backend cannot do it; None = it can."""
    if problem.device.type != "cuda":
        return f"runs on CUDA, and this is {problem.device.type}"
    if problem.dtype not in _DTYPES:
        return f"computes in bfloat16 or float16, and this is {problem.dtype}"
    if problem.dropout:
        return "has no dropout"
    if problem.head_dim % 8 or problem.head_dim > _WIDEST:
        return f"needs heads of a multiple of 8, up to {_WIDEST}; these are {problem.head_dim} wide"
    try:
        _lowered(problem.mask, problem.num_q, problem.num_kv)
    except Unsupported as error:
        return f"cannot express it: {error}"
    return None


def cost(problem: Problem) -> Cost:
    """Whole documents; a number for each on both sides."""
    found = _lowered(problem.mask, problem.num_q, problem.num_kv)
    pairs = int((found.cu_seqlens_q.diff().long() * found.cu_seqlens_k.diff()).sum())
    return Cost(pairs, found.cu_seqlens_q.nbytes + found.cu_seqlens_k.nbytes)


def run(q: Tensor, k: Tensor, v: Tensor, problem: Problem, scale: float, dropout: Dropout | None) -> Tensor:
    """(Tq, H, D)."""
    from torch.nn.attention.varlen import varlen_attn

    found = _moved(problem.mask, problem.num_q, problem.num_kv, problem.device)
    lengths = (found.cu_seqlens_q, found.cu_seqlens_k, found.max_q, found.max_k)
    options: dict[str, Any] = {"scale": scale, "window_size": found.window}
    if "num_splits" in inspect.signature(varlen_attn).parameters:
        options["num_splits"] = 1  # else a document's bits depend on the longest one beside it
    return varlen_attn(q, k, v, *lengths, **options)  # type: ignore[return-value]


@lru_cache(maxsize=16)
def _moved(mask: Mask, num_q: int, num_kv: int, device: torch.device) -> Varlen:
    """On the device, for all layers that share a mask; the last 16 are kept."""
    found = _lowered(mask, num_q, num_kv)
    with torch.inference_mode(False):  # what inference makes could not be used in training
        q, kv = (lengths.to(device, copy=True) for lengths in (found.cu_seqlens_q, found.cu_seqlens_k))
    return replace(found, cu_seqlens_q=q, cu_seqlens_k=kv)


@lru_cache(maxsize=16)
def _lowered(mask: Mask, num_q: int, num_kv: int) -> Varlen:
    """On the host; Unsupported where the kernel cannot say it."""
    return varlen(mask, (num_q, num_kv))
