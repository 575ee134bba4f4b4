"""What is run to see whether rows keep their bits among other rows, and documents under attention among others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from ..attention.cached import Reading, Readings
from .layout import Layout, own_mask

# R rows, C numbers in each, T tokens of a pack, H heads, D head width

LENGTHS = (
    *(1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 31, 32, 33, 48),
    *(63, 64, 65, 66, 96, 127, 128, 129, 200, 300),
)
"""Of documents under attention."""
_STEPS = (0, 1, 7)
"""Sources of decoders are tried with as many tokens, with the next length, and with the seventh after it."""

Rowwise = Callable[[Tensor], Tensor]
"""(R, C) -> (R, ...), each row from its own."""
Attention = Callable[[Tensor, Tensor, Tensor, Layout], Tensor]
"""q (T, H, D), k and v (T, Hk, D), and where documents lie -> (T, H, D)."""
Cached = Callable[[Tensor, Tensor, Tensor, Readings], Tensor]
"""q (T, H, D), k and v (R, Hk, S, D), and what documents read there -> (T, H, D)."""


def rows_that_differ(rowwise: Rowwise, like: Tensor, counts: Sequence[int]) -> list[int]:
    """Those of `counts`, ascending, among which a row has other bits than among as many as the last of them.

    `like` (R, C) has the width, dtype and device of what is tried.

    >>> rows_that_differ(lambda rows: rows + (len(rows) == 2), torch.zeros(1, 4), (1, 2, 3))
    [2]
    """
    rows = _random((counts[-1], like.shape[1]), like)
    with torch.no_grad():
        whole = rowwise(rows)
        differing = []
        for count in counts:
            first = 7 * count % max(counts[-1] - count, 1)
            part = rowwise(rows[first : first + count].clone())
            if not same_bits(part, whole[first : first + count]):
                differing.append(count)
    return differing


def documents_that_differ(
    attend: Attention, q: Tensor, k: Tensor, layout: Layout, crosses: bool = False
) -> list[int]:
    """Lengths of documents that have other bits alone, or among some others, than among all.

    `q` (T, H, D), `k` (T, Hk, D) and `layout` are such as the model has; with `crosses`, keys are those of sources.
    """
    sizes = _sizes(crosses)
    written, read = zip(*sizes, strict=True)
    queries = _random((sum(written), *q.shape[1:]), q)
    keys, values = (_random((sum(read), *k.shape[1:]), k, seed) for seed in (1, 2))

    def attended(documents: Sequence[int]) -> list[Tensor]:
        rows, columns = (_rows_of(lengths, documents).to(q.device) for lengths in (written, read))
        own, sources = (tuple(lengths[i] for i in documents) for lengths in (written, read))
        place = _placed(layout, own, documents)
        if crosses:
            place = replace(place, source=_placed(layout, sources, documents))
        with torch.no_grad():
            return list(attend(queries[rows], keys[columns], values[columns], place).split(own))

    every = range(len(sizes))
    whole = attended(every)
    first_of_size = [i for i in every if i == 0 or sizes[i] != sizes[i - 1]]
    companies = [[i] for i in first_of_size] + [[i for i in every if i not in set(first_of_size)]]
    return sorted(
        {
            written[i]
            for company in companies
            for i, part in zip(company, attended(company), strict=True)
            if not same_bits(part, whole[i])
        }
    )


def readings_that_differ(attend: Cached, q: Tensor, k: Tensor, causal: bool) -> list[int]:
    """Tokens in a cache of documents whose newest have other bits alone than in company, which fills up their rows.

    `q` (T, H, D) and `k` (R, Hk, S, D) are such as the model has.
    """
    differing, most = set(), max(LENGTHS)
    keys, values = (_random((len(LENGTHS), k.shape[1], most, k.shape[3]), k, seed) for seed in (1, 2))
    for count in (1, 5):
        lengths = [n for n in LENGTHS if n >= count]
        queries = _random((len(lengths) * count, *q.shape[1:]), q)
        places = [Reading(count, n, row, most - n) for row, n in enumerate(lengths)]
        with torch.no_grad():
            together = attend(queries, keys, values, Readings(tuple(places), most, causal))
            for own, asks, found in zip(places, queries.split(count), together.split(count), strict=True):
                k, v = (x[own.row, None, :, own.first :].clone() for x in (keys, values))
                alone = Readings((replace(own, row=0, first=0),), own.keys, causal)
                if not same_bits(attend(asks.clone(), k, v, alone), found):
                    differing.add(own.keys)
    return sorted(differing)


def _sizes(crosses: bool) -> list[tuple[int, int]]:
    """How many queries and keys each document has that is tried, each size twice or more, in the order of a pack."""
    if not crosses:
        return [(n, n) for n in LENGTHS for _ in range(max(2, 64 // n))]
    near = [(n, LENGTHS[(i + step) % len(LENGTHS)]) for i, n in enumerate(LENGTHS) for step in _STEPS]
    return sorted(near + near)


def _rows_of(lengths: Sequence[int], documents: Sequence[int]) -> Tensor:
    """Where the tokens of some documents lie, of documents of such lengths end to end."""
    firsts = list(accumulate(lengths, initial=0))
    return torch.cat([torch.arange(firsts[i], firsts[i + 1]) for i in documents])


def _placed(layout: Layout, lengths: tuple[int, ...], ids: Sequence[int]) -> Layout:
    """A layout like another, of other documents."""
    return replace(
        layout,
        lengths=lengths,
        mask=own_mask(lengths, layout.causal),
        ids=tuple(ids),
        handed=[],
        _visits=Counter(),
    )


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape and dtype are the same in every bit; 0 and -0 are not.

    >>> same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    False
    """
    # A clone, as contiguous() leaves the odd strides of a single number.
    plain = (x.detach().clone(memory_format=torch.contiguous_format) for x in (a, b))
    return torch.equal(*(x.view(-1).view(torch.uint8) for x in plain))


def _random(shape: Sequence[int], like: Tensor, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=draw).to(like)
