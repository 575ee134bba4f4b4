"""Which attention weights are dropped: keyed by (seed, document, head, query, key), never by what shares the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..keyed import Site, derived, document_keys, keep, keep_at, keep_probability
from ..masks import Mask
from ..masks.per_document import reads_across
from .problem import Problem


@dataclass(frozen=True, eq=False)
class Dropout:
    """Dropout of one attention call."""

    p: float
    row_keys: Tensor
    """(Tq, H) int64: what each head of each query is known by, from its document's key and its place in it."""
    first_keys: Tensor
    """(Tq,) int64: the flat index of the first key of each query's document."""

    @property
    def scale(self) -> float:
        """What kept weights are multiplied by, so that the expectation stays."""
        return 1 / keep_probability(self.p)

    def keep(self, rows: slice, num_q: int, num_kv: int) -> Tensor:
        """Bool (count, H, num_q, num_kv): weights that stay, of `count` documents of num_q queries in `rows`."""
        keys = self.row_keys[rows].view(-1, num_q, self.row_keys.shape[1])
        return keep(keys.transpose(1, 2), num_kv, self.p)

    def keep_at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Bool (B, H, R, K): weights that stay, of queries (B, R) and keys (B, K), both int64 and flat.

        The queries of a row of `rows` are of one document.
        """
        keys = self.row_keys[rows].transpose(1, 2).contiguous()[..., None]
        places = columns - self.first_keys[rows[:, 0]][:, None]
        return keep_at(keys, places[:, None, None], self.p)


def dropout_of(p: float, seed: int | Sequence[int] | Tensor | None, problem: Problem) -> Dropout | None:
    """The dropout of a call, or None where p is 0. `seed`: one number, or one int64 key a document."""
    if p == 0:
        return None
    keep_probability(p)
    if seed is None:
        raise ValueError(f"dropout={p} needs a seed: one number, or one key a document")
    documents = document_lengths(problem.mask) or [(problem.num_q, problem.num_kv)]
    lengths, kv_lengths = torch.tensor(documents, device=problem.device).view(-1, 2).T
    keys = document_keys(seed, range(len(lengths))) if isinstance(seed, int) else torch.as_tensor(seed)
    if keys.shape != (len(lengths),):
        raise ValueError(f"seed has shape {tuple(keys.shape)}; the mask has {len(lengths)} documents")
    first_keys = (kv_lengths.cumsum(0) - kv_lengths).repeat_interleave(lengths)
    return Dropout(p, _row_keys(keys.to(problem.device), lengths, problem.num_heads), first_keys)


def _row_keys(keys: Tensor, lengths: Tensor, num_heads: int) -> Tensor:
    # Keys that a caller made may be neighbours: mixed first, or head 1 of key 4 would be head 0 of key 5.
    heads = derived(keys, Site.HEADS)[:, None] + torch.arange(num_heads, device=keys.device)
    heads = derived(heads, Site.HEAD).repeat_interleave(lengths, 0)
    starts = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
    places = torch.arange(len(heads), device=keys.device) - starts
    return derived(heads + places[:, None], Site.QUERY)


def document_lengths(mask: Mask) -> list[tuple[int, int]] | None:
    """(query, key) lengths of the documents that `mask` keeps apart; None where it names none, or reads across them."""
    frame = mask.frame
    if frame is None or (frame not in mask.terms() and reads_across(mask, frame.grid)):
        return None
    return list(zip(frame.grid.lengths, frame.grid.kv_lengths, strict=True))
