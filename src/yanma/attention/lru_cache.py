"""A least-recently-used cache that is bounded by bytes, and what masks cost as its keys."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, Protocol, TypeVar

from ..masks import Dense, Mask


class Sized(Protocol):
    """What tells how much memory it takes."""

    @property
    def num_bytes(self) -> int:
        """Bytes."""


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Sized)


class LRUCache(Generic[K, V]):
    """What was made for the keys used last, together at most `max_bytes`; for any number of threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K, make: Callable[[K], V]) -> V:
        """The cached value of `key`, or what `make` makes of it."""
        with self._lock:
            found = self._values.get(key)
            if found is not None:
                self._values.move_to_end(key)
                return found
        made = make(key)
        with self._lock:
            self._add(key, made)
        return made

    def _add(self, key: K, made: V) -> None:
        if key in self._values:  # another thread was faster
            return
        self._values[key] = made
        self.num_bytes += made.num_bytes
        while self.num_bytes > self.max_bytes:
            self.num_bytes -= self._values.popitem(last=False)[1].num_bytes


def key_bytes(mask: Mask) -> int:
    """About what a mask takes that is kept as a key: 1 KiB, and the tensors that it holds."""
    return 1024 + sum(leaf.tensor.nbytes for leaf in mask._leaves() if isinstance(leaf, Dense))
