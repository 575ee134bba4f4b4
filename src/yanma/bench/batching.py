"""How texts are grouped into batches, and how many places each way computes for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..packing import plan

# B texts of one batch, S slots of a padded row

Groups = Sequence[Sequence[int]]


class Batching(Protocol):
    """Which texts are computed together, given the lengths of all and a size in `unit`s."""

    @property
    def unit(self) -> str:
        """What a size counts: `texts` or `tokens`."""

    def groups(self, lengths: Sequence[int], size: int) -> Groups:
        """Indices of texts; every text stands in exactly one group."""

    def slots(self, lengths: Sequence[int]) -> int:
        """Places computed for one group of these lengths, be they tokens or padding."""


@dataclass(frozen=True)
class Rows:
    """Rectangles of `size` texts, in the order of arrival or of length, padded to the longest or to `width`."""

    by_length: bool = False
    width: int | None = None
    unit: str = "texts"

    def groups(self, lengths: Sequence[int], size: int) -> Groups:
        """Neighbours in arrival, or in length with the longest first.

        >>> Rows(by_length=True).groups([3, 9, 4], 2)
        [[1, 2], [0]]
        """
        order = list(range(len(lengths)))
        if self.by_length:
            order.sort(key=lambda index: -lengths[index])
        return [order[start : start + size] for start in range(0, len(order), size)]

    def slots(self, lengths: Sequence[int]) -> int:
        return len(lengths) * (self.width or max(lengths))


@dataclass(frozen=True)
class Packs:
    """Texts end to end, at most `size` tokens a pack."""

    unit: str = "tokens"

    def groups(self, lengths: Sequence[int], size: int) -> Groups:
        return plan(lengths, size, too_long="alone").groups

    def slots(self, lengths: Sequence[int]) -> int:
        return sum(lengths)


@dataclass(frozen=True)
class PackedRows(Rows):
    """The batches of `Rows`, but end to end: what changes when only the padding goes."""

    def slots(self, lengths: Sequence[int]) -> int:
        return sum(lengths)


def rectangle(
    sequences: Sequence[Sequence[int]], pad_token_id: int, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Token ids (B, S) and which slots hold one (B, S), both int64; S is `width`, or the longest's length.

    >>> ids, valid = rectangle([[7, 8], [5]], pad_token_id=0, width=3)
    >>> ids.tolist(), valid.tolist()
    ([[7, 8, 0], [5, 0, 0]], [[1, 1, 0], [1, 0, 0]])
    """
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    slots = width or int(lengths.max())
    ids = torch.tensor([[*sequence, *[pad_token_id] * (slots - len(sequence))] for sequence in sequences])
    return ids, (torch.arange(slots) < lengths[:, None]).long()


def share_of_padding(batching: Batching, lengths: Sequence[int], size: int) -> float:
    """Padding among the places that are computed, 0 to 1.

    >>> share_of_padding(Rows(), [1, 3, 1, 1], size=2)
    0.25
    """
    slots = sum(
        batching.slots([lengths[index] for index in group]) for group in batching.groups(lengths, size)
    )
    return 1 - sum(lengths) / slots
