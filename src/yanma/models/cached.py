"""A key-value cache as the layers of an unpadded decoder see it: they hand over a pack, and the cache keeps rows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

# T tokens of a pack, N rows of S slots, H heads, D head width


@dataclass(frozen=True, eq=False)
class Slots:
    """Where the tokens of a pack stand in the caller's rows."""

    index: Tensor
    """(T,) int64: the slot of each, of all rows end to end."""
    shape: tuple[int, int]
    """(N, S)."""
    are_all: bool
    """Whether they are all slots, in the caller's order."""

    def lay(self, x: Tensor) -> Tensor:
        """(1, H, T, D) as (N, H, S, D), with 0 where no token stands."""
        tokens = x[0].transpose(0, 1)
        if not self.are_all:
            num_slots = self.shape[0] * self.shape[1]
            tokens = tokens.new_zeros(num_slots, *tokens.shape[1:]).index_copy(0, self.index, tokens)
        return tokens.reshape(*self.shape, *tokens.shape[1:]).transpose(1, 2)


class Kept:
    """A cache of transformers' that is handed keys and values of a pack, and gives all that the pack may read."""

    def __init__(self, cache: Any, slots: Slots, reads_rows: bool) -> None:
        """`reads_rows`: whether layers read the cache's rows, as it has earlier tokens; else what they hand over."""
        self._cache, self._slots, self._reads_rows = cache, slots, reads_rows

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keep keys and values (1, H, T, D) of a layer; rows (N, H, S, D) with all earlier ones, or the same again."""
        rows: tuple[Tensor, Tensor] = self._cache.update(
            self._slots.lay(keys), self._slots.lay(values), *args, **kwargs
        )
        return rows if self._reads_rows else (keys, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def new_cache(config: Any, crosses: bool) -> Any:
    """What a stock decoder of this config would make, had it been given no cache."""
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    own = DynamicCache(config=config)
    return EncoderDecoderCache(own, DynamicCache(config=config)) if crosses else own


def parts_of(cache: Any, crosses: bool) -> tuple[Any, ...] | None:
    """The cache of a decoder's own tokens, and that of the source's where it `crosses`; None for other kinds."""
    from transformers.cache_utils import EncoderDecoderCache

    if not crosses:
        return (cache,) if _is_dynamic(cache) else None
    if type(cache) is not EncoderDecoderCache:
        return None
    parts = cache.self_attention_cache, cache.cross_attention_cache
    return parts if all(_is_dynamic(part) for part in parts) else None


def _is_dynamic(cache: Any) -> bool:
    """Whether a cache keeps keys and values as they are, in rows that grow."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    known = DynamicLayer, DynamicSlidingWindowLayer
    return (
        type(cache) is DynamicCache
        and not cache.offloading
        and all(type(each) in known for each in cache.layers)
    )


def columns_of(cache: Any) -> tuple[int, int]:
    """(rows, columns) of what a cache holds; (0, 0) where that is nothing yet."""
    columns = int(cache.get_seq_length())
    return (len(cache.layers[0].keys), columns) if columns else (0, 0)


def with_parts(cache: Any, parts: Sequence[Kept]) -> Any:
    """The cache as layers see it, of parts such as they are handed a pack."""
    if len(parts) == 1:
        return parts[0]
    seen = copy.copy(cache)  # what it knows of layers that have read the source is one
    seen.self_attention_cache, seen.cross_attention_cache = parts
    return seen
