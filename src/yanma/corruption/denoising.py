"""Denoising for models that write text: spans become one token each, and the model writes what was in them.

SpanCorruption   T5 (Raffel et al. 2020): sentinels in the text, and sentinels with the hidden spans as the target
Infilling        BART (Lewis et al. 2020): masks in the text, the whole text as the target
Continuation     UL2's S-denoiser (Tay et al. 2023): the text's beginning, and its end as the target
Mixture          UL2: one of several denoisers for each example and epoch, told to the model by a token
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..keyed import Site
from .draws import below, drawn, example_keys, share, top
from .layout import Layout
from .units import length_steps
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# N examples, T tokens of all of them, I of all inputs, O of all targets

_POISSON_END = 1e-9


@dataclass(frozen=True, eq=False)
class Denoised:
    """N examples, inputs end to end, and targets end to end."""

    input_ids: Tensor
    """(I,) int64."""
    lengths: tuple[int, ...]
    """Tokens of each input."""
    labels: Tensor
    """(O,) int64."""
    label_lengths: tuple[int, ...]
    """Tokens of each target."""
    hidden: Tensor
    """(T,) bool: which tokens of the texts are not in the inputs."""

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """(input, target) of each example."""
        return list(
            zip(self.input_ids.split(self.lengths), self.labels.split(self.label_lengths), strict=True)
        )


class Denoiser(ABC):
    """Makes inputs and targets of N examples that stand end to end: each as it would be alone."""

    def __call__(
        self,
        ids: Sequence[int] | Tensor,  # (T,)
        lengths: Sequence[int] | Tensor,  # (N,)
        *,
        seed: int,
        epoch: int,
        examples: Sequence[int] | Tensor,  # (N,)
    ) -> Denoised:
        """A pure function of (seed, epoch, example).

        Raises ValueError for lengths that do not fit, and where a text needs more sentinels than there are.
        """
        tokens = torch.as_tensor(ids, dtype=torch.int64)
        layout = Layout.of(lengths, len(tokens), tokens.device)
        if len(examples) != len(layout.lengths):
            raise ValueError(f"{len(examples)} numbers of examples for {len(layout.lengths)} lengths")
        return self._denoise(tokens, layout, example_keys(seed, epoch, examples, tokens.device))

    @abstractmethod
    def _denoise(self, ids: Tensor, layout: Layout, keys: Tensor) -> Denoised:
        """Of tokens (T,) and a key (N,) for each example."""


@dataclass(frozen=True)
class SpanCorruption(Denoiser):
    """T5's: `rate` of the hideable tokens in spans of `mean_span` tokens on average, each replaced by a sentinel.

    The number of spans is fixed by the length of the text, as T5 does it; every way to place them, with at least one
    token between two, is equally likely, so that a text's ends are hidden less often than its middle. (T5's own never
    hides the first token and always the last.) The target is
    each sentinel with what it stands for, one more sentinel, and what special tokens end the text (T5's </s>).

    >>> denoise = SpanCorruption(Vocabulary(40, special_ids=(1, 39, 38, 37)), sentinels=(39, 38, 37))
    >>> pair = denoise([11, 12, 13, 14, 15, 16, 17, 18, 19, 1], [10], seed=0, epoch=3, examples=[0])
    >>> pair.input_ids.tolist(), pair.labels.tolist()
    ([11, 12, 13, 14, 15, 16, 39, 18, 19, 1], [39, 17, 38, 1])
    """

    vocabulary: Vocabulary
    sentinels: tuple[int, ...]
    """In the order in which they are used."""
    rate: float = 0.15
    mean_span: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1 or self.mean_span < 1:
            raise ValueError(
                f"SpanCorruption: rate is {self.rate}, mean_span {self.mean_span}; a rate between 0 and 1, 1 or more"
            )
        if len(self.sentinels) < 2:
            raise ValueError(f"SpanCorruption: {len(self.sentinels)} sentinels; give two or more")

    def _denoise(self, ids: Tensor, layout: Layout, keys: Tensor) -> Denoised:
        hideable = self.vocabulary.hideable(ids)
        hidden = torch.zeros_like(hideable)
        hidden[hideable] = self._hidden(layout.summed(hideable.long()), keys)
        return _with_sentinels(ids, layout, hideable, hidden, self.sentinels)

    def _hidden(self, counts: Tensor, keys: Tensor) -> Tensor:
        """(H,) bool: which of each example's (N,) `counts` hideable tokens are hidden."""
        num_hidden = torch.minimum(
            (counts.double() * self.rate).round().long().clamp(min=1), (counts - 1).clamp(min=1)
        ).minimum(counts)
        num_shown = counts - num_hidden
        spans = (num_hidden.double() / self.mean_span).round().long().clamp(min=1)
        spans = spans.minimum(num_hidden).minimum(num_shown + 1)
        # Shown, hidden, shown, ..., shown: what is shown at both ends may be empty.
        alternate = Layout(2 * spans + 1)
        is_hidden = alternate.place % 2 == 1
        is_end = torch.zeros_like(is_hidden)
        is_end[alternate.starts] = True
        is_end[alternate.starts + 2 * spans] = True
        lengths = torch.empty_like(alternate.place)
        lengths[is_hidden] = _parts(num_hidden, spans, keys, Site.LENGTH)
        lengths[~is_hidden] = _parts(num_shown + 2, spans + 1, keys, Site.GAP)
        lengths -= is_end.long() * torch.where(spans == 0, 2, 1)[alternate.example]
        return torch.repeat_interleave(is_hidden, lengths)


@dataclass(frozen=True)
class Infilling(Denoiser):
    """BART's: spans of Poisson lengths, `rate` of the hideable tokens in all, become one mask each; also empty ones.

    The target is the whole text. No span reaches over a special token.

    >>> denoise = Infilling(Vocabulary(40, special_ids=(0, 2), mask_id=39))
    >>> pair = denoise([0, 11, 12, 13, 14, 15, 16, 17, 18, 2], [10], seed=0, epoch=0, examples=[0])
    >>> pair.labels.tolist()
    [0, 11, 12, 13, 14, 15, 16, 17, 18, 2]
    """

    vocabulary: Vocabulary
    rate: float = 0.3
    mean_span: float = 3.0
    """Poisson's lambda."""

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1 or self.mean_span <= 0:
            raise ValueError(
                f"Infilling: rate is {self.rate}, mean_span {self.mean_span}; a rate between 0 and 1, more than 0"
            )
        if self._chance > 1:
            raise ValueError(
                f"Infilling: a rate of {self.rate} in spans of {self.mean_span} leaves nothing between them; at most "
                f"{self.mean_span / (self.mean_span + 1):.2f}"
            )
        if self.vocabulary.mask_id is None:
            raise ValueError("Infilling: the vocabulary has no mask_id")

    def _denoise(self, ids: Tensor, layout: Layout, keys: Tensor) -> Denoised:
        """The tokens are cut into drawn spans with single tokens between them, and some of the spans are hidden."""
        hideable = self.vocabulary.hideable(ids)
        hidden, masks = self._drawn(layout, hideable, keys)
        counts = (
            torch.where(hidden, 0, 1) + masks.long()
        )  # tokens that stand for each: a mask, itself, both or none
        inputs = torch.repeat_interleave(ids, counts)
        first = counts.cumsum(0) - counts
        inputs[first[masks]] = self.vocabulary.mask_id or 0
        return Denoised(inputs, _ints(layout.summed(counts)), ids, _ints(layout.lengths), hidden)

    def _drawn(self, layout: Layout, hideable: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(T,) bool twice: tokens that vanish, and tokens before which (or in whose place) a mask stands."""
        tokens = hideable.nonzero().flatten()
        runs = Layout(layout.summed(hideable.long()))
        key = keys[runs.example]
        length = torch.bucketize(
            top(drawn(key, Site.LENGTH, runs.place), 32), self._steps.to(key.device), right=True
        )
        # A span and the token that is shown after it, again and again: each of these pieces is hidden or not.
        begin = runs.before(length + 1)
        inside = begin < runs.lengths[runs.example]
        first = (runs.starts[runs.example] + begin)[inside]  # of each piece
        piece = torch.zeros_like(tokens)
        piece[first] = 1
        piece = piece.cumsum(0) - 1
        lot = share(drawn(key[first], Site.ORDER, runs.place[first])) < self._chance
        within = torch.arange(len(tokens), device=tokens.device) - first[piece]
        gone, masks = torch.zeros_like(hideable), torch.zeros_like(hideable)
        gone[tokens[lot[piece] & (within < length[inside][piece])]] = True
        masks[tokens[first[lot]]] = True
        masks[1:] |= gone[1:] & ~hideable[:-1]
        return gone, masks

    @property
    def _chance(self) -> float:
        """How likely a piece is hidden, of whose tokens mean_span / (mean_span + 1) are in its span."""
        return self.rate * (self.mean_span + 1) / self.mean_span

    @cached_property
    def _steps(self) -> Tensor:
        """Numbers of 32 bits from which a Poisson length is longer than 0, 1, 2, ..."""
        weights = [1.0]
        while len(weights) <= self.mean_span or weights[-1] > _POISSON_END * sum(weights):
            weights.append(weights[-1] * self.mean_span / len(weights))
        return length_steps(weights)


@dataclass(frozen=True)
class Continuation(Denoiser):
    """UL2's S-denoiser: a drawn share of the text's end is one span, `rate` of it on average.

    >>> denoise = Continuation(Vocabulary(40, special_ids=(1, 39, 38)), sentinels=(39, 38))
    >>> pair = denoise([11, 12, 13, 14, 15, 1], [6], seed=0, epoch=1, examples=[0])
    >>> pair.input_ids.tolist(), pair.labels.tolist()
    ([11, 12, 13, 14, 39, 1], [39, 15, 38, 1])
    """

    vocabulary: Vocabulary
    sentinels: tuple[int, ...]
    """Two of them are used."""
    rate: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 0.5 or len(self.sentinels) < 2:
            raise ValueError(
                f"Continuation: rate is {self.rate}, sentinels {self.sentinels}; at most 0.5, and two sentinels"
            )

    def _denoise(self, ids: Tensor, layout: Layout, keys: Tensor) -> Denoised:
        """From 1 to 2 * rate of the hideable tokens, each number equally likely, are the target."""
        hideable = self.vocabulary.hideable(ids)
        counts = layout.summed(hideable.long())
        number = drawn(keys, Site.LENGTH)
        num_hidden = below(number, (counts.double() * 2 * self.rate).long().clamp(min=1)) + 1
        before = layout.before(hideable.long())
        hidden = hideable & (before >= (counts - num_hidden)[layout.example])
        return _with_sentinels(ids, layout, hideable, hidden, self.sentinels)


@dataclass(frozen=True)
class Mixture(Denoiser):
    """One of several denoisers for each example and epoch, each as likely as its weight says.

    `prefixes` are the tokens that tell the model which: they are put before the input.
    """

    denoisers: tuple[Denoiser, ...]
    weights: tuple[float, ...]
    prefixes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        counts = {len(self.denoisers), len(self.weights), len(self.prefixes)}
        if len(counts) != 1 or not self.denoisers or min(self.weights) < 0 or not sum(self.weights) > 0:
            raise ValueError(
                f"Mixture: {len(self.denoisers)} denoisers, weights {self.weights}, {len(self.prefixes)} prefixes; "
                f"give each denoiser a weight of 0 or more and a prefix"
            )

    @classmethod
    def ul2(
        cls, vocabulary: Vocabulary, sentinels: tuple[int, ...], modes: Sequence[tuple[int, ...]]
    ) -> Mixture:
        """UL2's seven, equally likely; `modes` are the tokens of R (short spans), X (much) and S (the end)."""
        if len(modes) != 3:
            raise ValueError(f"Mixture.ul2: {len(modes)} modes; give the tokens of R, X and S")
        if len(set(modes)) != 3:
            raise ValueError(
                f"modes of the same tokens, {modes}; the tokenizer must know UL2's [NLU], [NLG] and [S2S]"
            )
        regular = [(3.0, 0.15), (8.0, 0.15)]
        extreme = [(3.0, 0.5), (8.0, 0.5), (64.0, 0.15), (64.0, 0.5)]
        spans: list[Denoiser] = [
            SpanCorruption(vocabulary, sentinels, rate, mean_span) for mean_span, rate in regular + extreme
        ]
        modes_of = [modes[0]] * len(regular) + [modes[1]] * len(extreme) + [modes[2]]
        denoisers = (*spans, Continuation(vocabulary, sentinels))
        return cls(denoisers, (1.0,) * len(denoisers), tuple(modes_of))

    def which(self, seed: int, epoch: int, examples: Sequence[int] | Tensor) -> list[int]:
        """The place in `denoisers` of the one that each example has in this epoch."""
        chosen: list[int] = self._which(example_keys(seed, epoch, examples, torch.device("cpu"))).tolist()
        return chosen

    def _which(self, keys: Tensor) -> Tensor:
        number = top(drawn(keys, Site.DENOISER), 32)
        return torch.bucketize(number, length_steps(self.weights).to(number.device), right=True)

    def _denoise(self, ids: Tensor, layout: Layout, keys: Tensor) -> Denoised:
        which, hidden = self._which(keys), torch.zeros_like(ids, dtype=torch.bool)
        pairs: dict[int, tuple[Tensor, Tensor]] = {}
        for index, (denoise, prefix) in enumerate(zip(self.denoisers, self.prefixes, strict=True)):
            mine = which == index
            chosen = mine.nonzero().flatten()
            if not len(chosen):
                continue
            tokens = mine[layout.example]
            some = denoise._denoise(ids[tokens], Layout(layout.lengths[mine]), keys[mine])
            hidden[tokens] = some.hidden
            mode = torch.tensor(prefix, dtype=torch.int64, device=ids.device)
            for place, (inputs, labels) in zip(chosen.tolist(), some.pairs(), strict=True):
                pairs[place] = torch.cat([mode, inputs]), labels
        return _joined([pairs[place] for place in range(len(pairs))], hidden, ids)


def sentinels_of(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """T5's <extra_id_0>, <extra_id_1>, ... as a tokenizer numbers them.

    Raises ValueError where there are none.
    """
    vocabulary = tokenizer.get_vocab()
    found: list[int] = []
    while (name := f"<extra_id_{len(found)}>") in vocabulary:
        found.append(vocabulary[name])
    if not found:
        raise ValueError(
            "the tokenizer has no <extra_id_0>; take T5's or one like it, or add such tokens to this one"
        )
    return tuple(found)


def _with_sentinels(
    ids: Tensor, layout: Layout, hideable: Tensor, hidden: Tensor, sentinels: tuple[int, ...]
) -> Denoised:
    """Each run of `hidden` (T,) becomes a sentinel; the target has the sentinels with what they stand for."""
    starts = hidden.clone()
    starts[1:] &= ~hidden[:-1] | (layout.example[1:] != layout.example[:-1])
    spans = layout.summed(starts.long())  # (N,)
    most = int(spans.max()) if len(spans) else 0
    if most >= len(sentinels):
        raise ValueError(
            f"a text of {int(layout.lengths.max())} tokens needs {most + 1} sentinels and there are "
            f"{len(sentinels)}; cut texts shorter, or make mean_span longer"
        )
    sentinel = torch.tensor(sentinels, device=ids.device)
    own = sentinel[layout.before(starts.long()).clamp(max=most)]  # of the span that begins here
    kept = ~hidden | starts
    inputs = torch.where(starts, own, ids)[kept]

    # A target is hidden tokens with a sentinel before each run, one more sentinel, and the specials that end the text.
    num_hidden = layout.summed(hidden.long())
    after = layout.summed(hideable.long())[layout.example] - layout.before(hideable.long())
    tail = ~hideable & (after == 0)
    body = num_hidden + spans
    lengths = body + 1 + layout.summed(tail.long())
    begin = lengths.cumsum(0) - lengths
    place = (
        begin[layout.example] + layout.before(hidden.long()) + layout.before(starts.long()) + starts.long()
    )
    labels = ids.new_empty(int(lengths.sum()))
    labels[place[hidden]] = ids[hidden]
    labels[place[starts] - 1] = own[starts]
    labels[begin + body] = sentinel[spans]
    labels[((begin + body + 1)[layout.example] + layout.before(tail.long()))[tail]] = ids[tail]
    return Denoised(inputs, _ints(layout.summed(kept.long())), labels, _ints(lengths), hidden)


def _parts(totals: Tensor, counts: Tensor, keys: Tensor, what: Site) -> Tensor:
    """(sum of counts,) int64: each of the (N,) totals as so many parts of 1 or more; every way is equally likely."""
    gaps = Layout((totals - 1).clamp(min=0))
    rank = top(drawn(keys[gaps.example], what, gaps.place), 39)
    order = torch.sort(gaps.example << 39 | rank, stable=True).indices
    cut = torch.zeros_like(order)
    cut[order] = (gaps.place < (counts - 1)[gaps.example]).long()
    items = Layout(totals)
    begins = torch.zeros_like(items.place)
    begins[items.place > 0] = cut
    part = (counts.cumsum(0) - counts)[items.example] + items.before(begins) + begins
    return torch.bincount(part, minlength=int(counts.sum()))


def _joined(pairs: Sequence[tuple[Tensor, Tensor]], hidden: Tensor, like: Tensor) -> Denoised:
    none = like[:0]
    inputs, labels = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return Denoised(
        torch.cat([none, *inputs]),
        tuple(map(len, inputs)),
        torch.cat([none, *labels]),
        tuple(map(len, labels)),
        hidden,
    )


def _ints(lengths: Tensor) -> tuple[int, ...]:
    return tuple(lengths.tolist())
