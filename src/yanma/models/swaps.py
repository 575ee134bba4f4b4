"""What each module of a model becomes, so that it knows of the pack."""

from __future__ import annotations

from typing import Any

from torch import nn

from . import activations, modules
from .adapters import is_peft_layer
from .classes import mix
from .family import Family
from .linear import Linear, is_plain


def swap(module: nn.Module, site: int, family: Family) -> None:
    """Give a module that must know of the pack its subclass; `site` tells layers apart for dropout."""
    name, mixin = type(module).__name__, becomes(module, family)
    if mixin in (Linear, modules.Dropout):
        module.__class__ = mixin
    elif mixin is not None:
        mix(module, mixin)
    if isinstance(module, modules.Dropout | modules.DropsInForward) or name == family.attention:
        module._yanma_site = site  # type: ignore[assignment]


def becomes(module: nn.Module, family: Family) -> Any:
    """What a module is made a subclass of, so that it knows of the pack; None where it need not."""
    if is_peft_layer(module):  # its Conv1d is called as torch's is
        return None
    name = type(module).__name__
    if is_plain(module):
        return Linear
    if type(module) is nn.Dropout:
        return modules.Dropout
    if name in family.mixins:
        return family.mixins[name]
    if name in family.drops_in_forward:
        return modules.DropsInForward
    if name in BY_CLASS:
        return BY_CLASS[name]
    if name in family.pools_input:
        return modules.FirstTokenInput
    if name == family.intermediate:
        return modules.FusedFeedForward if hasattr(module, "lin1") else modules.FusedIntermediate
    if any(kind.__name__ == "GradientCheckpointingLayer" for kind in type(module).__mro__):
        return modules.Checkpointed
    return None


BY_CLASS = {
    "Conv1D": modules.TransposedLinear,
    "SiLU": activations.SteadySilu,
    "SiLUActivation": activations.SteadySilu,
    "GELU": activations.SteadyGelu,
    "GELUActivation": activations.SteadyGelu,
    "GELUTanh": activations.SteadyGeluTanh,
    "QuickGELUActivation": activations.SteadyQuickGelu,
    "ClippedGELUActivation": activations.SteadyGelu,
    **dict.fromkeys(activations.BY_FORMULA, activations.SteadyByFormula),
    "_Float32Linear": modules.Float32Linear,
}
"""Modules that stand in models of several families."""


def pooling(model: Any) -> str:
    """How a head that reads its base model itself makes one state of a document's: `cls`, `mean`, or `late`."""
    return getattr(model.config, "classifier_pooling", "cls")
