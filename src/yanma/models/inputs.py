"""The way in: padded rectangles or a PackedBatch become the flat arguments of one forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import PackedBatch
from ..errors import Unsupported
from . import bits
from .families import Family, Head
from .layout import Layout, own_mask
from .losses import next_token_labels
from .modules import pools_first_tokens

# N rows, S slots of a padded row, M slots of all rows end to end, T tokens (slots that are not hidden)

_TOKEN_ARGUMENTS = ("input_ids", "inputs_embeds", "position_ids", "token_type_ids")
_REFUSED = {
    "past_key_values": "a key-value cache",
    "use_cache": "a key-value cache",
    "encoder_hidden_states": "cross-attention",
    "encoder_attention_mask": "cross-attention",
    "head_mask": "a head mask",
    "logits_to_keep": "logits of the last tokens only",
    "output_attentions": "attention weights: they are never formed",
}


@dataclass(frozen=True, eq=False)
class Rows:
    """What the caller gave, rows end to end."""

    tokens: Mapping[str, Tensor]
    """Arguments and labels that have one entry a slot, (M, ...)."""
    widths: tuple[int, ...]
    """Slots of each row."""
    valid: Tensor | None
    """(M,) bool: which slots hold a token; None = all."""
    slots: Tensor
    """(M,) int64: each slot's place in its row."""
    ids: tuple[int, ...] | None
    shape: tuple[int, ...]
    """Leading sizes of the caller's tensors: (N, S), or (N / C, C, S) with C choices, or (T,)."""


@dataclass(frozen=True, eq=False)
class Call:
    """One forward: the flat model's arguments, and what is needed to lay its outputs out again."""

    layout: Layout
    kwargs: dict[str, Any]
    labels: dict[str, Tensor]
    """Labels for a loss of our own, in the caller's order; the flat model does not see them."""
    index: Tensor
    """(T,) int64: the caller's slot of each token of the pack."""
    order: Tensor
    """(N,) int64: the caller's number of each document of the pack."""
    is_sorted: bool
    """Whether the documents came in the order in which they are computed."""
    rows: Rows


def prepare(
    model: nn.Module, family: Family, head: Head, batch: PackedBatch | None, kwargs: dict[str, Any]
) -> Call:
    """Sort documents by length, so that equal ones are neighbours, and keep only their tokens."""
    rows = _packed(family, head, batch, kwargs) if batch is not None else _padded(model, head, kwargs)
    seed = kwargs.pop("seed", None)
    _refuse(model, kwargs)
    lengths = (
        rows.widths if rows.valid is None else tuple(int(v.sum()) for v in rows.valid.split(rows.widths))
    )
    if 0 in lengths:
        raise ValueError(
            f"row {lengths.index(0)} has no token: its attention_mask is 0 throughout; leave it out"
        )
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    index = _index(rows, lengths, order)
    if rows.valid is not None and (family.counts_distances or _has_windows(model.config)):
        _check_holes(rows.slots[rows.valid], lengths)
    wants_states = bool(kwargs.get("output_hidden_states"))
    layout = _layout(model, family, head, lengths, order, rows, seed, wants_states)
    flat = _flat_arguments(model, family, rows, index, layout)
    labels = {name: kwargs.pop(name) for name in head.document_labels if kwargs.get(name) is not None}
    _check_labels(head, labels, len(lengths))
    order_tensor = torch.tensor(order, device=index.device)
    if head.loss == "stock":
        flat |= {name: label[order_tensor] for name, label in labels.items()}
    elif head.loss == "next_token" and "labels" in flat:
        flat["labels"] = next_token_labels(flat["labels"], layout.first_tokens)
    elif head.loss == "choice":  # the stock forward reads the number of choices off the second size
        flat |= {name: flat[name][None] for name in ("input_ids", "inputs_embeds") if name in flat}
    if layout.causal or family.caches:
        flat["use_cache"] = False
    if family.attention_mask is not None:
        flat["attention_mask"] = family.attention_mask(len(lengths)).to(index.device)
    ours = {} if head.loss == "stock" else labels
    return Call(layout, flat | kwargs, ours, index, order_tensor, order == sorted(order), rows)


