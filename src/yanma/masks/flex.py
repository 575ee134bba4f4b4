"""Masks for torch's flex_attention: a mask_mod that looks intervals up, and its BlockMask."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from .intervals import Intervals
from .mask import Mask, Shape
from .tiles import of_intervals

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def mask_mod(mask: Mask, n: int | Shape | None = None, device: torch.device | str = "cpu") -> MaskMod:
    """The mask as a function (b, h, q_idx, kv_idx) -> bool for `flex_attention`, the same for all b and h.

    All come from one factory and close over two tensors (Tq, K), K a power of two and at least 4: what is compiled for
    one batch serves the next, of another mask too, as long as K is the same.

    >>> from yanma.masks import causal
    >>> allowed = mask_mod(causal(), 4)
    >>> bool(allowed(0, 0, torch.tensor(1), torch.tensor(0))), bool(allowed(0, 0, torch.tensor(0), torch.tensor(1)))
    (True, False)
    """
    return _of_intervals(mask.intervals(n), device)


def _of_intervals(runs: Intervals, device: torch.device | str) -> MaskMod:
    width = max(4, 1 << max(0, runs.starts.shape[1] - 1).bit_length())
    starts, ends = (
        pad(x, (0, width - x.shape[1]), value=runs.num_kv).to(device) for x in (runs.starts, runs.ends)
    )
    return _from_table(starts, ends)


def _from_table(starts: Tensor, ends: Tensor) -> MaskMod:
    """Whether the last run that does not start after the key holds it; found by halving."""
    width = starts.shape[1]

    def allowed(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        column = torch.zeros_like(q_idx + kv_idx)
        step = width // 2
        while step:
            column = torch.where(starts[q_idx, column + step] <= kv_idx, column + step, column)
            step //= 2
        return (starts[q_idx, column] <= kv_idx) & (kv_idx < ends[q_idx, column])

    return allowed


def block_mask(
    mask: Mask,
    n: int | Shape | None = None,
    device: torch.device | str = "cpu",
    block_size: int | tuple[int, int] = 128,
) -> BlockMask:
    """torch's BlockMask of this mask, from intervals: `create_block_mask` would look at every pair.

    `block_size` is that of queries and keys, or of each.

    >>> from yanma.masks import causal
    >>> block_mask(causal(), 256).kv_num_blocks.tolist(), block_mask(causal(), 256).full_kv_num_blocks.tolist()
    ([[[1, 1]]], [[[0, 1]]])
    """
    from torch.nn.attention.flex_attention import BlockMask

    if 0 in mask._grid(n).shape:
        raise ValueError(
            f"block_mask: torch's BlockMask needs a query and a key; {mask.describe()} lacks one"
        )
    q_size, kv_size = (block_size, block_size) if isinstance(block_size, int) else block_size
    runs = mask.intervals(n)
    found = of_intervals(runs, q_size, kv_size)
    width = -(-found.num_kv // kv_size)
    partial, full = (
        (lists.counts()[None, None].to(device), lists.padded(width)[None, None].to(device))
        for lists in (found.partial, found.full)
    )
    return BlockMask.from_kv_blocks(
        *partial,
        *full,
        BLOCK_SIZE=(q_size, kv_size),
        mask_mod=_of_intervals(runs, device),
        seq_lengths=(found.num_q, found.num_kv),
    )
