"""Which columns of a row a task reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Columns:
    """The columns' names in the data."""

    inputs: tuple[str, ...]
    """What a prediction is made from."""
    truth: str
    """What is learned."""
    sentence: str | None = None
    """Where a row is a word: which sentence it is of. None = a row is all that is read at once."""

    @property
    def all(self) -> tuple[str, ...]:
        """What training and evaluation read."""
        return (*self.inputs, self.truth, *(() if self.sentence is None else (self.sentence,)))


def renamed(usual: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """The usual names, each with the name that the data has for it.

    >>> renamed(["text", "label"], {"label": "intent"})
    {'text': 'text', 'label': 'intent'}

    Raises ConfigError for a name that is not among the usual ones.
    """
    for name in given:
        if name not in usual:
            hint = did_you_mean(name, usual) or f"it has: {', '.join(usual)}"
            raise ConfigError(f"this task has no column {name!r}; {hint}")
    found = {name: given.get(name, name) for name in usual}
    for name, column in given.items():
        other = next((usual for usual in given if usual != name and given[usual] == column), None)
        if other is not None:
            raise ConfigError(f"{other} and {name} are both said to be column {column!r}; they are two")
    return found