def _packed(family: Family, head: Head, batch: PackedBatch, kwargs: dict[str, Any]) -> Rows:
    for name in ("attention_mask", *_TOKEN_ARGUMENTS):
        if kwargs.pop(name, None) is not None:
            raise ValueError(f"{name} is part of a PackedBatch; give one or the other")
    if batch.token_type_ids is not None and not family.token_types:
        raise Unsupported(f"{family.model_type} has no token types, but the batch has token_type_ids")
    tokens = {"input_ids": batch.input_ids, "token_type_ids": batch.token_type_ids}
    tokens |= {name: kwargs.pop(name) for name in head.token_labels if kwargs.get(name) is not None}
    given = {name: tensor for name, tensor in tokens.items() if tensor is not None}
    for name, tensor in given.items():
        if tensor.shape[:1] != batch.input_ids.shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}; the pack has {len(batch.input_ids)} tokens")
    return Rows(given, batch.lengths, None, batch.position_ids, batch.ids, (len(batch.input_ids),))


def _padded(model: nn.Module, head: Head, kwargs: dict[str, Any]) -> Rows:
    names = (*_TOKEN_ARGUMENTS, *head.token_labels)
    tokens = {name: kwargs.pop(name) for name in names if kwargs.get(name) is not None}
    if ("input_ids" in tokens) == ("inputs_embeds" in tokens):
        raise ValueError("give exactly one of input_ids and inputs_embeds")
    shape = tokens["input_ids"].shape if "input_ids" in tokens else tokens["inputs_embeds"].shape[:-1]
    if 0 in shape:
        raise ValueError(f"the input is {tuple(shape)}: there is no token in it")
    device = next(iter(tokens.values())).device
    flat = {name: _end_to_end(tensor, shape, name) for name, tensor in tokens.items()}
    width, num_slots = shape[-1], shape.numel()
    slots = torch.arange(width, device=device).repeat(num_slots // width)
    valid = kwargs.pop("attention_mask", None)
    if valid is not None:
        if valid.shape != shape:
            raise Unsupported(
                f"attention_mask must be {tuple(shape)}, 1 where a token stands; got {tuple(valid.shape)}"
            )
        valid = valid.reshape(-1).bool()
        _check_hidden_slots(model, head, flat, valid, slots)
    return Rows(flat, (width,) * (num_slots // width), valid, slots, None, tuple(shape))


def _end_to_end(tensor: Tensor, shape: torch.Size, name: str) -> Tensor:
    """(N, S, ...) as (N * S, ...); position ids of one row may serve all rows."""
    if name == "position_ids":
        tensor = tensor.expand(shape)
    if tensor.shape[: len(shape)] != shape:
        raise ValueError(
            f"{name} is {tuple(tensor.shape)}; it must begin with {tuple(shape)} as the tokens do"
        )
    return tensor.reshape(-1, *tensor.shape[len(shape) :])


def _check_hidden_slots(
    model: nn.Module, head: Head, tokens: Mapping[str, Tensor], valid: Tensor, slots: Tensor
) -> None:
    """Refuse what a stock model would compute from hidden slots, as nothing is computed there."""
    for name in head.token_labels:
        if head.scores_padding and name in tokens and bool((tokens[name][~valid] != -100).any()):
            raise ValueError(
                f"{name} must be -100 where attention_mask is 0: what is hidden cannot be scored"
            )
    first_hidden = (slots == 0) & ~valid
    if bool(first_hidden.any()) and pools_first_tokens(model):
        row = int(first_hidden[slots == 0].nonzero()[0])
        raise ValueError(
            f"row {row} begins with padding, but this model pools the first slot; pad on the right"
        )


def _has_windows(config: Any) -> bool:
    return getattr(config, "sliding_window", None) is not None


def _check_holes(slots: Tensor, lengths: Sequence[int]) -> None:
    """Refuse hidden slots between tokens, `slots` (T,) of which are given: a stock model counts them in distances."""
    firsts, lasts = (torch.stack([part[end] for part in slots.split(list(lengths))]) for end in (0, -1))
    torn = lasts - firsts + 1 != torch.tensor(lengths, device=slots.device)
    if bool(torn.any()):
        raise Unsupported(
            f"row {int(torn.nonzero()[0])} has hidden slots between its tokens, which a stock model of this kind "
            f"counts in distances of tokens; leave them out of the input"
        )


def _check_labels(head: Head, labels: Mapping[str, Tensor], num_documents: int) -> None:
    """One label a document; the choices of one question share one."""
    for name, label in labels.items():
        wrong = num_documents % max(len(label), 1) if head.loss == "choice" and label.dim() else 1
        if wrong and label.shape[:1] != (num_documents,):
            raise ValueError(f"{name} is {tuple(label.shape)}; there are {num_documents} documents")


def _refuse(model: nn.Module, kwargs: Mapping[str, Any]) -> None:
    wishes = {name: value for name, value in kwargs.items() if value is not None and value is not False}
    config: Any = model.config
    if getattr(config, "output_attentions", False):
        wishes.setdefault("output_attentions", True)
    for name, what in _REFUSED.items():
        if name in wishes and not (
            name == "logits_to_keep" and isinstance(wishes[name], int) and wishes[name] == 0
        ):
            raise Unsupported(f"an unpadded model does not do {name} ({what}); yanma.restore(model) does")


def _index(rows: Rows, lengths: Sequence[int], order: Sequence[int]) -> Tensor:
    """(T,) int64: slots that hold tokens, document by document in `order`."""
    held = (
        torch.arange(len(rows.slots), device=rows.slots.device)
        if rows.valid is None
        else rows.valid.nonzero()[:, 0]
    )
    if list(order) == list(range(len(order))):
        return held
    documents_ = held.split(list(lengths))
    return torch.cat([documents_[i] for i in order])


def _layout(
    model: nn.Module,
    family: Family,
    head: Head,
    lengths: Sequence[int],
    order: Sequence[int],
    rows: Rows,
    seed: int | None,
    wants_hidden_states: bool,
) -> Layout:
    config: Any = model.config
    first_only = not (
        head.token_outputs or wants_hidden_states or getattr(config, "output_hidden_states", False)
    )
    in_order = tuple(lengths[i] for i in order)
    is_causal = family.is_causal(config)
    ids = rows.ids or range(len(order))
    if seed is None:
        seed = int(torch.randint(2**62, ())) if model.training else 0
    return Layout(
        in_order,
        own_mask(in_order, is_causal),
        is_causal,
        first_only,
        seed,
        tuple(ids[i] for i in order),
        rows.slots.device,
        bits.of(model, head),
    )


def _flat_arguments(
    model: nn.Module, family: Family, rows: Rows, index: Tensor, layout: Layout
) -> dict[str, Any]:
    """Tensors (1, T, ...). Position ids are computed before padding is left out, as a stock model would."""
    config: Any = model.config
    flat = {name: tensor[index][None] for name, tensor in rows.tokens.items()}
    if "position_ids" not in flat:
        places = layout.places if family.counts_tokens else rows.slots[index]
        if family.position_table and getattr(config, "position_biased_input", True):
            _check_length(family, config, rows, places)
        if not family.counts_tokens:
            ids = rows.tokens.get("input_ids")
            places = family.positions(ids, rows.slots, config.pad_token_id)[index]
        flat["position_ids"] = places[None]
    if family.token_types and family.default_token_type is not None and "token_type_ids" not in flat:
        flat["token_type_ids"] = torch.full_like(flat["position_ids"], family.default_token_type)
    return flat


def _check_length(family: Family, config: Any, rows: Rows, places: Tensor) -> None:
    limit = config.max_position_embeddings - family.reserved_positions(config.pad_token_id)
    if max(rows.widths) > limit:
        longest = int(places.max()) + 1
        if longest > limit:
            raise ValueError(f"a document has {longest} tokens; this model has {limit} positions")
