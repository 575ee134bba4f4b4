"""A `forward` that was put on a module itself hides that of its class, which is what unpad changes.

accelerate's hooks (`cpu_offload`, `dispatch_model`, `device_map`) look up what they have replaced, in `_old_forward`,
in each call, so it can be replaced beneath them. What other wrappers call is known to them alone.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import nn

from ..errors import Unsupported


def check_before_unpad(model: nn.Module, is_changed: Callable[[nn.Module], bool]) -> None:
    """Refuse a model with a hidden forward that unpad would change, or that has modules in it which unpad changes."""
    for name, module in model.named_modules():
        if _is_hidden(module) and (is_changed(module) or any(True for _ in module.children())):
            raise Unsupported(
                f"{_what(model, name)} has had its forward replaced (by accelerate's prepare, or by another wrapper "
                f"or patch), beneath which unpad cannot reach: unpad the model first, then replace it"
            )


def check_before_restore(model: nn.Module) -> None:
    """Refuse a model of which something else was changed after unpad, on top of what unpad changed."""
    for name, module in model.named_modules():
        kind = type(module)
        if not hasattr(kind, "_yanma_stock"):
            continue
        if _is_hidden(module) and kind.forward is not _stock(kind).forward:
            raise Unsupported(
                f"{_what(model, name)} has had its forward replaced after unpad; undo that first (accelerate's "
                f"prepare: accelerator.unwrap_model(model, keep_fp32_wrapper=False)), then restore"
            )
        if "_yanma_stock" not in vars(kind) and not kind.__module__.startswith(f"{__package__}."):
            raise Unsupported(
                f"{_what(model, name)} was made a {kind.__name__} after unpad (as by torch's parametrize or "
                f"fully_shard); undo that first, then restore"
            )


def unhide(model: nn.Module) -> None:
    """Take off modules what only repeats their classes, before these change."""
    for module in model.modules():
        if "forward" in vars(module) and _is_the_class_s(vars(module)["forward"], module):
            del vars(module)["forward"]


def rehook(model: nn.Module) -> None:
    """Let accelerate's hooks call the forwards of the classes that modules have now."""
    for module in model.modules():
        if _is_hooked(module):
            vars(module)["_old_forward"] = MethodType(type(module).forward, module)


def _is_hidden(module: nn.Module) -> bool:
    """Whether calls of a module arrive somewhere else than at its class's forward, or on unknown ways."""
    own = vars(module)
    name = "_old_forward" if _is_hooked(module) else "forward"
    return name in own and not _is_the_class_s(own[name], module)


def _is_hooked(module: nn.Module) -> bool:
    """Whether accelerate's hooks lie on a module."""
    return "_hf_hook" in vars(module) and "_old_forward" in vars(module)


def _is_the_class_s(forward: Any, module: nn.Module) -> bool:
    """Whether it is what a module would have had by itself, as accelerate leaves it behind when it takes hooks off."""
    if not isinstance(forward, MethodType) or forward.__self__ is not module:
        return False
    ours = any("_yanma_stock" in vars(kind) for kind in type(module).__mro__)
    known: list[Any] = [type(module).forward]
    if ours:  # unwrapped, as accelerate's unwrap_model leaves it
        known.append(getattr(type(module).forward, "__wrapped__", None))
    return forward.__func__ in known


def _stock(kind: Any) -> Any:
    return _stock(kind._yanma_stock) if hasattr(kind, "_yanma_stock") else kind


def _what(model: nn.Module, name: str) -> str:
    return f"{name} of this {type(model).__name__}" if name else f"this {type(model).__name__}"
