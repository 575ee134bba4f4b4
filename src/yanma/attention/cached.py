"""Attention of documents' newest tokens to keys and values that lie padded, in the rows of a key-value cache.

Each document reads the columns that hold its own tokens, in kernel calls of its own: their sizes are its own numbers,
whatever shares the batch, and so are its bits.
"""

# T new tokens in the pack, H and Hk heads, G = H / Hk, D head dim, R rows of a cache, of which S columns are kept
# Q queries of a document, K of its keys

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..autocast import as_cast
from .kernel import working

MOST_QUERIES = 64
"""Of a document in one call; its queries read no keys after the last of them."""
_LINE_BYTES = 64
"""Numbers that begin on such a boundary are met by kernels as at the beginning of a tensor."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What the new tokens of one document read in a cache."""

    queries: int
    """New tokens."""
    keys: int
    """Tokens that are read, the new ones' own among them where a document reads itself."""
    row: int
    first: int
    """The column of the first of them."""
    held: Tensor | None = None
    """(keys,) int64: their columns, where others stand between them."""


@dataclass(frozen=True, eq=False)
class _Block:
    """Some of a document's queries, and which of its keys they may read."""

    own: Reading
    token: int
    """Of the pack, the first."""
    count: int
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Readings:
    """What the documents of a pack read in a cache."""

    documents: tuple[Reading, ...]
    """In the order of the pack."""
    columns: int
    """Of a whole row; a cache may keep the last of them alone."""
    causal: bool
    """Whether the new tokens are the last of the keys, and none reads what comes after it; else all read all."""
    _blocks: dict[int | None, list[_Block]] = field(default_factory=dict, init=False)
    _hidden: dict[tuple[int, int, int | None], Tensor] = field(default_factory=dict, init=False)

    def blocks(self, reach: int | None) -> list[_Block]:
        """All documents, of which each token may read so many tokens before itself, None = all."""
        if reach not in self._blocks:
            self._blocks[reach] = list(self._cut(reach))
        return self._blocks[reach]

    def _cut(self, reach: int | None) -> Iterator[_Block]:
        token = 0
        for own in self.documents:
            for first in range(0, own.queries, MOST_QUERIES):
                count = min(MOST_QUERIES, own.queries - first)
                end = own.keys - own.queries + first + count if self.causal else own.keys
                start = 0 if reach is None or not self.causal else max(0, end - count - reach)
                yield _Block(own, token + first, count, start, end)
            token += own.queries

    def hidden(self, block: _Block, reach: int | None) -> Tensor | None:
        """(Q, K) bool: keys that come after a query, or too far before it; None where all are read."""
        if block.count == 1 or not self.causal:
            return None
        queries, keys = block.count, block.end - block.start
        key = queries, keys, reach
        if key not in self._hidden:
            distance = torch.arange(keys) - torch.arange(keys - queries, keys)[:, None]
            self._hidden[key] = (distance > 0) if reach is None else (distance > 0) | (distance < -reach)
        return self._hidden[key]


@dataclass(frozen=True)
class Scores:
    """How scores become weights."""

    scale: float
    cap: float | None = None
    """Scores are bent by a hyperbolic tangent to be no more than this."""
    table: Tensor | None = None
    """(2 L - 1, H): what is added for a key that stands d after its query is in row L - 1 + d."""


def attend_cached(
    q: Tensor,  # (T, H, D)
    k: Tensor,  # (R, Hk, S, D)
    v: Tensor,  # (R, Hk, S, D)
    readings: Readings,
    scores: Scores,
    reach: int | None = None,
) -> Tensor:  # (T, H, D)
    """softmax(q kᵀ · scale) v over the keys of each document that its queries may read.

    `reach`: how many tokens before itself a token may read; None = all. Autograd can follow it.
    """
    q, k, v = as_cast(q), as_cast(k), as_cast(v)
    dtype, missing = q.dtype, readings.columns - k.shape[2]
    with torch.autocast(q.device.type, enabled=False):  # it would compute products in less than float32
        q = q.to(working(dtype))
        if scores.scale != 1:
            q = q * scores.scale
        blocks = readings.blocks(reach)
        parts = zip(
            blocks,
            _queries(q, k.shape[1], blocks),
            _columns(k, blocks, missing),
            _columns(v, blocks, missing),
            strict=True,
        )
        found = [
            torch.bmm(_weights(queries, keys, scores, block, readings.hidden(block, reach)), values)
            for block, queries, keys, values in parts
        ]
        return _by_token(found, q, k.shape[1], blocks).to(dtype)


