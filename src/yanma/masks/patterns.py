"""Kinds made of blocks of positions: a pattern that is given, or one that is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..keyed import document_keys, mixed
from .grid import Grid, Pairs, Rows
from .intervals import Intervals, covered
from .mask import Mask, Numbers
from .numbers import whole, wholes
from .positions import check_count, check_positive


@dataclass(frozen=True, repr=False)
class Blocks(Mask):
    """See `blocks()`."""

    pattern: tuple[tuple[bool, ...], ...]
    size: int

    def __post_init__(self) -> None:
        check_positive("blocks", "size", self.size)
        if len({len(row) for row in self.pattern}) > 1:
            raise ValueError("blocks: the pattern's rows differ in length")

    @cached_property
    def _table(self) -> Tensor:
        """(query blocks, key blocks) bool."""
        width = len(self.pattern[0]) if self.pattern else 0
        return torch.tensor(self.pattern, dtype=torch.bool).view(len(self.pattern), width)

    def _check(self, grid: Grid) -> None:
        longest = (max(grid.lengths, default=0), grid.longest)
        for side, length, held in zip(("queries", "keys"), longest, self._table.shape, strict=True):
            if -(-length // self.size) > held:
                raise ValueError(
                    f"blocks: a document of {length} {side} has {-(-length // self.size)} blocks of {self.size}; "
                    f"the pattern has {held}"
                )

    def _seen(self, pairs: Pairs) -> Tensor:
        table = self._table.to(pairs.q_idx.device)
        return pairs.together & table[pairs.q // self.size, pairs.kv // self.size]

    def _runs(self, rows: Rows) -> Intervals:
        pattern = Intervals.from_bool(self._table)
        block = rows.q.long() // self.size
        # Clamped before they are multiplied: the pattern may reach far beyond the longest document.
        last = -(-rows.grid.longest // self.size)
        starts, ends = (x.clamp(max=last)[block] * self.size for x in (pattern.starts, pattern.ends))
        return rows.runs(starts, ends)

    def _columns(self, grid: Grid) -> int:
        return max(1, self._table.shape[1])

    def _say(self, numbers: Numbers) -> str:
        rows = "/".join("".join(".#"[seen] for seen in row) for row in self.pattern)
        return f"blocks({rows!r}, {self.size})"


@dataclass(frozen=True, repr=False)
class RandomBlocks(Mask):
    """See `random_blocks()`."""

    count: int
    size: int
    seed: int

    def __post_init__(self) -> None:
        check_positive("random_blocks", "count", self.count)
        check_positive("random_blocks", "size", self.size)

    def _drawn(self, block: Tensor, num_blocks: Tensor) -> list[Tensor]:
        """The key blocks that query blocks read, a tensor a draw, from int64 tensors of one shape; -1 = none.

        Floyd's way to draw without repeats: draw from one more block each time; if it was drawn, take the last.
        """
        keys = mixed(mixed(document_keys(self.seed, [0]).to(block.device) + block) + num_blocks)
        chosen: list[Tensor] = []
        for draw in range(self.count):
            last = num_blocks - self.count + draw
            drawn = ((mixed(keys + draw) >> 1) & (2**62 - 1)) % (last + 1).clamp(min=1)
            taken = torch.zeros_like(block, dtype=torch.bool)
            for other in chosen:
                taken |= drawn == other
            fresh = torch.where(taken, last, drawn)
            everything = torch.where(draw < num_blocks, draw, -1)
            chosen.append(torch.where(num_blocks <= self.count, everything, fresh))
        return chosen

    def _seen(self, pairs: Pairs) -> Tensor:
        lengths = pairs.of_documents(pairs.grid.kv_lengths, pairs.q_doc)
        drawn = self._drawn(pairs.q // self.size, -(-lengths // self.size))
        seen = torch.zeros_like(pairs.together)
        for blocks in drawn:
            seen = seen | (pairs.kv // self.size == blocks)
        return seen & pairs.together

    def _runs(self, rows: Rows) -> Intervals:
        num_blocks = -(-rows.num_kv.long() // self.size)
        drawn = torch.stack(self._drawn(rows.q.long() // self.size, num_blocks), 1)
        num_kv = rows.grid.shape[1]
        starts = drawn * self.size + rows.kv_start[:, None]
        ends = torch.minimum(starts + self.size, (rows.kv_start + rows.num_kv)[:, None])
        hidden = (drawn < 0) | (starts >= ends)
        return covered(starts.masked_fill(hidden, num_kv), ends.masked_fill(hidden, num_kv), num_kv)

    def _columns(self, grid: Grid) -> int:
        return 2 * self.count

    def _say(self, numbers: Numbers) -> str:
        return f"random_blocks({self.count}, {self.size}, {self.seed})"


@dataclass(frozen=True, repr=False)
class RandomDrop(Mask):
    """See `random_drop()`."""

    p: float
    seed: int | tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"random_drop: p is {self.p}; a probability lies between 0 and 1")

    def _keys(self, count: int) -> Tensor:
        """(N,) int64: what each document's pairs are known by."""
        seeds = (self.seed,) * count if isinstance(self.seed, int) else self.seed
        by_seed = {seed: document_keys(seed, [0]) for seed in set(seeds)}
        return torch.cat([by_seed[seed] for seed in seeds]) if seeds else torch.zeros(0, dtype=torch.int64)

    def _check(self, grid: Grid) -> None:
        check_count("random_drop", "seeds", self.seed, grid)

    def _stays(self, keys: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        words = mixed(mixed(mixed(keys) + q) + kv)
        return (((words >> 11) & (2**53 - 1)) >= round(self.p * 2**53)) | (q == kv)

    def _seen(self, pairs: Pairs) -> Tensor:
        keys = self._keys(len(pairs.grid.lengths)).to(pairs.q_idx.device)[pairs.q_doc]
        return pairs.together & self._stays(keys, pairs.q, pairs.kv)

    def _runs(self, rows: Rows) -> Intervals:
        """From the pairs themselves: a chunk of rows at a time, the keys of their documents."""
        keys = self._keys(len(rows.grid.lengths))[rows.document]
        places = torch.arange(int(rows.num_kv.max()))
        seen = self._stays(keys[:, None], rows.q[:, None].long(), places) & (places < rows.num_kv[:, None])
        found = Intervals.from_bool(seen)
        return rows.runs(found.starts, found.ends)

    def _columns(self, grid: Grid) -> int:
        return grid.longest

    def _say(self, numbers: Numbers) -> str:
        return f"random_drop({self.p!r}, {self.seed if isinstance(self.seed, int) else numbers(self.seed)})"

    def _is_alike(self) -> bool:
        return isinstance(self.seed, int)

    def _within(self, grid: Grid, document: int) -> Mask:
        return self if isinstance(self.seed, int) else RandomDrop(self.p, self.seed[document])


def blocks(pattern: str | Sequence[Sequence[bool]], size: int) -> Mask:
    """A query of block i reads block j where `pattern[i][j]`; position p is in block p // size of its document.

    The pattern is rows of bools, or a picture with "/" between rows. Child et al. 2019 call these block-sparse.

    >>> print(blocks("#./##", 2).show(4))
    ##..
    ##..
    ####
    ####
    """
    rows = pattern.split("/") if isinstance(pattern, str) else pattern
    for row in rows:
        if isinstance(row, str) and set(row) - {"#", "."}:
            raise ValueError(f"blocks: a picture has '#' and '.' only; got {row!r}")
    return Blocks(
        tuple(tuple(cell == "#" if isinstance(cell, str) else bool(cell) for cell in row) for row in rows),
        whole("blocks", "size", size),
    )


def random_blocks(count: int, size: int, seed: int) -> Mask:
    """Each block of `size` queries reads `count` key blocks of its document, drawn from (seed, block, their number).

    So a document's draw does not depend on the batch. Zaheer et al. 2020 (BigBird), beside a window and global tokens.

    >>> print(random_blocks(1, 2, seed=4).show(6))
    ##....
    ##....
    ..##..
    ..##..
    ..##..
    ..##..
    """
    given = (("count", count), ("size", size), ("seed", seed))
    return RandomBlocks(*(whole("random_blocks", name, value) for name, value in given))


def random_drop(p: float, seed: int | Sequence[int]) -> Mask:
    """Each pair of a document is hidden with probability p, but a token never from itself.

    Which are hidden is a function of (seed, query position, key position): the same whatever shares the batch.
    `seed` is one number, or one a document. Without a closed form, it is lowered pair by pair, in bounded memory.

    >>> print(random_drop(0.5, seed=3).show(4))
    #.#.
    ##.#
    #.##
    ..##
    """
    give = wholes if isinstance(seed, Iterable) else whole
    return RandomDrop(float(p), give("random_drop", "seed", seed))
