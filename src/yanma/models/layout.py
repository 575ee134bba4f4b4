"""Where the documents of the running forward lie: known to attention, pooling and dropout for as long as it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..attention.cached import Readings
from ..keyed import Site, derived, document_keys
from ..masks import Mask, causal, documents, window

if TYPE_CHECKING:
    from .bits import Bits
    from .gradients import States

# T tokens in the pack, N documents


def own_mask(lengths: Sequence[int], is_causal: bool) -> Mask:
    """A model's own mask of documents of these lengths."""
    return documents(lengths) & causal() if is_causal else documents(lengths)


@dataclass(eq=False)
class Scoring:
    """Of a forward whose logits are wanted of some tokens alone: they are not computed in it, but what they come of."""

    index: Tensor
    """(K,) int64: which tokens of the pack, ascending."""
    table: Tensor | None = None
    """(V, D): the last layer's weight, by which embeddings that are tied to it know that they are."""
    hands_gradient: bool = False
    """Whether the loss leaves that table's gradient here, for the embeddings to add theirs to it."""
    table_gradient: Tensor | None = None
    """(V, D): that gradient, from the loss's backward to the embeddings'."""
    rows: Tensor | None = None
    """(K, D): what the model's last layer, whose outputs are the vocabulary, was given of them."""
    weight: Tensor | None = None
    """(V, D): of that layer."""
    bias: Tensor | None = None
    """(V,), or None."""

    def keep(self, hidden_states: Tensor) -> Tensor:
        """(1, T, D), or (1, K, D) that was kept before, as (1, K, D)."""
        if hidden_states.shape[1] == len(self.index):  # where K is T, the index is that of every token
            return hidden_states
        return hidden_states.index_select(1, self.index)

    def leave(self, hidden_states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Keep what the last layer was given, (1, T, D) or (1, K, D), and let its forward end: no logits, (1, 0, V)."""
        self.rows, self.weight, self.bias = self.keep(hidden_states)[0], weight, bias
        return hidden_states.new_empty(1, 0, len(weight))


@dataclass(frozen=True, eq=False)
class Layout:
    """Documents in a row, shortest first, so that equal lengths are neighbours."""

    lengths: tuple[int, ...]
    mask: Mask
    """The model's own: documents, causal or not."""
    causal: bool
    first_only: bool
    """Whether nobody will read the last layer's output but at each document's first token."""
    seed: int
    ids: tuple[int, ...]
    device: torch.device
    positions: Tensor | None = None
    """(T,) int64: position ids, for embeddings of positions that would count slots by themselves."""
    order: tuple[int, ...] = ()
    """The caller's number of each document."""
    source: Layout | None = None
    """Of a decoder that reads what an encoder gives: the encoder's layout, its documents in the same order."""
    readings: Readings | None = None
    """Where earlier tokens have keys and values too: what the documents read of themselves in a cache."""
    source_readings: Readings | None = None
    """Where those of the source are kept: what the documents read of it in a cache."""
    samples: tuple[int, ...] = ()
    """Of documents that are frames of recordings: how many samples each recording has."""
    bits: Bits | None = None
    """What is known of the bits of a model that was unpadded with exact="bits"."""
    scoring: Scoring | None = None
    """Where logits are wanted of some tokens alone."""
    states: States | None = None
    """Where hidden states will be handed out that may be asked for gradients."""
    handed: list[Tensor] = field(default_factory=list)
    """What one module leaves for the next."""
    _visits: Counter[int] = field(default_factory=Counter)
    """A decoder's and its source's are one: what is computed again of a layer may read both."""

    @cached_property
    def _masks(self) -> dict[tuple[Mask | None, int | None], Mask]:
        return {(None, None): self.mask}

    def mask_with(self, added: Mask | None, reach: int | None = None) -> Mask:
        """What the model's own mask, a layer's window and its added mask all allow; equal ones are shared.

        `reach`: how many tokens before itself a token may read, and behind it where the model reads both ways.
        """
        key = added, reach
        if key not in self._masks:
            mask = self.mask
            if reach is not None:
                mask = mask & window(reach, 0 if self.causal else reach)
            self._masks[key] = mask if added is None else (mask & added).bind(self.lengths)
        return self._masks[key]

    @cached_property
    def cross_mask(self) -> Mask:
        """A decoder's tokens read all that the encoder gives of their own document."""
        assert self.source is not None
        return documents(self.lengths, kv_lengths=self.source.lengths)

    @property
    def longest(self) -> int:
        """No document has more tokens so far."""
        return max(self.lengths) if self.readings is None else self.readings.columns

    def visit(self, site: int) -> int:
        """What a module at `site` is called for dropout, another number each time that it runs in this forward."""
        self._visits[site] += 1
        return site + (self._visits[site] - 1) * 2**32

    @property
    def visits(self) -> Counter[int]:
        """How often each site has run so far: a copy."""
        return self._visits.copy()

    def rewind(self, visits: Counter[int]) -> None:
        """Count as if no more than `visits` had run, for a part that is computed again."""
        self._visits.clear()
        self._visits.update(visits)

    @cached_property
    def first_tokens(self) -> Tensor:
        """(N,) int64: the index of each document's first token."""
        lengths = torch.tensor(self.lengths)
        return (lengths.cumsum(0) - lengths).to(self.device)

    @cached_property
    def documents(self) -> Tensor:
        """(T,) int64: the number of each token's document."""
        lengths = torch.tensor(self.lengths, device=self.device)
        return torch.arange(len(lengths), device=self.device).repeat_interleave(lengths)

    @cached_property
    def places(self) -> Tensor:
        """(T,) int64: each token's place in its document, from 0."""
        return torch.arange(len(self.documents), device=self.device) - self.first_tokens[self.documents]

    @cached_property
    def document_keys(self) -> Tensor:
        """(N,) int64: what dropout knows a document by."""
        return document_keys(self.seed, self.ids).to(self.device)

    @cached_property
    def token_keys(self) -> Tensor:
        """(T,) int64: what dropout knows a token by, from its document and its place in it."""
        of_documents = derived(self.document_keys, Site.TOKENS)[self.documents]
        return derived(of_documents + self.places, Site.TOKEN)

    def row_keys(self, shape: torch.Size) -> Tensor | None:
        """Keys of the rows of an activation: (1, T, ...) or some tokens (1, K, ...) by token, (N, ...) by document.

        Some tokens are those that are scored, or else each document's first; then K is N.

        Those of a table that all documents share, (1, 1, R, ...), are known by their number. None for anything else.
        """
        if len(shape) == 4 and shape[:2] == (1, 1):
            return document_keys(self.seed, range(shape[2])).to(self.device)[None, None]
        if len(shape) == 3 and shape[:2] == (1, len(self.token_keys)):
            return self.token_keys[None]
        if len(shape) == 3 and shape[:2] == (1, len(self._some)):
            return self.token_keys[self._some][None]
        return self.document_keys if len(shape) == 2 and shape[0] == len(self.lengths) else None

    def tokens_of(self, x: Tensor) -> Tensor | None:
        """(T,) or (K,) int64: the tokens that ids (1, T) or activations (1, T, ...) or (1, K, ...) are of."""
        if len(x) != 1 or x.dim() < (3 if x.is_floating_point() else 2):
            return None
        if x.shape[1] == len(self.documents):
            return torch.arange(x.shape[1], device=self.device)
        return self._some if x.shape[1] == len(self._some) else None

    @property
    def _some(self) -> Tensor:
        """(K,) int64: those of a part that computes some tokens alone."""
        return self.first_tokens if self.scoring is None else self.scoring.index

    def first(self, hidden_states: Tensor) -> Tensor:
        """(1, T, C), or (1, N, C) that holds first tokens already, as (1, N, C): each document's first token."""
        if hidden_states.shape[1] == len(self.lengths):
            return hidden_states
        return hidden_states[:, self.first_tokens]

    def mean(self, hidden_states: Tensor) -> Tensor:
        """(1, T, C) as (1, N, C): the mean of each document's tokens, added up in their order, in float32 at least."""
        lengths = torch.tensor(self.lengths, device=self.device)
        tokens = hidden_states[0].to(torch.promote_types(hidden_states.dtype, torch.float32))
        sums = tokens.new_zeros(len(lengths), tokens.shape[1]).index_add(0, self.documents, tokens)
        return (sums / lengths[:, None]).to(hidden_states.dtype)[None]


_running: ContextVar[Layout | None] = ContextVar("yanma_layout", default=None)


def running() -> Layout | None:
    """The layout of the unpadded forward that is running in this thread, if one is."""
    return _running.get()


@contextmanager
def run_with(layout: Layout) -> Iterator[None]:
    """Make `layout` the running one."""
    token = _running.set(layout)
    try:
        yield
    finally:
        _running.reset(token)
