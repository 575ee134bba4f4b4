"""torch's flex_attention with the mask as a BlockMask: any mask, and blocks that nobody may read are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..masks import Mask, block_mask, block_structure
from .dropout import Dropout
from .lru_cache import LRUCache, key_bytes
from .problem import Cost, Problem

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

_BLOCK = 128
_NARROWEST = 16
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


Key = tuple[Mask, int, int, torch.device]
"""The mask, how many queries and keys there are, and where."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """A mask as torch's kernel takes it."""

    mask: BlockMask
    num_bytes: int


BLOCKS = LRUCache[Key, Blocks](max_bytes=2**28)
"""256 MiB on all devices together: a model's layers, and batches of the same lengths, share what was made once."""


MAX_TABLE_BYTES = 2**30
"""The largest tables of blocks that torch's BlockMask may have, 1 GiB: about 1,000,000 x 1,000,000 tokens."""


def refusal(problem: Problem) -> str | None:
    """Why this backend cannot do it; None = it can."""
    if problem.device.type not in ("cpu", "cuda"):
        return f"runs on CUDA, or forward on a CPU, and this is {problem.device.type}"
    if problem.dtype not in _DTYPES:
        return f"computes in float32, bfloat16 or float16, and this is {problem.dtype}"
    if problem.dropout:
        return "has no dropout"
    if problem.device.type == "cuda" and problem.head_dim < _NARROWEST:
        return f"needs heads of at least {_NARROWEST} on CUDA; these are {problem.head_dim} wide"
    if problem.device.type == "cpu" and problem.needs_grad:
        return "has no gradients on a CPU"
    if 0 in (problem.num_q, problem.num_kv):
        return "needs a query and a key"
    if _table_bytes(problem) > MAX_TABLE_BYTES:
        return f"needs tables of {_table_bytes(problem)} bytes, of all blocks; the bound is {MAX_TABLE_BYTES}"
    return None


def cost(problem: Problem) -> Cost:
    """Blocks of 128 x 128 of which some pair is visible; four tables of a number for each block of queries and keys."""
    found = block_structure(problem.mask, _BLOCK, _BLOCK, (problem.num_q, problem.num_kv))
    blocks = len(found.full.indices) + len(found.partial.indices)
    return Cost(blocks * _BLOCK**2, _table_bytes(problem))


def _table_bytes(problem: Problem) -> int:
    """Four tables of an int32 for each block of queries and each of keys."""
    return 4 * 4 * -(-problem.num_q // _BLOCK) * -(-problem.num_kv // _BLOCK)


def run(q: Tensor, k: Tensor, v: Tensor, problem: Problem, scale: float, dropout: Dropout | None) -> Tensor:
    """(Tq, H, D)."""
    key = problem.mask, problem.num_q, problem.num_kv, problem.device
    blocks = BLOCKS.get(key, _blocks).mask
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    out: Tensor = _kernel(problem.device.type)(q, k, v, block_mask=blocks, scale=scale)
    return out[0].transpose(0, 1)


def _blocks(key: Key) -> Blocks:
    mask, num_q, num_kv, device = key
    with torch.inference_mode(False):  # what inference makes could not be used in training
        made = block_mask(mask, (num_q, num_kv), device, _BLOCK)
    looked_up = (cell.cell_contents for cell in made.mask_mod.__closure__ or ())
    tensors = [x for x in (*made.as_tuple(), *looked_up) if isinstance(x, Tensor)]
    return Blocks(made, key_bytes(mask) + sum(x.nbytes for x in tensors))


@cache
def _kernel(device: str) -> Callable[..., Tensor]:
    """Compiled where something compiles for the device; else flex_attention as it is, which forms every score.

    Compiled for any lengths at once; with too many kinds of calls torch raises, where it would else form every score.
    """
    from torch.nn.attention.flex_attention import flex_attention

    if device == "cuda":
        return torch.compile(flex_attention, dynamic=True, fullgraph=True)
    if shutil.which("g++"):  # the CPU's code generator fails on sizes that it does not know
        return torch.compile(flex_attention, dynamic=False)
    return flex_attention
