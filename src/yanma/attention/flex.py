"""torch's flex_attention with the mask as a BlockMask: any mask, and blocks that nobody may read are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..masks import Mask, block_mask, block_structure
from .dropout import Dropout
from .problem import Cost, Problem

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

_BLOCK = 128
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def refusal(problem: Problem) -> str | None:
    """Why this backend cannot do it; None = it can."""
    if problem.device.type not in ("cpu", "cuda"):
        return f"runs on CUDA, or forward on a CPU, and this is {problem.device.type}"
    if problem.dtype not in _DTYPES:
        return f"computes in float32, bfloat16 or float16, and this is {problem.dtype}"
    if problem.dropout:
        return "has no dropout"
    if problem.device.type == "cpu" and problem.needs_grad:
        return "has no gradients on a CPU"
    if 0 in (problem.num_q, problem.num_kv):
        return "needs a query and a key"
    return None


def cost(problem: Problem) -> Cost:
    """Blocks of 128 x 128 of which some pair is visible; four tables of a number for each block of queries and keys."""
    found = block_structure(problem.mask, _BLOCK, _BLOCK, (problem.num_q, problem.num_kv))
    blocks = len(found.full.indices) + len(found.partial.indices)
    cells = -(-problem.num_q // _BLOCK) * -(-problem.num_kv // _BLOCK)
    return Cost(blocks * _BLOCK**2, 4 * 4 * cells)


def run(q: Tensor, k: Tensor, v: Tensor, problem: Problem, scale: float, dropout: Dropout | None) -> Tensor:
    """(Tq, H, D)."""
    blocks = _blocks(problem.mask, problem.num_q, problem.num_kv, problem.device)
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    out: Tensor = _kernel(problem.device.type)(q, k, v, block_mask=blocks, scale=scale)
    return out[0].transpose(0, 1)


@lru_cache(maxsize=16)
def _blocks(mask: Mask, num_q: int, num_kv: int, device: torch.device) -> BlockMask:
    """Made once for all layers that share a mask; the last 16 are kept."""
    return block_mask(mask, (num_q, num_kv), device, _BLOCK)


@cache
def _kernel(device: str) -> Callable[..., Tensor]:
    """Compiled where something compiles for the device; else flex_attention as it is, which forms every score."""
    from torch.nn.attention.flex_attention import flex_attention

    if device == "cuda" or shutil.which("g++"):
        return torch.compile(flex_attention)
    return flex_attention
