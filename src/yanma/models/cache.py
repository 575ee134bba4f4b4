"""Keys and values of earlier tokens: kept in padded rows by calls that ask for it, and refused to who goes on without.

transformers calls them `past_key_values` up to 5.23, and `cache` from 5.24 on.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, NoReturn

from ..errors import Unsupported
from .family import Family, Head

NAMES = ("past_key_values", "cache")


_WHY = (
    "an unpadded forward keeps no keys and values to go on from; give use_cache=True to the call that this output came "
    "from, with padded rows: it then keeps them"
)


class _NotKept(Unsupported, AttributeError):
    """Also an AttributeError, as whoever looks whether it is a tensor, or has a method, must be able to."""


class NotKept:
    """What stands in an output where a stock model has keys and values; any use of it is refused."""

    def _refuse(self, *args: Any) -> NoReturn:
        raise _NotKept(_WHY)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    __len__ = __iter__ = __getitem__ = __bool__ = _refuse


def is_step(model: Any, family: Family, head: Head, batch: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a call is such as `generate` or prefix tuning makes: with keys and values, or to be gone on from."""
    if any(name in kwargs for name in NAMES):
        _check_handed_on(model, batch, kwargs)
        return True
    if batch is not None:
        return False
    keeps = kwargs.get("logits_to_keep", 0)
    if bool(model.can_generate()) and not (isinstance(keeps, int) and keeps == 0):
        return True
    asked = (kwargs.get(name) for name in ("use_cache", "encoder_outputs"))
    return _may_keep(model, family, head) and any(value not in (None, False) for value in asked)


def for_stock(model: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a step, keys and values by the name by which this transformers takes them."""
    seed, room = (kwargs.pop(name, None) for name in ("seed", "max_logits_mib"))
    if room is not None or (seed is not None and model.training):
        raise Unsupported(
            f"{'seed' if room is None else 'max_logits_mib'} does not go with a key-value cache or logits_to_keep: "
            f"such a call goes through the stock forward, which does not know it; leave one of them out"
        )
    handed = [kwargs.pop(name) for name in NAMES if name in kwargs]
    return kwargs | {name_of(model): each for each in handed}


def name_of(model: Any) -> str:
    """By which name the stock model takes keys and values."""
    old, new = NAMES
    return new if new in _taken(model) else old


def _check_handed_on(model: Any, batch: Any, kwargs: Mapping[str, Any]) -> None:
    (name, *more), taken = [name for name in NAMES if name in kwargs], _taken(model)
    if isinstance(kwargs[name], NotKept):
        raise _NotKept(_WHY)
    what = f"{name} (a key-value cache, such as peft's prefix tuning hands on)"
    if more:
        raise ValueError("past_key_values and cache are the same; give one of them")
    if batch is not None:
        raise Unsupported(f"{what} go with padded rows, not with a pack: give input_ids and attention_mask")
    if not taken or name not in (*taken, "past_key_values"):
        raise Unsupported(f"{type(model).__name__} takes no {what}; neither does the stock model")


def would_be_kept(model: Any, family: Family, head: Head, kwargs: Mapping[str, Any]) -> bool:
    """Whether the stock model keeps keys and values in this call, though nobody asked."""
    asked = kwargs.get("use_cache", getattr(model.config, "use_cache", False))
    labels = (*head.token_labels, *head.document_labels)
    if head.labelled_without_cache and all(name in kwargs for name in labels):
        return False
    if model.training and getattr(model.get_decoder(), "gradient_checkpointing", False):
        return False
    return bool(asked) and _may_keep(model, family, head)


def with_place(output: Any, head: Head) -> Any:
    """The output with what refuses to be used where the stock model's has keys and values, if it has them."""
    places = [field.name for field in fields(output) if field.name in NAMES]
    if places:
        output[places[0]] = NotKept()
        before = {"loss", *head.token_outputs, *head.document_outputs, places[0]}
        for name in [name for name in output if name not in before]:
            output.move_to_end(name)
    return output


def _taken(model: Any) -> set[str]:
    """By which of the names the stock model takes keys and values, if it does."""
    kinds = (
        type(part) for part in (model, model.base_model)
    )  # one of the two may hand all on, and name none
    stock: Iterator[Any] = (getattr(kind, "_yanma_stock", kind) for kind in kinds)
    return {name for kind in stock for name in parameters_of(kind) if name in NAMES}


@cache
def parameters_of(kind: Any) -> frozenset[str]:
    """The names of what a class's forward takes."""
    return frozenset(inspect.signature(kind.forward).parameters)


def _may_keep(model: Any, family: Family, head: Head) -> bool:
    return family.caches or head.decodes or bool(getattr(model.config, "is_decoder", False))
