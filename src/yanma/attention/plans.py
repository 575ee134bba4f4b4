"""Plans of tiles, made once for a mask and its size, and kept under a bound of bytes."""

from __future__ import annotations

from dataclasses import dataclass

from ..masks import Mask
from ..masks.mask import TooWide
from .dropout import document_lengths
from .lru_cache import LRUCache, key_bytes
from .problem import Problem
from .tiles import Tiles, joined, tile

Key = tuple[Mask, int, int]
"""The mask, and how many queries and keys there are."""

MAX_INTERVALS = 2**24
"""More intervals than this (over all queries, each as many as the one that has the most) are not worked on: 128 MiB."""


@dataclass(frozen=True, eq=False)
class Plan:
    """All tiles of a mask, or the reason why there are none."""

    tiles: tuple[Tiles, ...]
    refusal: str | None
    pairs: int
    """How many (query, key) pairs are computed, for each head."""
    num_bytes: int
    """Memory of the plan, and of tensors that its mask holds."""


class Plans(LRUCache[Key, Plan]):
    """The plans used last."""


PLANS = Plans(max_bytes=2**28)
"""256 MiB. A plan takes about 40 bytes a token, and 12 KiB for each picture of a tile with a window of 129 keys."""


DOCUMENTS = Plans(max_bytes=2**26)
"""64 MiB of plans of single documents: a batch's plan is put together from them, where its documents read alike."""


def plan(problem: Problem) -> Plan:
    """The tiles of a problem's mask. A function inside a mask must not change what it says afterwards."""
    return PLANS.get((problem.mask, problem.num_q, problem.num_kv), make)


def make(key: Key) -> Plan:
    """A new plan; what it needs of documents whose length was met before is not computed again."""
    mask, num_q, num_kv = key
    # Where each document reads in its own way, nothing that was met before can be used.
    documents = mask.per_document((num_q, num_kv)) if mask.frame is not None and mask._is_alike() else None
    if documents is None:
        return make_whole(key)
    places: dict[Key, list[tuple[int, int]]] = {}
    row = column = 0
    for each in documents:
        places.setdefault((each.mask, each.num_q, each.num_kv), []).append((row, column))
        row, column = row + each.num_q, column + each.num_kv
    plans = {own: DOCUMENTS.get(own, make_whole) for own in places}
    refused = [own.refusal for own in plans.values() if own.refusal is not None]
    if refused:
        return Plan((), refused[0], 0, 1024)
    starts = {own: tuple(zip(*where, strict=True)) for own, where in places.items()}
    return _plan(joined([same.moved(*starts[own]) for own in plans for same in plans[own].tiles]), mask, 1024)


def make_whole(key: Key) -> Plan:
    """A new plan, from the intervals of the whole mask."""
    mask, num_q, num_kv = key
    held = key_bytes(mask)
    if held > PLANS.max_bytes:
        return _too_large(mask, held)
    try:
        found = mask._intervals(mask._grid((num_q, num_kv)), MAX_INTERVALS)
    except TooWide as e:
        why = f"needs up to {e.width} intervals for each of {num_q} queries; the bound is {MAX_INTERVALS} in all"
        return Plan((), why, 0, held)
    return _plan(tile(found.starts, found.ends, document_lengths(mask) or [(num_q, num_kv)]), mask, held)


def _plan(tiles: tuple[Tiles, ...], mask: Mask, held: int) -> Plan:
    num_bytes = held + sum(same.num_bytes for same in tiles)
    if num_bytes > PLANS.max_bytes:
        return _too_large(mask, num_bytes)
    return Plan(tiles, None, sum(same.pairs for same in tiles), num_bytes)


def _too_large(mask: Mask, num_bytes: int) -> Plan:
    why = f"needs a plan of {num_bytes} bytes for {mask.describe()}; the bound is {PLANS.max_bytes}"
    return Plan((), why, 0, 1024)
