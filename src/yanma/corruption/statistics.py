"""What a corruption did: realised rates, what stands in the place of hidden tokens, lengths of spans, positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .plan import IGNORE, Corrupted
from .vocabulary import Vocabulary

_TENTHS = 10


@dataclass(frozen=True)
class Statistics:
    """Counts over some corrupted texts. Shares are of hidden tokens, but for `rate` and `positions`."""

    texts: int
    tokens: int
    """Those that might have been hidden."""
    hidden: int
    rate: float
    """Hidden of those that might have been."""
    masked: float
    random: float
    kept: float
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
        return [
            f"{self.hidden:,} of {self.tokens:,} tokens in {self.texts:,} texts hidden: {self.rate:.2%}",
            f"of these: mask {self.masked:.1%}, random {self.random:.1%}, as they were {self.kept:.1%}",
            "runs of hidden tokens by length:",
            *(f"{n:4} {c:8,} {'#' * -(-40 * c // most)}" for n, c in sorted(self.spans.items())),
            "rate in each tenth of a text: " + " ".join(f"{rate:.1%}" for rate in self.positions),
        ]


def statistics(corrupted: Iterable[Corrupted], vocabulary: Vocabulary) -> Statistics:
    """Those of some texts, each corrupted by itself.

    >>> pair = Corrupted(torch.tensor([0, 9, 9, 4]), torch.tensor([-100, 2, 3, -100]))
    >>> found = statistics([pair], Vocabulary(10, special_ids=(0,), mask_id=9))
    >>> found.hidden, found.tokens, found.masked, found.spans
    (2, 3, 1.0, {2: 1})
    """
    texts = masked = kept = 0
    spans: dict[int, int] = {}
    mask = -1 if vocabulary.mask_id is None else vocabulary.mask_id
    seen, hit = torch.zeros(_TENTHS, dtype=torch.int64), torch.zeros(_TENTHS, dtype=torch.int64)
    for text in corrupted:
        texts += 1
        hidden = text.labels != IGNORE
        true = torch.where(hidden, text.labels, text.input_ids)
        masked += int(text.input_ids[hidden].eq(mask).sum())
        kept += int((text.input_ids[hidden] == true[hidden]).sum())
        for length in _runs(hidden):
            spans[length] = spans.get(length, 0) + 1
        hideable = vocabulary.hideable(true)
        tenth = torch.arange(int(hideable.sum())) * _TENTHS // max(1, int(hideable.sum()))
        seen += torch.bincount(tenth, minlength=_TENTHS)
        hit += torch.bincount(tenth[hidden[hideable]], minlength=_TENTHS)
    total, count = int(seen.sum()), int(hit.sum())
    of = max(1, count)
    return Statistics(
        texts, total, count, count / max(1, total), masked / of, (count - masked - kept) / of, kept / of, spans,
        tuple((hit / seen.clamp(min=1)).tolist()),
    )  # fmt: skip


def _runs(hidden: Tensor) -> list[int]:
    """Lengths of the runs of True."""
    edges = torch.cat([hidden.new_zeros(1), hidden, hidden.new_zeros(1)]).int().diff()
    return ((edges == -1).nonzero() - (edges == 1).nonzero()).flatten().tolist()
