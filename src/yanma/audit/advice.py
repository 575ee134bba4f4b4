"""What to do about a check that failed, for each way to run a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import Unsupported
from ..models.known import recognise
from .field import Field

_STEP = (
    "sum the losses of all scored tokens and divide once by their number in the whole step "
    "(yanma train does); a mean of the micro-batches' means weighs short documents too much"
)
_EVAL = "call model.eval(), and look for dropout or noise that does not ask self.training"
_MEANT = "or say who may read whom, as in mask=yanma.masks.causal() (yanma audit --mask causal)"
_TRAINING = "run a step in train() mode in your tests; the error says what is missing"


def stock(model: nn.Module, field: Field, arguments: Mapping[str, Any]) -> dict[str, str]:
    """For a stock model that is called with such arguments."""
    one_row = len(arguments["input_ids"]) == 1
    masks = (
        "attention_mask and decoder_attention_mask" if "decoder_input_ids" in arguments else "attention_mask"
    )
    hide = _hide_documents(model, field, arguments) if one_row else f"pass {masks}, 1 where a token stands"
    return {
        "repeatable": _EVAL,
        "padding": f"pass {masks}, 1 where a token stands, and leave padding out of every mean and position",
        "batch": hide,
        "isolation": hide,
        "gradients": hide,
        "causality": f"the model must hide what comes later: attention under & yanma.masks.causal(); {_MEANT}",
        "agreement": f"{hide}; {_MEANT}",
        "accumulation": _STEP,
        "training": _TRAINING,
    }


def unpadded(model: nn.Module) -> dict[str, str]:
    """For an unpadded model: its promises hold unless something was changed in it."""
    broken = (
        "an unpadded model promises this: undo what was changed in it after unpad (hooks, replaced modules), "
        "or report it with the model's config"
    )
    checks = ("padding", "batch", "isolation", "gradients", "causality", "agreement")
    return dict.fromkeys(checks, broken) | {
        "repeatable": _EVAL,
        "accumulation": _STEP,
        "training": _TRAINING,
    }


def _hide_documents(model: nn.Module, field: Field, arguments: Mapping[str, Any]) -> str:
    """How documents in one row are hidden from each other."""
    mask = arguments.get("attention_mask")
    chosen = getattr(getattr(model, "config", None), "_attn_implementation", None)
    if isinstance(mask, Tensor) and mask.dim() == 4 and mask.dtype == torch.bool and chosen == "eager":
        return (
            "eager attention adds a mask, and adds True as 1: pass yanma.masks.additive(mask, dtype) as "
            "attention_mask, or set_attn_implementation('sdpa')"
        )
    explicit = "pass attention_mask=yanma.masks.additive(mask, dtype) with yanma.masks.documents(lengths)"
    if field.is_causal and mask is None and arguments.get("use_cache") is False:
        return f"this model does not look at position_ids: {explicit} & causal()" + _or_unpad(model)
    if field.is_causal:
        return (
            "pass use_cache=False and attention_mask=None: only then does transformers see where documents begin; "
            f"or {explicit} & causal()" + _or_unpad(model)
        )
    return f"encoders of transformers do not look at position_ids: {explicit}" + _or_unpad(model)


def _or_unpad(model: nn.Module) -> str:
    try:
        recognise(model)
    except Unsupported:
        return ""
    return ", or yanma.unpad(model) and a PackedBatch"
