"""The new slots of padded rows, behind those that a cache holds: which of all of them hold tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention.cached import Reading, Readings
from .inputs import Origin
from .rows import Rows

# N rows of S new slots, behind P slots that a cache holds; T new tokens, in slots that are not hidden

IDS, EMBEDDINGS, MASK = "input_ids", "inputs_embeds", "attention_mask"


@dataclass(frozen=True, eq=False)
class NewSlots:
    """What a call says of its rows."""

    tokens: dict[str, Tensor]
    """Arguments that have one entry a slot, (N * S, ...)."""
    shape: tuple[int, int]
    """(N, S)."""
    past: int
    """P."""
    valid: Tensor | None
    """(N, P + S) bool: which slots hold a token; None = all."""
    lengths: Sequence[int]
    """New tokens of each row."""
    keys: Sequence[int]
    """All tokens of each row."""
    firsts: Sequence[int]
    """The slot of each row's first token."""
    torn: Sequence[bool]
    """Of each row, whether hidden slots stand between its tokens."""

    @property
    def fresh(self) -> Tensor | None:
        """(N, S) bool: which of the new slots hold a token; None = all."""
        all_do = self.valid is None or min(self.lengths) == self.shape[1]
        return None if all_do or self.valid is None else self.valid[:, self.past :]

    @property
    def end_in_tokens(self) -> bool:
        """Whether each row's last slot holds a token."""
        return self.fresh is None or bool(self.fresh[:, -1].all())

    def origin(self, order: Sequence[int]) -> Origin:
        """Where the new tokens of some rows stand, row by row in `order`."""
        (num_rows, width), fresh = self.shape, self.fresh
        slots = torch.arange(width).repeat(num_rows)
        if fresh is None:
            index = (torch.tensor(order)[:, None] * width + torch.arange(width)).flatten()
        else:
            index = fresh.flatten().nonzero()[:, 0]
            if list(order) != sorted(order):
                rows = index.split(list(self.lengths))
                index = torch.cat([rows[row] for row in order])
        valid = None if fresh is None else fresh.reshape(-1)
        return Origin(Rows(self.tokens, (width,) * num_rows, valid, slots, None, self.shape), index)

    def last(self, origin: Origin, count: int) -> tuple[Origin, Tensor]:
        """Where those of the tokens stand that are in the last slots of rows, and (K,) which of the pack these are."""
        (num_rows, width), fresh = self.shape, self.fresh
        before = max(0, width - count)
        kept = width - before
        tokens = (origin.index % width >= before).nonzero()[:, 0]
        of_pack = origin.index[tokens]
        index = of_pack // width * kept + of_pack % width - before
        valid = None if fresh is None else fresh[:, before:].reshape(-1)
        slots = torch.arange(kept).repeat(num_rows)
        return Origin(Rows({}, (kept,) * num_rows, valid, slots, None, (num_rows, kept)), index), tokens

    def readings(self, order: Sequence[int], queries: Sequence[int], causal: bool) -> Readings:
        """What documents read of these rows, of which each has so many new tokens that ask."""
        held = {
            row: None if self.valid is None else self.valid[row].nonzero()[:, 0]
            for row in order
            if self.torn[row]
        }
        documents = tuple(
            Reading(queries[row], self.keys[row], row, self.firsts[row], held.get(row)) for row in order
        )
        return Readings(documents, self.past + self.shape[1], causal)


def new_slots(kwargs: Mapping[str, Any], prefix: str = "", held: tuple[int, int] = (0, 0)) -> NewSlots | None:
    """The new slots of a call; None where it has none, or its arguments fit neither each other nor what is held.

    `prefix`: what arguments begin with; `held`: rows and columns of a cache.
    """
    given = [kwargs[prefix + name] for name in (IDS, EMBEDDINGS) if prefix + name in kwargs]
    if len(given) != 1 or given[0].dim() != (3 if given[0].is_floating_point() else 2):
        return None
    (num_rows, width), past = given[0].shape[:2], held[1]
    if 0 in (num_rows, width) or (past and held[0] != num_rows):
        return None
    tokens = _by_slot(kwargs, prefix, (num_rows, width))
    if tokens is None:
        return None
    mask, total = kwargs.get(prefix + MASK), past + width
    if mask is None:
        lengths, keys, firsts = ([each] * num_rows for each in (width, total, 0))
        return NewSlots(tokens, (num_rows, width), past, None, lengths, keys, firsts, [False] * num_rows)
    valid = _valid(mask, (num_rows, total))
    if valid is None:
        return None
    counts = valid[:, past:].sum(1), valid.sum(1), valid.int().argmax(1), valid.flip(1).int().argmax(1)
    lengths, keys, firsts, after = torch.stack(counts).tolist()
    if not any(lengths):
        return None
    ends = zip(keys, firsts, after, strict=True)
    torn = [own > 0 and before + own + behind != total for own, before, behind in ends]
    holds = None if min(keys) == total else valid
    return NewSlots(tokens, (num_rows, width), past, holds, lengths, keys, firsts, torn)


def _by_slot(kwargs: Mapping[str, Any], prefix: str, shape: tuple[int, int]) -> dict[str, Tensor] | None:
    """What has one entry a slot, (N * S, ...); None where something has not."""
    names = prefix + IDS, prefix + EMBEDDINGS, "position_ids", "token_type_ids"
    tokens: dict[str, Tensor] = {name: kwargs[name] for name in names if name in kwargs}
    positions = tokens.get("position_ids")
    if positions is not None and positions.shape in (shape[1:], (1, shape[1])):
        tokens["position_ids"] = positions.expand(shape)
    if any(each.shape[:2] != shape for each in tokens.values()):
        return None
    return {name: each.reshape(-1, *each.shape[2:]) for name, each in tokens.items()}


def _valid(mask: Any, shape: tuple[int, int]) -> Tensor | None:
    """A mask as bool; None where it is of another shape, or has other numbers than 0 and 1."""
    if not isinstance(mask, Tensor) or mask.shape != shape:
        return None
    valid = mask.bool()
    return valid if mask.dtype == torch.bool or bool((valid == mask).all()) else None
