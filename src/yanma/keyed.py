"""Counter-based randomness: a bit is a pure function of its keys, never of a generator's state.

A bit depends on (seed, document, site, row, column) alone, so it is the same whatever shares the batch, on any
worker or rank, and after a restart. It is also several times faster on a CPU than drawing from torch's stream:
one 64-bit word per four bits, a multiply, an xor-shift and a multiply.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, unique
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor

_LOW_32 = 0xFFFFFFFF
# Odd 64-bit constants with well-spread bits, as signed integers.
_A, _B, _C = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
_LANES = 4  # 16-bit lanes in a 64-bit word


@unique
class Site(int, Enum):
    """Every constant by which keys are derived, with what it is derived from; those of one parent differ.

    Paths from a seed to what is drawn. `+` adds a number to a key before the next step; modules, calls and epochs are
    counted, a module anew for each time that it runs (`Layout.visit`).

        (seed, document)
        ├─ TOKENS + place ─ TOKEN ─ module        activations by token
        │                     └───── module ─ call      of modules that drop in their forward
        ├─ module                                 activations by document
        │    └─ HEADS + head ─ HEAD + place ─ QUERY     attention weights
        ├─ TIME_SPANS                             SpecAugment
        ├─ CORRUPTION ─ epoch ─ ORDER ... CUT     token masking
        └─ PSEUDO_PERPLEXITY                      which tokens are asked
        (seed, row) ─ module                      of a table that all documents share, in modules of its own
        (seed, -1 - module) ─ LAYERS ─ call       LayerDrop
        (seed ^ GENERATOR, document)              dropout of ELECTRA's generator

    `attention(seed=number)` has no module: HEADS follows the document. Who gives it a model's own seed may draw what
    the model draws.
    """

    def __new__(cls, number: int, under: str) -> Self:
        site = int.__new__(cls, number)
        site._value_ = (under, number)  # so that equal numbers under two parents are two members, no aliases
        return site

    TOKENS = 0, "document"
    """What a token's place is added to."""
    LATER_MODULES = 2**24, "document"
    """Where the numbers of modules begin that came after `unpad`; those before count from 1."""
    TIME_SPANS = -2, "document"
    CORRUPTION = 0x6D61736B, "document"
    PSEUDO_PERPLEXITY = 0x70707078, "document"

    TOKEN = 1, "TOKENS + place"

    HEADS = 0, "module"
    """What a head's number is added to."""
    HEAD = 1, "HEADS + head"
    """What a query's place in its document is added to."""
    QUERY = 2, "HEAD + place"

    ORDER = 0, "epoch"
    """Which units come first."""
    WINDOW = 1, "epoch"
    """Where in their order units begin to be taken."""
    RATE = 2, "epoch"
    LENGTH = 3, "epoch"
    """How long a span is."""
    REPLACEMENT = 4, "epoch"
    SUBSTITUTE = 5, "epoch"
    """Which token stands for another."""
    DENOISER = 6, "epoch"
    GAP = 7, "epoch"
    """Where unhidden stretches between hidden spans end."""
    CUT = 8, "epoch"
    """Which part of a word is hidden that is larger than may be."""

    LAYERS = 0, "stack"
    GENERATOR = 0x67656E65, "seed"


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
    """Keys of what stands under the keys given, a `Site` or a number of what is counted, and independent of them."""
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
