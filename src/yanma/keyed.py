"""Counter-based randomness: a bit is a pure function of its keys, never of a generator's state.

A bit depends on (seed, document, site, row, column) alone, so it is the same whatever shares the batch, on any
worker or rank, and after a restart. It is also several times faster on a CPU than drawing from torch's stream:
one 64-bit word per four bits, a multiply, an xor-shift and a multiply.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

_LOW_32 = 0xFFFFFFFF
# Odd 64-bit constants with well-spread bits, as signed integers.
_A, _B, _C = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
_LANES = 4  # 16-bit lanes in a 64-bit word


def mixed(x: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014) on int64: a bijection that spreads every bit."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _B
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _C
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def document_keys(seed: int, ids: Sequence[int] | Tensor) -> Tensor:
    """(N,) int64: one key a document, from the seed and the document's id.

    >>> together, alone = document_keys(0, [3, 8]), document_keys(0, [8])
    >>> bool(together[1] == alone[0])
    True
    """
    # The seed is mixed before it meets the ids: their bare sum would give document 1 of seed 0 the bits of
    # document 0 of seed 1.
    start = mixed(torch.tensor(_as_int64(seed)))
    return mixed(mixed(torch.as_tensor(ids, dtype=torch.int64) + start) ^ _A)


def derived(keys: Tensor, site: int) -> Tensor:
    """Keys for another place in the model (a layer, a head, a token), independent of the keys given."""
    return mixed(keys ^ ((site + 1) * _A % 2**63))


def numbers(keys: Tensor, places: Tensor) -> Tensor:
    """int64: SplitMix64's sequence of each key at the given places; both broadcast.

    >>> place = torch.arange(9)
    >>> bool((numbers(document_keys(0, [3, 8])[:, None], place)[1] == numbers(document_keys(0, [8]), place)).all())
    True
    """
    return mixed(keys + places * _A)


def keep(rows: Tensor, num_columns: int, p: float) -> Tensor:
    """Bool (*rows.shape, num_columns): False with probability p, a pure function of (row key, column).

    `p` is rounded to a multiple of 1/65536; `keep_probability` says what it then is.
    """
    words = _words(rows[..., None] * _column_constants(-(-num_columns // _LANES)).to(rows.device))
    lanes = words.view(torch.int16)[..., :num_columns]
    # On a CPU, comparing into uint8 is five times as fast as into bool; the bytes are the same.
    kept = torch.empty(lanes.shape, dtype=torch.uint8, device=rows.device)
    return torch.ge(lanes, _steps(p) - 32768, out=kept).view(torch.bool)


def keep_at(rows: Tensor, columns: Tensor, p: float) -> Tensor:
    """What `keep` says of chosen columns: int64 `rows` and `columns` broadcast to the shape of the answer.

    >>> row = document_keys(0, [3])
    >>> bool(keep_at(row, torch.tensor([5, 2]), 0.5).equal(keep(row, 8, 0.5)[0, [5, 2]]))
    True
    """
    words = _words(rows * (mixed((columns // _LANES) * _A + _C) | 1))
    words >>= columns % _LANES * 16
    return words.to(torch.int16) >= _steps(p) - 32768


def only(x: Tensor, kept: Tensor) -> Tensor:
    """`x` where `kept`, else 0. Multiplying is faster than choosing; x must be finite."""
    return kept.view(torch.uint8).to(x.dtype).mul_(x)


def keep_probability(p: float) -> float:
    """The share that `keep(..., p)` keeps."""
    return 1 - _steps(p) / 65536


def _steps(p: float) -> int:
    if not 0 <= p < 1:
        raise ValueError(f"dropout is {p}; it must be at least 0 and less than 1")
    return min(round(p * 65536), 65535)


def _words(words: Tensor) -> Tensor:
    """Spread the bits of each word, in place: an xor-shift, a multiply, an xor-shift."""
    words ^= (words >> 32) & _LOW_32
    words *= _B
    words ^= (words >> 32) & _LOW_32
    return words


@lru_cache(maxsize=64)
def _column_constants(num_words: int) -> Tensor:
    return mixed(torch.arange(num_words) * _A + _C) | 1


def _as_int64(seed: int) -> int:
    return (seed + 2**63) % 2**64 - 2**63
