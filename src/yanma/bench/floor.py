"""The floor: the bare matrix products of the real tokens, at the fastest speed that any product reaches here.

No padding, no attention, no norm, no activation, no memory moved in between: nobody who computes this model's linear
layers in this precision on this machine can be faster.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.linear import onednn
from .measure import Turn
from .workloads import Workload

ROWS = 2048
_REPEATS = 3
NAMES = {torch.float32: "floor, fp32", torch.bfloat16: "floor, bf16"}

Shapes = Mapping[tuple[int, int], int]
"""(inputs, outputs) of a linear layer -> how many layers of the model have that shape."""


@dataclass(frozen=True)
class Floor:
    """Seconds that the products alone would take; its turn measures the machine's speed anew."""

    shapes: Shapes
    dtype: torch.dtype
    passes: int = 1
    """1 forward; 3 with backward, which has two products for each one of forward."""

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return NAMES[self.dtype]

    def turn(self, workload: Workload) -> Turn:
        """The turn for a workload."""
        flops = 2.0 * workload.num_tokens * self.passes * sum(i * o * n for (i, o), n in self.shapes.items())
        return lambda: flops / peak(self.shapes, self.dtype)


def linear_shapes(model: nn.Module) -> Shapes:
    """Shapes of a stock model's linear layers that every token goes through."""
    shapes: Counter[tuple[int, int]] = Counter()
    tokens = 3

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Linear)
        if inputs[0].numel() == tokens * module.in_features:
            shapes[module.in_features, module.out_features] += 1

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Linear)]
    with torch.inference_mode():
        model(input_ids=torch.ones(1, tokens, dtype=torch.int64))
    for handle in handles:
        handle.remove()
    return shapes


@torch.inference_mode()
def peak(shapes: Shapes, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest product: any of the shapes, either of torch's kernels, the best of a few repeats."""
    best = 0.0
    for inputs, outputs in shapes:
        rows, weight = torch.ones(ROWS, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
        for product in (F.linear, onednn) if _has_onednn() else (F.linear,):
            for _ in range(_REPEATS):
                start = time.perf_counter()
                product(rows, weight, None)
                best = max(best, 2 * ROWS * inputs * outputs / (time.perf_counter() - start))
    return best


def _has_onednn() -> bool:
    return hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
