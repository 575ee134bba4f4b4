"""AdamW and its learning rate."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn


def adamw(model: nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over what is trained; biases and LayerNorm (everything that is no matrix) do not decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    try:
        return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    except RuntimeError:  # a device without the fused kernel
        return torch.optim.AdamW(groups, lr=learning_rate)


def scale(step: int, num_steps: int, *, warmup: float, schedule: Literal["linear", "cosine"]) -> float:
    """Share of the highest learning rate that step `step` of `num_steps` (from 0) moves with.

    Rises over the first `warmup` share of the steps, then falls towards 0; no step moves with 0.

    >>> [scale(step, 4, warmup=0.5, schedule="linear") for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rising = round(warmup * num_steps)
    if step < rising:
        return (step + 1) / rising
    left = (num_steps - step) / (num_steps - rising)  # 1 at the top, 1 / (steps that fall) in the last step
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2
