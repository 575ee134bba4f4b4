"""Class names: their order, the classes that stand in one row only, and the name that is meant by an unknown one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import DataError, did_you_mean

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_SHOWN = 10
_MOST_NUMBERS = 20
"""So many classes may be called by numbers that are no whole ones, such as ratings of 3.5."""


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, sorted; by value where all of them are numbers.

    >>> in_order(["10", "9", "-1", "9"]), in_order(["b10", "b9"])
    (('-1', '9', '10'), ('b10', 'b9'))
    """
    once = sorted(set(names))
    return tuple(sorted(once, key=float)) if all(map(_NUMBER.fullmatch, once)) else tuple(once)


def refuse_numbers(labels: Sequence[str], where: str, column: str) -> None:
    """Raises DataError where many labels are all numbers, and some of them no whole ones: measures, not classes."""
    if (
        len(labels) > _MOST_NUMBERS
        and all(map(_NUMBER.fullmatch, labels))
        and any(not float(label).is_integer() for label in labels)
    ):
        raise DataError(
            f"{where}: {column!r} holds {len(labels)} different numbers such as {labels[len(labels) // 2]}, which are "
            f"measures and no names of classes: to predict a number is regression, which is none of the tasks here; "
            f"for classes, write a name for each range of numbers"
        )


@dataclass(frozen=True)
class Ids:
    """The ids of classes by name, as a label spells it: as the class, or but for case, where that says which.

    >>> found = Ids(("red", "Blue"))
    >>> found.of("Blue", "a:1"), found.of("RED", "a:2"), found.is_recased("RED")
    (1, 0, True)
    """

    labels: tuple[str, ...]

    def of(self, name: str, where: str) -> int:
        """Raises DataError for a name that means no class."""
        found = self._exact.get(name)
        if found is None:
            found = self._folded.get(name.casefold())
        if found is None:
            raise unknown(name, self.labels, where)
        return found

    def is_recased(self, name: str) -> bool:
        """Whether a name is not spelt as its class is."""
        return name not in self._exact

    @cached_property
    def _exact(self) -> dict[str, int]:
        return {label: index for index, label in enumerate(self.labels)}

    @cached_property
    def _folded(self) -> dict[str, int]:
        """Empty where two classes differ in case alone."""
        found = {label.casefold(): index for index, label in enumerate(self.labels)}
        return found if len(found) == len(self.labels) else {}


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
