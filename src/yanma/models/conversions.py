"""What makes another model of one, and does not know of packs: torch's quantization, traces and exports."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import Unsupported


def check_quantized(model: nn.Module) -> None:
    """Refuse layers that take something for all tokens of a batch from all of them, so that company would matter."""
    for name, module in model.named_modules():
        kind = type(module)
        if kind.__module__.startswith(("torch.ao.nn.quantized.dynamic", "torch.ao.nn.qat")):
            raise Unsupported(
                f"{name} of this {type(model).__name__} was quantized by torch ({kind.__module__}): it scales all "
                f"tokens of a batch by their largest, so that a text's numbers would depend on its company; unpad "
                f"the model as it was before that"
            )
        threshold = getattr(getattr(module, "state", None), "threshold", 6.0)
        if kind.__name__ == "Linear8bitLt" and threshold:
            raise Unsupported(
                f"{name} of this {type(model).__name__} is a Linear8bitLt with outliers above {threshold}, which are "
                f"looked for in all tokens of a batch, so that a text's numbers would depend on its company; load it "
                f"with llm_int8_threshold=0, or in 4 bits"
            )


def refuse_capture(model: nn.Module) -> None:
    """Refuse a forward that is recorded to be run again: it is one for the documents of one pack alone."""
    if torch._C._is_tracing() or torch.compiler.is_exporting():
        raise Unsupported(
            f"a trace or an export of this unpadded {type(model).__name__} would be right for one batch alone; "
            f"yanma.restore(model) gives the stock model, which can be traced and exported"
        )


def _refuse_quantization(module: nn.Module, qconfig: Any) -> None:
    raise Unsupported(
        f"torch's quantization looks for layers by their very classes, which unpad has changed: it would pass over "
        f"this {type(module).__name__}; yanma.restore(model) gives the stock model, which can be quantized"
    )


REFUSES_QUANTIZATION = property(None, _refuse_quantization)
"""For a class's `qconfig`: the attribute by which torch marks each module of a model that it is to quantize."""
