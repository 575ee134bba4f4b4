"""explain(): what yanma does with a model, or with one attention call, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from torch import Tensor, nn

from ..attention import Choice
from ..attention import explain as explain_attention
from ..errors import Unsupported
from ..masks import Mask
from . import bits
from .bits import Bits
from .kernels import Kernels, fastest
from .known import check, recognise
from .layer_masks import describe
from .unpad import is_unpadded_one, masks_of
from .wrapped import inner_models


@dataclass(frozen=True)
class ModelExplanation:
    """What `unpad` does, or would do, with a model."""

    model: str
    family: str | None
    unpadded: bool
    refusal: str | None
    kernels: dict[str, Kernels]
    """By dtype and device of the model's linear layers."""
    modules: dict[str, int]
    """How many modules of each class are yanma's subclasses."""
    masks: tuple[Mask | None, ...]
    """What `unpad` was given for each layer; empty for a model that is not unpadded."""
    bits: tuple[Bits, ...]
    """What `exact="bits"` has found, for each dtype, device and number of threads in which the model ran."""

    def __str__(self) -> str:
        if self.refusal is not None:
            return f"{self.model}: cannot be unpadded: {self.refusal}"
        state = "unpadded" if self.unpadded else "not unpadded yet"
        lines = [f"{self.model} (family {self.family}): {state}"]
        lines += describe(self.masks) if any(self.masks) else []
        lines += [f"linear layers in {where}: {kernels}" for where, kernels in self.kernels.items()]
        lines += [f"{count} x {name}" for name, count in self.modules.items()]
        lines += [str(found) for found in self.bits]
        return "\n".join(lines)


@singledispatch
def explain(subject: Any, *args: Any, **kwargs: Any) -> Any:
    """Say what yanma does and why: `explain(model)`, or `explain(q, k, v, mask, dropout=, backend=)`.

    For a model: its family, the masks that were added, the kernels of its linear layers as measured on this machine,
    the modules that `unpad` changed, and what `exact="bits"` has found, or the reason why it refuses. For an attention
    call: the backend, and why not the others. Printing the result gives lines of text.

    >>> import torch, yanma
    >>> from yanma.masks import causal
    >>> q = torch.zeros(3, 1, 8)
    >>> print(str(yanma.explain(q, q, q, causal())).splitlines()[0])
    segments   chosen  9 pairs a head, 0 bytes of mask
    """
    raise TypeError(f"explain() takes a model or q, k, v and a mask; got {type(subject).__name__}")


@explain.register
def _explain_attention(subject: Tensor, *args: Any, **kwargs: Any) -> Choice:
    return explain_attention(subject, *args, **kwargs)


@explain.register
def _explain_model(subject: nn.Module) -> ModelExplanation:
    subject = inner_models(subject)[0]
    name, family, refusal = type(subject).__name__, None, None
    try:
        found, head = recognise(subject)
        family = found.model_type
        if not is_unpadded_one(subject):
            check(subject, found, head)
    except Unsupported as error:
        refusal = str(error)
    linears = [module for module in subject.modules() if isinstance(module, nn.Linear)]
    places = {(module.weight.dtype, module.weight.device) for module in linears}
    kernels = {
        f"{dtype} on {device}".removeprefix("torch."): fastest(dtype, device) for dtype, device in places
    }
    ours = Counter(
        type(module).__name__ for module in subject.modules() if hasattr(type(module), "_yanma_stock")
    )
    return ModelExplanation(
        name,
        family,
        is_unpadded_one(subject),
        refusal,
        kernels,
        dict(ours),
        masks_of(subject),
        bits.found(subject),
    )
