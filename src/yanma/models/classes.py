"""Subclasses that go by their parents' names: what a module becomes where it must know of the pack."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn


def mix(module: nn.Module, mixin: Any) -> None:
    """Put `mixin` before a module's class, in place, once; parameters, names and `state_dict` stay as they are.

    Several threads may do so at the same time, as forwards do to what came after `unpad`.
    """
    kind = type(module)
    mixins, stock = vars(kind).get("_yanma_mixed", ((), kind))
    if mixin not in mixins:
        module.__class__ = mixed_class((mixin, *mixins), stock)


def unmix(module: nn.Module) -> None:
    """Give a module its stock class again, if it has another one."""
    while (stock := getattr(type(module), "_yanma_stock", None)) is not None:
        module.__class__ = stock


def stock_class(module: nn.Module) -> Any:
    """The class that a module of an unpadded model goes by."""
    return getattr(type(module), "_yanma_stock", type(module))


def subclass(stock: type[nn.Module], bases: tuple[type, ...], body: dict[str, Any]) -> type[nn.Module]:
    """A subclass that goes by its parent's name, as transformers saves and looks classes up by name."""
    names = {"__module__": stock.__module__, "__qualname__": stock.__qualname__, "__doc__": stock.__doc__}
    return type(stock.__name__, bases, body | names | {"_yanma_stock": stock})


def reduced_to(new: Callable[..., Any], *recipe: Any) -> Callable[[nn.Module, int], tuple[Any, ...]]:
    """A `__reduce_ex__`: copies and pickles name the recipe of a class, which no module holds by its name."""
    return lambda self, protocol: (new, recipe, self.__getstate__())


@functools.cache
def mixed_class(mixins: tuple[Any, ...], stock: Any) -> Any:
    """The subclass that `mix` gives, of all that were put before a class: the last one stands first."""
    recipe = reduced_to(_new_mixed, mixins, stock)
    return subclass(stock, (*mixins, stock), {"__reduce_ex__": recipe, "_yanma_mixed": (mixins, stock)})


def _new_mixed(mixins: tuple[Any, ...], stock: Any) -> Any:
    made = mixed_class(mixins, stock)
    return made.__new__(made)
