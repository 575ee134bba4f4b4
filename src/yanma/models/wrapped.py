"""Models within models: what sentence-transformers and peft put around a model of transformers'."""

from __future__ import annotations

from os import PathLike
from typing import Any

from torch import nn

from . import sentence


def inner_models(model: nn.Module) -> list[nn.Module]:
    """The models of transformers' to unpad: itself, or what its wrapper holds. TypeError for what is no model."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"a {type(model).__name__} is no model (torch.nn.Module); {_where_it_is(model)}")
    if sentence.is_sentence_model(model):
        return [inner for module in sentence.transformers_in(model) for inner in inner_models(module.model)]
    if is_peft_model(model):
        wrapper: Any = model
        return inner_models(wrapper.get_base_model())
    return [model]


def _where_it_is(found: Any) -> str:
    """How to come from what is no model to one."""
    if isinstance(found, str | PathLike):
        return (
            f"load it first: AutoModel.from_pretrained({str(found)!r}), or another of transformers' classes"
        )
    if isinstance(getattr(found, "model", None), nn.Module):
        return "give the one that it holds, its attribute model"
    if hasattr(found, "model_type"):
        return "make one of it first: AutoModel.from_config(config), or another of transformers' classes"
    return "give one of transformers', sentence-transformers' or peft's"


def peft_wrappers(model: nn.Module) -> list[nn.Module]:
    """What peft has put around models of transformers': the model itself, or within it."""
    return [module for module in model.modules() if is_peft_model(module)]


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
