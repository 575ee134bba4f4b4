"""Which attention weights are dropped: keyed by (seed, document, head, query, key), never by what shares the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..keyed import derived, document_keys, keep, keep_probability
from ..masks import Documents, Mask


@dataclass(frozen=True, eq=False)
class Dropout:
    """Dropout of one attention call."""

    p: float
    keys: Tensor
    """(N,) int64, one key a document; queries and keys are counted from the start of their document."""

    @property
    def scale(self) -> float:
        """What kept weights are multiplied by, so that the expectation stays."""
        return 1 / keep_probability(self.p)

    def keep(self, first: int, count: int, num_heads: int, num_q: int, num_kv: int) -> Tensor:
        """Bool (count, num_heads, num_q, num_kv): weights that stay, for `count` documents from `first` on."""
        rows = self.keys[first : first + count, None]
        rows = derived(rows + _spread(num_heads, self.keys), 1)[..., None]
        return keep(derived(rows + _spread(num_q, self.keys), 2), num_kv, self.p)


def _spread(n: int, like: Tensor) -> Tensor:
    return torch.arange(n, device=like.device)


def dropout_of(p: float, seed: int | Sequence[int] | Tensor | None, mask: Mask) -> Dropout | None:
    """The dropout of a call, or None where p is 0. `seed`: one number, or one key a document."""
    if p == 0:
        return None
    keep_probability(p)
    if seed is None:
        raise ValueError(f"dropout={p} needs a seed: one number, or one key a document")
    num_documents = len(document_lengths(mask) or [0])
    keys = document_keys(seed, range(num_documents)) if isinstance(seed, int) else torch.as_tensor(seed)
    if keys.shape != (num_documents,):
        raise ValueError(f"seed has shape {tuple(keys.shape)}; the mask has {num_documents} documents")
    return Dropout(p, keys)


def document_lengths(mask: Mask) -> list[tuple[int, int]] | None:
    """(query, key) lengths of the documents that `mask` keeps apart; None where it names no documents."""
    found = [term for term in mask.terms() if isinstance(term, Documents)]
    return list(zip(found[0].lengths, found[0].kv_lengths, strict=True)) if found else None
