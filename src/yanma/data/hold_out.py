"""What is not learned from: by a lot that each item has by itself, so that items that are added later move none."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

from ..errors import DataError

Item = TypeVar("Item")


def hold_out(
    items: Sequence[Item], share: float, *, seed: int, what: str = "row"
) -> tuple[list[Item], list[Item]]:
    """What is learned from, and about `share` of the items that is not; at least one of either.

    An item's lot is a hash of (seed, its place).

    >>> hold_out(range(8), 0.3, seed=0)
    ([0, 1, 2, 4, 6, 7], [3, 5])

    Raises DataError, which says `what` an item is, for fewer than two.
    """
    if len(items) < 2:
        raise DataError(
            f"one {what} alone cannot be both learned from and held out; give more, or others as `validation`"
            if items
            else f"no {what} to learn from"
        )
    lots = [_lot(seed, place) for place in range(len(items))]
    count = min(max(1, sum(lot < share for lot in lots)), len(items) - 1)
    held = set(sorted(range(len(items)), key=lots.__getitem__)[:count])
    train = [item for place, item in enumerate(items) if place not in held]
    return train, [items[place] for place in sorted(held)]


def _lot(seed: int, place: int) -> float:
    """In [0, 1)."""
    return int.from_bytes(blake2b(f"held out/{seed}/{place}".encode(), digest_size=8).digest()) / 2**64
