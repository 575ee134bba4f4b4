"""Class names: their order, the classes that stand in one row only, and the name that is meant by an unknown one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..errors import DataError, did_you_mean

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_SHOWN = 10


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, sorted; by value where all of them are numbers.

    >>> in_order(["10", "9", "-1", "9"]), in_order(["b10", "b9"])
    (('-1', '9', '10'), ('b10', 'b9'))
    """
    once = sorted(set(names))
    return tuple(sorted(once, key=float)) if all(map(_NUMBER.fullmatch, once)) else tuple(once)


def seen_once(classes: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Of (class, where) pairs, one for each row that has the class, those whose class no other row has.

    >>> seen_once([("a", "x:1"), ("b", "x:2"), ("a", "x:3")])
    (('b', 'x:2'),)
    """
    first: dict[str, str] = {}
    again = set()
    for name, where in classes:
        if name in first:
            again.add(name)
        first.setdefault(name, where)
    return tuple((name, where) for name, where in first.items() if name not in again)


def unknown(name: str, known: Sequence[str], where: str) -> DataError:
    """The error for a class that is not among the known ones, with the nearest of them."""
    hint = did_you_mean(name, known)
    more = f", ... {len(known)} in all" if len(known) > _SHOWN else ""
    return DataError(
        f"{where}: label {name!r} does not stand in the training data; {hint}{' ' * bool(hint)}"
        f"known: {', '.join(known[:_SHOWN])}{more}"
    )
