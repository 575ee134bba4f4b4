"""Which units of an example are hidden: of its units in a drawn order, so many that their tokens meet the budget."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..keyed import Site
from .draws import drawn, share, top
from .layout import Layout
from .units import Units

# N examples, T tokens, H of them hideable, U units, K tokens chosen

_ORDER_BITS = 39
_EXAMPLE_BITS = 63 - _ORDER_BITS
WEIGHT_ONE = 2**16
"""Weights are whole numbers: their sums are exact in any order."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """The tokens that are hidden, ascending."""

    tokens: Tensor
    """(K,) int64: their indices."""
    unit_starts: Tensor
    """(K,) int64: the first token of the unit of each."""


def choose(
    layout: Layout,
    hideable: Tensor,  # (T,) bool
    units: Units,
    keys: Tensor,  # (N,) int64
    rates: Tensor,  # (N,) float64
    max_share: float,
    weights: Tensor | None,  # (T,) int64, WEIGHT_ONE or more: how much likelier a token is; None = all alike
) -> Chosen:
    """Units whose tokens are `rates` of the hideable ones on average, and to within a unit always.

    Systematic sampling in a drawn order (Madow 1949): the units stand on a circle, each as long as it has tokens; those
    that begin in a window as long as the budget, laid at a drawn place, are chosen. So each unit is as likely as any
    other, however long it is. At least one token and at most `max_share` of them (rounded down, but not to 0) is
    chosen: where no unit is, a drawn word is taken, cut at a drawn place if it alone is more than that.
    """
    starts = units.starts
    tokens = hideable.nonzero().flatten()  # (H,)
    unit = _running_number(starts, len(hideable))[tokens]  # (H,)
    sizes = torch.bincount(unit, minlength=len(starts))
    example = layout.example[starts]
    counts = torch.bincount(layout.example[tokens], minlength=len(layout.lengths))
    caps = (counts.double() * max_share).long().clamp(min=1)
    weight = _unit_weights(weights, tokens, unit, sizes)
    order = _order(layout, starts, example, keys, weight)
    lot, ordered = share(drawn(keys, Site.WINDOW))[example], sizes[order]
    before = ordered.cumsum(0) - ordered - (counts.cumsum(0) - counts)[example]
    # By weight the window must begin with the first unit. A drawn share of its own length after its beginning counts
    # as a unit's place then, which meets the budget on average too.
    place = _after_window(before, counts[example], lot) if weight is None else before + lot * ordered
    fits = (place < (counts.double() * rates)[example]) & (place + ordered <= caps[example])
    is_taken = torch.empty_like(fits).scatter_(0, order, fits)
    has_none = torch.ones_like(caps, dtype=torch.bool).index_fill_(0, example[is_taken], False)
    inside = is_taken[unit]
    if bool((has_none & (counts > 0)).any()):
        inside |= _drawn_words(layout, units.words, tokens, keys, caps, has_none, weights)
    return Chosen(tokens[inside], starts[unit[inside]])


def _drawn_words(
    layout: Layout,
    words: Tensor,  # (W,)
    tokens: Tensor,  # (H,)
    keys: Tensor,  # (N,)
    caps: Tensor,  # (N,)
    has_none: Tensor,  # (N,) bool: the examples to draw for
    weights: Tensor | None,  # (T,)
) -> Tensor:  # (H,) bool
    """One word of each such example, the first in the order in which units stand, and at most `caps` tokens of it."""
    word = _running_number(words, len(layout.example))[tokens]  # (H,)
    sizes = torch.bincount(word, minlength=len(words))
    weight = _unit_weights(weights, tokens, word, sizes)
    some = has_none[layout.example[words]].nonzero().flatten()
    order = some[
        _order(
            layout, words[some], layout.example[words[some]], keys, None if weight is None else weight[some]
        )
    ]
    example = layout.example[words[order]]
    is_first = torch.ones_like(order, dtype=torch.bool)
    is_first[1:] = example[1:] != example[:-1]
    num_taken = torch.zeros_like(sizes)
    num_taken[order[is_first]] = sizes[order[is_first]].minimum(caps[example[is_first]])
    begin = sizes.cumsum(0) - sizes
    place = torch.arange(len(tokens), device=tokens.device) - begin[word]
    # A word that is cut is hidden from a drawn token on, around its end: no part of it is left out in every epoch.
    shift = share(drawn(keys[layout.example[words]], Site.CUT, layout.place[words])).mul(sizes).long()
    return (place - shift[word]) % sizes[word] < num_taken[word]


def _order(
    layout: Layout, starts: Tensor, example: Tensor, keys: Tensor, weights: Tensor | None
) -> Tensor:  # (U,)
    """Units by example and, within one, by a drawn number.

    With weights the number is divided by the weight: sequential Poisson sampling (Ohlsson 1998), in which a unit is
    chosen about in proportion to its weight. Divisions are rounded alike everywhere; logarithms are not.
    """
    if len(keys) >= 2**_EXAMPLE_BITS:
        raise ValueError(f"{len(keys)} examples at once; at most {2**_EXAMPLE_BITS - 1}")
    number = drawn(keys[example], Site.ORDER, layout.place[starts])
    if weights is None:
        rank = top(number, _ORDER_BITS)
    else:
        rank = (share(number) / weights * 2.0**_ORDER_BITS).long()
    return torch.sort(example << _ORDER_BITS | rank, stable=True).indices


def _after_window(
    before: Tensor,  # (U,) tokens of the units before each in its example
    counts: Tensor,  # (U,) tokens of its example
    lot: Tensor,  # (U,) float64
) -> Tensor:  # (U,) float64
    """How many tokens after the window's beginning, which is a share `lot` round the circle, each unit begins."""
    after = before - lot * counts
    return torch.where(after < 0, after + counts, after)


def _running_number(starts: Tensor, num_tokens: int) -> Tensor:
    """(T,) int64: how many starts stand at or before each place, less one."""
    begins = torch.zeros(num_tokens, dtype=torch.int64, device=starts.device)
    begins[starts] = 1
    return begins.cumsum(0) - 1


def _unit_weights(weights: Tensor | None, tokens: Tensor, unit: Tensor, sizes: Tensor) -> Tensor | None:
    """(U,) float64: the mean weight of each unit's tokens, from sums of whole numbers; 1 or more."""
    if weights is None:
        return None
    sums = torch.zeros_like(sizes).index_add_(0, unit, weights[tokens])
    return sums.double() / sizes / WEIGHT_ONE
