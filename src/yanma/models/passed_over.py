"""Positions that tell documents apart, and would not arrive where a pack is made of them.

Two callers pass them over: peft's wrapper for prompts leaves them out before the model is called, and its prefix tuning
calls the base model of a head by itself. Both calls are heard before that, by hooks, and refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import Unsupported
from .bounds import reached_alone
from .by_keyword import told_by_positions
from .classes import stock_class
from .family import Family
from .known import recognise
from .layout import running
from .wrapped import peft_wrappers


def hear_wrappers(model: nn.Module) -> None:
    """Refuse such calls of what peft has put around unpadded models, `model` or models in it."""
    for wrapper in peft_wrappers(model):
        _hear(wrapper, _before_peft)


def hear_base(model: Any, family: Family) -> None:
    """Refuse such calls of the base model of an encoder with a head, which would take its row for one text.

    Decoders take keys and values themselves, and their steps have positions of their own.
    """
    if model.base_model is not model and not (family.caches or family.cross_attention or family.is_speech):
        _hear(model.base_model, _before_part)


def hear_no_more(model: nn.Module) -> None:
    """Take the hooks off a model and all that is in it."""
    for module in model.modules():
        hooks = module._forward_pre_hooks
        for key in [key for key, hook in hooks.items() if hook in (_before_peft, _before_part)]:
            del hooks[key], module._forward_pre_hooks_with_kwargs[key]


def _hear(module: nn.Module, hook: Any) -> None:
    if hook not in module._forward_pre_hooks.values():
        module.register_forward_pre_hook(hook, with_kwargs=True)


def _before_peft(wrapper: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    given, model = _by_name(wrapper, args, kwargs), wrapper.get_base_model()
    if given.get("position_ids") is None or stock_class(model) is type(model):  # it may be restored by itself
        return
    config, name = wrapper.active_peft_config, type(wrapper).__name__
    if _leaves_out_positions(wrapper) and told_by_positions(model, recognise(model)[0], given):
        kind = getattr(config.peft_type, "value", config.peft_type)
        others = "" if config.is_prompt_learning else ", or say it by cu_seq_lens_q or seq_idx"
        raise Unsupported(
            f"position_ids say that a row holds several documents, but peft's {name} with {kind} leaves position_ids "
            f"out; give padded rows (input_ids and attention_mask){others}"
        )


def _before_part(part: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if running() is not None:
        return
    given = _by_name(part, args, kwargs)
    if told_by_positions(part, recognise(part)[0], given):
        raise reached_alone("position_ids")


def _by_name(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    names = list(inspect.signature(stock_class(module).forward).parameters)[1:] if args else ()
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def _leaves_out_positions(wrapper: Any) -> bool:
    """Whether the model within is not told of them.

    So it is with all tokens that are put before a text, unless they are switched off; prefix tuning hands positions on
    to a cache. And peft's wrapper for questions has a place for positions, but hands nothing on from it.
    """
    prompts = wrapper.active_peft_config.is_prompt_learning
    if prompts and getattr(wrapper, "_adapters_disabled", False):
        return False
    return prompts or "position_ids" in inspect.signature(type(wrapper).forward).parameters
