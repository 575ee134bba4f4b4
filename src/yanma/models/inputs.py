"""The way in: a padded rectangle or a PackedBatch becomes the flat arguments of one forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import PackedBatch
from ..errors import Unsupported
from . import bits
from .arguments import MORE_TOKENS, by_token, handed_on, refuse, whole_number
from .bounds import BOUNDS, DERIVED
from .by_keyword import Cut
from .causality import is_causal
from .family import Family, Head
from .layout import Layout, own_mask
from .losses import next_token_labels
from .rows import Rows, check_hidden_slots, packed_rows, padded_rows

# N rows, S slots of a padded row, M slots of all rows end to end, T tokens (slots that are not hidden)


@dataclass(frozen=True, eq=False)
class Origin:
    """Where the tokens of a pack stood in what the caller gave."""

    rows: Rows
    index: Tensor
    """(T,) int64: the caller's slot of each token of the pack."""

    @cached_property
    def tokens(self) -> dict[str, Tensor]:
        """Arguments and labels, (1, T, ...)."""
        return {name: tensor[self.index][None] for name, tensor in self.rows.tokens.items()}


@dataclass(frozen=True, eq=False)
class Call:
    """One forward: the flat model's arguments, and what is needed to lay its outputs out again."""

    layout: Layout
    kwargs: dict[str, Any]
    labels: dict[str, Tensor]
    """Labels for a loss of our own, in the caller's order; the flat model does not see them."""
    order: Tensor
    """(N,) int64: the caller's number of each document of the pack."""
    is_sorted: bool
    """Whether the documents came in the order in which they are computed."""
    origin: Origin
    """Of the tokens that outputs belong to."""
    source: Origin
    """Of the tokens that the encoder read; the same, where there is no decoder beside it."""


def prepare(
    model: nn.Module, family: Family, head: Head, batch: PackedBatch | Cut | None, kwargs: dict[str, Any]
) -> Call:
    """Sort documents by length, so that equal ones are neighbours, and keep only their tokens."""
    refuse(model, kwargs)
    if isinstance(batch, PackedBatch):
        rows = packed_input(family, batch, kwargs, by_token(family, head))
    else:
        rows = padded_rows(kwargs, (*MORE_TOKENS, *by_token(family, head)), flat=head.flat_labels)
        if batch is not None:
            rows = rows.cut(batch)
            _check_first_labels(head, rows, kwargs)
    order = sorted(range(len(rows.lengths)), key=rows.lengths.__getitem__)
    check_hidden_slots(model, head, rows)
    seed = seed_of(model, kwargs)
    if family.counts_distances or has_windows(model.config):
        rows.check_holes()
    origin = Origin(rows, rows.index(order))
    layout = layout_of(rows, order, seed, is_causal(model.config, family, kwargs))
    first_only = not (head.token_outputs or wants_states(model, kwargs))
    layout = replace(layout, first_only=first_only, bits=bits.of(model, head))
    flat, layout = _placed(model.config, family, origin, layout)
    labels = document_labels(head, kwargs, len(order), rows.num_questions)
    order_tensor = torch.tensor(order, device=layout.device)
    if head.loss == "stock":
        flat |= {name: label[order_tensor] for name, label in labels.items()}
    elif head.loss == "next_token" and "labels" in flat:
        flat["labels"] = next_token_labels(flat["labels"], layout.first_tokens)
    elif head.loss == "choice":  # the stock forward reads the number of choices off the second size
        flat |= {name: flat[name][None] for name in ("input_ids", "inputs_embeds") if name in flat}
    if layout.causal or family.caches:
        flat["use_cache"] = False
    if family.attention_mask is not None:
        flat["attention_mask"] = family.attention_mask(len(order)).to(layout.device)
    ours = {} if head.loss == "stock" else labels
    flat |= handed_on(model, kwargs, batch)
    return Call(layout, flat, ours, order_tensor, order == sorted(order), origin, origin)


def packed_input(
    family: Family, batch: PackedBatch, kwargs: dict[str, Any], names: Sequence[str] = ()
) -> Rows:
    """Rows of the batch that was given in the place of `input_ids`, and of `names` (T,), taken out of `kwargs`."""
    for name in ("input_ids", "inputs_embeds", "attention_mask", *MORE_TOKENS, BOUNDS, *DERIVED):
        if kwargs.pop(name, None) is not None:
            raise ValueError(f"{name} is part of a PackedBatch; give one or the other")
    if batch.token_type_ids is not None and not family.token_types:
        raise Unsupported(f"{family.model_type} has no token types, but the batch has token_type_ids")
    tokens = {"input_ids": batch.input_ids, "token_type_ids": batch.token_type_ids}
    return packed_rows(batch, tokens | {name: kwargs.pop(name, None) for name in names})


