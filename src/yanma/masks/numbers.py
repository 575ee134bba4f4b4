"""Whole numbers as callers give them: Python's, numpy's or torch's; anything else is refused by name."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any


def whole(kind: str, name: str, value: Any) -> int:
    """The number as an int.

    Raises TypeError for what is none, such as 2.0 or a list.
    """
    try:
        return int(index(value))
    except TypeError:
        raise TypeError(f"{kind}: {name} is {value!r}; give a whole number") from None


def wholes(kind: str, name: str, values: Any) -> tuple[int, ...]:
    """The numbers as ints.

    Raises TypeError for what is no list of whole numbers.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{kind}: {name} is {values!r}; give a list of whole numbers")
    return tuple(whole(kind, f"one of {name}", value) for value in values)