def _queries(q: Tensor, heads: int, blocks: Sequence[_Block]) -> Iterator[Tensor]:
    """(Hk, G * Q, D) of each block; a single row may have company behind it."""
    shared, head_dim = q.shape[1] // heads, q.shape[2]
    each = q.view(-1, heads, shared, head_dim)
    # A single row's bits may depend on where it lies in memory.
    alone = shared == 1 and not (_is_aligned(head_dim, q) and _is_aligned(heads * head_dim, q))
    single = (pad(each, (0, 0, 0, 1)) if alone else each).unbind()
    for block in blocks:
        if block.count == 1:
            yield single[block.token]
        else:
            own = each[block.token : block.token + block.count]
            yield own.permute(1, 2, 0, 3).reshape(heads, -1, head_dim)


def _columns(x: Tensor, blocks: Sequence[_Block], missing: int) -> Iterator[Tensor]:
    """(Hk, K, D) of rows (R, Hk, S, D), in the working dtype: what each block may read."""
    rows, dtype, head_dim = x.unbind(), working(x.dtype), x.shape[3]
    as_it_lies = dtype == x.dtype and _is_aligned(head_dim, x)
    for block in blocks:
        own, row = block.own, rows[block.own.row]
        if own.held is not None:
            yield row.index_select(1, own.held[block.start : block.end] - missing).to(dtype)
            continue
        part = row.narrow(1, own.first + block.start - missing, block.end - block.start)
        yield part if as_it_lies else part.to(dtype, memory_format=torch.contiguous_format, copy=True)


def _weights(q: Tensor, k: Tensor, scores: Scores, block: _Block, hidden: Tensor | None) -> Tensor:
    """(Hk, G * Q, K)."""
    found = torch.bmm(q, k.mT)
    if scores.cap is not None:
        found = scores.cap * torch.tanh(found / scores.cap)
    if scores.table is not None:
        bias = _by_distance(scores.table, block.count, k.shape[1]).to(found.dtype)
        found = (found.view(len(bias), -1, k.shape[1]) + bias).view(found.shape)
    if hidden is not None:
        found = found.view(-1, *hidden.shape).masked_fill(hidden, -torch.inf).view(found.shape)
    return found.softmax(-1)


def _by_token(found: Sequence[Tensor], q: Tensor, heads: int, blocks: Sequence[_Block]) -> Tensor:
    """(T, H, D) of what each block has found, (Hk, G * Q, D) with or without company behind it."""
    shared = q.shape[1] // heads
    if len(blocks) == len(q):
        return torch.stack(list(found))[:, :, :shared].reshape(q.shape)
    parts = []
    for block, own in zip(blocks, found, strict=True):
        of_queries = own[:, : shared * block.count].reshape(heads, shared, block.count, -1)
        parts.append(of_queries.permute(2, 0, 1, 3).reshape(block.count, *q.shape[1:]))
    return torch.cat(parts)


def _by_distance(table: Tensor, queries: int, keys: int) -> Tensor:
    """(H, Q, K) of a table (2 L - 1, H), for queries that stand beside the last of the keys.

    >>> _by_distance(torch.arange(-2, 3)[:, None], 2, 3)[0].tolist()
    [[-1, 0, 1], [-2, -1, 0]]
    """
    middle = len(table) // 2
    return table[middle - keys + 1 : middle + queries].unfold(0, keys, 1).flip(0).transpose(0, 1)


def _is_aligned(numbers: int, like: Tensor) -> bool:
    """Whether rows of so many numbers begin where kernels meet them as if each were a tensor's first."""
    return numbers * like.element_size() % _LINE_BYTES == 0
