"""Models within models: what sentence-transformers and peft put around a model of transformers'."""

from __future__ import annotations

from typing import Any

from torch import nn

from . import sentence


def inner_models(model: nn.Module) -> list[nn.Module]:
    """The models of transformers' to unpad: itself, or what its wrapper holds."""
    if sentence.is_sentence_model(model):
        return [inner for module in sentence.transformers_in(model) for inner in inner_models(module.model)]
    if is_peft_model(model):
        wrapper: Any = model
        return inner_models(wrapper.get_base_model())
    return [model]


def is_peft_model(model: nn.Module) -> bool:
    """Whether a model is what peft's `get_peft_model` gives."""
    return any(kind.__module__ == "peft.peft_model" for kind in type(model).__mro__)


def rebind(model: nn.Module) -> None:
    """Let peft's wrapper of an adaption prompt, which keeps the forward of its model, call the one that it has now."""
    if is_peft_model(model):
        wrapper: Any = model
        tuner: Any = wrapper.base_model
        if getattr(vars(tuner).get("forward"), "__self__", None) is wrapper.get_base_model():
            tuner.forward = wrapper.get_base_model().forward
