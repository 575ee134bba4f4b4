"""What a corruption did: realised rates, what stands in the place of hidden tokens, lengths of spans, positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .denoising import Denoised
from .plan import IGNORE, Corrupted
from .vocabulary import Vocabulary

_TENTHS = 10


@dataclass(frozen=True)
class Hidden:
    """Counts of what was hidden of some texts."""

    texts: int
    tokens: int
    """Those that might have been hidden."""
    hidden: int
    rate: float
    """Hidden of those that might have been."""
    spans: Mapping[int, int]
    """How many runs of hidden tokens there are of each length."""
    positions: tuple[float, ...]
    """Rate in each tenth of the texts."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """In words."""
        most = max(self.spans.values(), default=1)
        mean = self.hidden / max(1, sum(self.spans.values()))
        return [
            f"{self.hidden:,} of {self.tokens:,} tokens in {self.texts:,} texts hidden: {self.rate:.2%}",
            *self._more(),
            f"runs of hidden tokens by length, {mean:.2f} on average:",
            *(f"{n:4} {c:8,} {'#' * -(-40 * c // most)}" for n, c in sorted(self.spans.items())),
            "rate in each tenth of a text: " + " ".join(f"{rate:.1%}" for rate in self.positions),
        ]

    def _more(self) -> list[str]:
        return []


@dataclass(frozen=True)
class Statistics(Hidden):
    """Counts over some texts that were corrupted in place."""

    masked: float
    """Share of hidden tokens that are the mask."""
    random: float
    kept: float

    def _more(self) -> list[str]:
        return [f"of these: mask {self.masked:.1%}, random {self.random:.1%}, as they were {self.kept:.1%}"]


@dataclass(frozen=True)
class DenoisingStatistics(Hidden):
    """Counts over some texts from which a denoiser took spans."""

    input_tokens: int
    """What stands for spans is counted."""
    label_tokens: int

    def _more(self) -> list[str]:
        return [f"inputs have {self.input_tokens:,} tokens, targets {self.label_tokens:,}"]


def statistics(corrupted: Iterable[Corrupted], vocabulary: Vocabulary) -> Statistics:
    """Those of some texts, each corrupted by itself.

    >>> pair = Corrupted(torch.tensor([0, 9, 9, 4]), torch.tensor([-100, 2, 3, -100]))
    >>> found = statistics([pair], Vocabulary(10, special_ids=(0,), mask_id=9))
    >>> found.hidden, found.tokens, found.masked, found.spans
    (2, 3, 1.0, {2: 1})
    """
    tally, masked, kept = _Tally(), 0, 0
    mask = -1 if vocabulary.mask_id is None else vocabulary.mask_id
    for text in corrupted:
        hidden = text.labels != IGNORE
        true = torch.where(hidden, text.labels, text.input_ids)
        masked += int(text.input_ids[hidden].eq(mask).sum())
        kept += int((text.input_ids[hidden] == true[hidden]).sum())
        tally.add(vocabulary.hideable(true), hidden)
    found = tally.found()
    of = max(1, found.hidden)
    return Statistics(
        **vars(found), masked=masked / of, random=(found.hidden - masked - kept) / of, kept=kept / of
    )


def denoising_statistics(
    denoised: Iterable[tuple[Tensor, Denoised]], vocabulary: Vocabulary
) -> DenoisingStatistics:
    """Those of some texts (T,), each with what a denoiser made of it alone.

    >>> made = Denoised(torch.tensor([5, 9, 1]), (3,), torch.tensor([9, 6, 8, 1]), (4,), torch.arange(3) == 1)
    >>> found = denoising_statistics([(torch.tensor([5, 6, 1]), made)], Vocabulary(10, special_ids=(1, 8, 9)))
    >>> found.hidden, found.tokens, found.input_tokens, found.label_tokens
    (1, 2, 3, 4)
    """
    tally, inputs, labels = _Tally(), 0, 0
    for ids, made in denoised:
        tally.add(vocabulary.hideable(ids), made.hidden)
        inputs += len(made.input_ids)
        labels += len(made.labels)
    return DenoisingStatistics(**vars(tally.found()), input_tokens=inputs, label_tokens=labels)


class _Tally:
    """Counts text by text."""

    def __init__(self) -> None:
        self.texts = 0
        self.spans: dict[int, int] = {}
        self.seen, self.hit = (torch.zeros(_TENTHS, dtype=torch.int64) for _ in range(2))

    def add(self, hideable: Tensor, hidden: Tensor) -> None:
        """One text's (T,) bools."""
        self.texts += 1
        for length in _runs(hidden):
            self.spans[length] = self.spans.get(length, 0) + 1
        count = int(hideable.sum())
        tenth = torch.arange(count) * _TENTHS // max(1, count)
        self.seen += torch.bincount(tenth, minlength=_TENTHS)
        self.hit += torch.bincount(tenth[hidden[hideable]], minlength=_TENTHS)

    def found(self) -> Hidden:
        """What was counted."""
        total, hidden = int(self.seen.sum()), int(self.hit.sum())
        spans = dict(sorted(self.spans.items()))
        positions = tuple((self.hit / self.seen.clamp(min=1)).tolist())
        return Hidden(self.texts, total, hidden, hidden / max(1, total), spans, positions)


def _runs(hidden: Tensor) -> list[int]:
    """Lengths of the runs of True."""
    edges = torch.cat([hidden.new_zeros(1), hidden, hidden.new_zeros(1)]).int().diff()
    return ((edges == -1).nonzero() - (edges == 1).nonzero()).flatten().tolist()
