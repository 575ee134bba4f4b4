"""What is hidden as a whole: a token, a word (or whatever is given as one), or a span of drawn length.

A unit is a run of neighbouring hideable tokens of one example; every hideable token is in exactly one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ..keyed import Site
from .draws import drawn, top
from .layout import Layout

# N examples, T tokens, W words, U units, L the longest span


@dataclass(frozen=True)
class Spans:
    """Spans of 1, 2, ... L words or tokens: `weights[i]` says how likely i + 1 is, relative to the others.

    An example is cut into spans from a drawn place on, and of these some are hidden. So spans never overlap, none
    reaches over a special token, every token is equally likely to be hidden, and lengths are distributed as stated, but
    for those that the end of a text cuts. Two hidden spans may be neighbours.
    """

    weights: tuple[float, ...]
    of: Literal["token", "word"] = "word"

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) < 0 or not sum(self.weights) > 0:
            raise ValueError(
                f"Spans: weights is {self.weights}; give a weight of 0 or more for each length from 1"
            )
        if self.of not in ("token", "word"):
            raise ValueError(f"Spans: of is {self.of!r}; there are 'token' and 'word'")

    @classmethod
    def geometric(cls, p: float = 0.2, longest: int = 10, of: Literal["token", "word"] = "word") -> Spans:
        """SpanBERT's lengths (Joshi et al. 2020): geometric, none longer than `longest`; 3.8 on average.

        >>> [round(weight, 3) for weight in Spans.geometric(longest=3).weights]
        [0.2, 0.16, 0.128]
        """
        if not 0 < p < 1 or longest < 1:
            raise ValueError(f"Spans.geometric({p}, {longest}): p is between 0 and 1, longest 1 or more")
        return cls(tuple(p * (1 - p) ** length for length in range(longest)), of)

    @classmethod
    def ngrams(cls, longest: int = 3, of: Literal["token", "word"] = "word") -> Spans:
        """Each length from 1 to `longest` equally likely."""
        if longest < 1:
            raise ValueError(f"Spans.ngrams({longest}): longest is 1 or more")
        return cls((1.0,) * longest, of)

    @cached_property
    def steps(self) -> Tensor:
        """(L - 1,) int64: numbers of 32 bits from which a length is longer than 1, 2, ..."""
        return length_steps(self.weights)

    @cached_property
    def first_steps(self) -> Tensor:
        """(L - 1,) int64: likewise for what an example begins with: the rest of a span that began before it."""
        return length_steps(tuple(sum(self.weights[length:]) for length in range(len(self.weights))))


Unit = Literal["token", "word"] | Spans


def check_unit(unit: Unit) -> None:
    """Raise ValueError for what is no unit."""
    if unit not in ("token", "word") and not isinstance(unit, Spans):
        raise ValueError(f"unit is {unit!r}; there are 'token', 'word' and Spans(...)")


def needs_words(unit: Unit) -> bool:
    """Whether it must be known which word each token is of."""
    return unit == "word" or (isinstance(unit, Spans) and unit.of == "word")


@dataclass(frozen=True, eq=False)
class Units:
    """Where units begin, and the words (or tokens) that they are made of."""

    starts: Tensor
    """(U,) int64, ascending: the first token of each unit; among `words`."""
    words: Tensor
    """(W,) int64, ascending: the first token of each word."""


def unit_starts(
    unit: Unit,
    layout: Layout,
    hideable: Tensor,  # (T,) bool
    words: Tensor | None,  # (T,) int64
    keys: Tensor,  # (N,) int64
) -> Units:
    """Where the units begin.

    Raises ValueError where the words must be known and are not.
    """
    if not needs_words(unit):
        starts = hideable.nonzero().flatten()
    elif words is None:
        raise ValueError("the unit is made of words: say which word each token is of, words=")
    else:
        starts = _word_starts(layout, hideable, words)
    spans = _span_starts(unit, layout, hideable, starts, keys) if isinstance(unit, Spans) else starts
    return Units(spans, starts)


def _word_starts(layout: Layout, hideable: Tensor, words: Tensor) -> Tensor:
    """Hideable tokens whose predecessor is of another word or example, or is special."""
    begins = torch.ones_like(hideable)
    begins[1:] = (words[1:] != words[:-1]) | ~hideable[:-1]
    begins[layout.starts[layout.lengths > 0]] = True
    return (begins & hideable).nonzero().flatten()


def _span_starts(spans: Spans, layout: Layout, hideable: Tensor, words: Tensor, keys: Tensor) -> Tensor:
    """Some of the words' starts.

    The j-th span of an example is as long as the j-th of its drawn lengths; there are at most as many as words. Their
    running sums are where spans begin.
    """
    example = layout.example[words]
    runs = Layout(torch.bincount(example, minlength=len(layout.lengths)))
    number = top(drawn(keys[example], Site.LENGTH, runs.place), 32)
    lengths = torch.bucketize(number, spans.steps.to(number.device), right=True) + 1
    first = runs.starts[runs.lengths > 0]
    lengths[first] = torch.bucketize(number[first], spans.first_steps.to(number.device), right=True) + 1
    place = runs.before(lengths)  # in words of the example
    inside = place < runs.lengths[example]
    begins = torch.zeros(len(words), dtype=torch.bool, device=words.device)
    begins[(runs.starts[example] + place)[inside]] = True
    after_special = torch.zeros_like(begins)
    after_special[1:] = ~hideable[words[1:] - 1]
    return words[begins | after_special]


def length_steps(weights: Sequence[float]) -> Tensor:
    """(len(weights) - 1,) int64: numbers of 32 bits from which the second, third, ... is drawn, by their weights."""
    shares = torch.tensor(weights, dtype=torch.float64)
    return ((shares.cumsum(0) / shares.sum())[:-1] * 2**32).round().long()
