"""Which units of an example are hidden: of its units in a drawn order, so many that their tokens meet the budget."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .draws import Drawn, drawn, share, top
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
    chosen: where no unit is, the first word of the first unit is taken, cut if it alone is more than that.
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
    lot, ordered = share(drawn(keys, Drawn.WINDOW))[example], sizes[order]
    before = ordered.cumsum(0) - ordered - (counts.cumsum(0) - counts)[example]
    # By weight the window must begin with the first unit. A drawn share of its own length after its beginning counts
    # as a unit's place then, which meets the budget on average too.
    place = _after_window(before, counts[example], lot) if weight is None else before + lot * ordered
    least = _first_words(units, tokens, len(hideable))[order]
    taken = _taken(ordered, least, place, example, counts.double() * rates, caps)
    of_unit = torch.empty_like(taken).scatter_(0, order, taken)  # tokens taken of each unit
    first = torch.cumsum(sizes, 0) - sizes
    inside = torch.arange(len(tokens), device=tokens.device) - first[unit] < of_unit[unit]
    return Chosen(tokens[inside], starts[unit[inside]])


def _order(
    layout: Layout, starts: Tensor, example: Tensor, keys: Tensor, weights: Tensor | None
) -> Tensor:  # (U,)
    """Units by example and, within one, by a drawn number.

    With weights the number is divided by the weight: sequential Poisson sampling (Ohlsson 1998), in which a unit is
    chosen about in proportion to its weight. Divisions are rounded alike everywhere; logarithms are not.
    """
    if len(keys) >= 2**_EXAMPLE_BITS:
        raise ValueError(f"{len(keys)} examples at once; at most {2**_EXAMPLE_BITS - 1}")
    number = drawn(keys[example], Drawn.ORDER, layout.place[starts])
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


def _taken(
    sizes: Tensor,  # (U,) in the order drawn
    least: Tensor,  # (U,) tokens of each unit's first word
    place: Tensor,  # (U,) float64
    example: Tensor,  # (U,)
    budgets: Tensor,  # (N,) float64
    caps: Tensor,  # (N,)
) -> Tensor:  # (U,) int64
    """How many tokens of each unit are taken."""
    fits = (place < budgets[example]) & (place + sizes <= caps[example])
    some = torch.zeros_like(caps).index_add_(0, example, fits.long()) > 0
    first = torch.ones_like(fits)
    first[1:] = example[1:] != example[:-1]
    least = torch.where(first & ~some[example], least.minimum(caps[example]), 0)
    return torch.where(fits, sizes, least)


def _first_words(units: Units, tokens: Tensor, num_tokens: int) -> Tensor:
    """(U,) int64: the tokens of each unit's first word."""
    word = _running_number(units.words, num_tokens)
    return torch.bincount(word[tokens], minlength=len(units.words))[word[units.starts]]


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