def _check_first_labels(head: Head, rows: Rows, kwargs: Mapping[str, Any]) -> None:
    """Who counts what is scored, as transformers' Trainer does, counts labels that nobody predicts, but rows' first."""
    if head.loss != "next_token" or "labels" not in rows.tokens or "num_items_in_batch" not in kwargs:
        return
    if "shift_labels" in rows.tokens:  # these are counted, and scored as they are
        return
    firsts = (rows.slots == 0).nonzero()[:, 0]
    counted = (rows.tokens["labels"][firsts] != -100) & (firsts % rows.shape[-1] != 0)
    if bool(counted.any()):
        raise ValueError(
            f"labels of document {int(counted.nonzero()[0])} begin with a token that nobody predicts, but "
            f"num_items_in_batch counts it: its first label must be -100, as PackedCollator(next_token=True) writes it"
        )


def seed_of(model: nn.Module, kwargs: dict[str, Any]) -> int:
    """What dropout is keyed by: the caller's seed, or in training one of torch's generator."""
    seed = kwargs.pop("seed", None)
    if seed is None:
        return int(torch.randint(2**62, ())) if model.training else 0
    return whole_number("seed", seed)


def layout_of(rows: Rows, order: Sequence[int], seed: int, causal: bool) -> Layout:
    """Where the documents lie once they are sorted."""
    lengths = tuple(rows.lengths[i] for i in order)
    ids = rows.ids or range(len(order))
    mask = own_mask(lengths, causal)
    ids_in_order, device = tuple(ids[i] for i in order), rows.slots.device
    return Layout(lengths, mask, causal, False, seed, ids_in_order, device, order=tuple(order))


def has_windows(config: Any) -> bool:
    """Whether some layers read no further than a window."""
    return getattr(config, "sliding_window", None) is not None


def wants_states(model: nn.Module, kwargs: Mapping[str, Any]) -> bool:
    """Whether hidden states will be handed out."""
    return bool(kwargs.get("output_hidden_states") or getattr(model.config, "output_hidden_states", False))


def _placed(config: Any, family: Family, origin: Origin, layout: Layout) -> tuple[dict[str, Any], Layout]:
    """The flat arguments with positions and token types, or the layout with positions."""
    flat = dict(origin.tokens)
    if not family.position_argument:
        return flat, replace(layout, positions=position_ids(config, family, origin, layout))
    if "position_ids" not in flat:
        flat["position_ids"] = position_ids(config, family, origin, layout)[None]
    if family.token_types and family.default_token_type is not None and "token_type_ids" not in flat:
        flat["token_type_ids"] = torch.full_like(flat["position_ids"], family.default_token_type)
    return flat, layout


def position_ids(config: Any, family: Family, origin: Origin, layout: Layout) -> Tensor:
    """(T,) int64: as a stock model would compute them before padding is left out."""
    rows = origin.rows
    places = layout.places if family.counts_tokens else rows.slots[origin.index]
    if family.position_table and getattr(config, "position_biased_input", True):
        _check_length(family, config, rows, places)
    if family.counts_tokens:
        return places
    return family.positions(rows.input_ids, rows.slots, config.pad_token_id)[origin.index]


def _check_length(family: Family, config: Any, rows: Rows, places: Tensor) -> None:
    limit = config.max_position_embeddings - family.reserved_positions(config.pad_token_id)
    if max(rows.widths) > limit:
        longest = int(places.max()) + 1
        if longest > limit:
            raise ValueError(f"a document has {longest} tokens; this model has {limit} positions")


def document_labels(
    head: Head, kwargs: dict[str, Any], num_documents: int, num_questions: int | None = None
) -> dict[str, Tensor]:
    """Labels by document, taken out of `kwargs`: one each; the choices of one question share one.

    In a pack nothing but the number of labels says how many questions there are.
    """
    labels = {name: kwargs.pop(name) for name in head.document_labels if kwargs.get(name) is not None}
    for name, label in labels.items():
        if num_questions is not None and label.numel() != num_questions:
            raise ValueError(f"{name} is {tuple(label.shape)}; there are {num_questions} questions")
        wrong = num_documents % max(len(label), 1) if head.loss == "choice" and label.dim() else 1
        if wrong and label.shape[:1] != (num_documents,):
            raise ValueError(f"{name} is {tuple(label.shape)}; there are {num_documents} documents")
    return labels
