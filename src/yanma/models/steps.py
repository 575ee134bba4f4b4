"""Calls such as `generate` makes, with keys and values of earlier tokens or for some logits alone, without padding.

New tokens are packed as those of any other call. What earlier ones left behind lies in a cache's rows, of which each
document reads its own. So scores have the same bits alone and in any company here too. A call of another kind, or with
a cache of another kind, is not known here, and goes through the stock forward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from . import bits
from .cache import NAMES, name_of, parameters_of
from .cached import Kept, Slots, columns_of, new_cache, parts_of, with_parts
from .causality import NAME as IS_CAUSAL
from .family import Family, Head, after_padding_id
from .gradients import lay
from .inputs import Origin, has_windows, position_ids, wants_states
from .layout import Layout, own_mask, run_with
from .new_slots import EMBEDDINGS, IDS, MASK, NewSlots, new_slots

# N rows, T new tokens of theirs, S' slots of a source

_ANY = {"use_cache", "output_hidden_states", "return_dict", "seed", *NAMES}
_DECODER = "decoder_"


@dataclass(frozen=True, eq=False)
class Step:
    """One such forward: the flat model's arguments, and what is needed to lay its outputs out again."""

    model: Any
    head: Head
    layout: Layout
    kwargs: dict[str, Any]
    origin: Origin
    scored: Origin
    """Of the tokens whose logits are wanted."""
    is_sorted: bool
    """Whether all rows have new tokens, and are computed in the caller's order."""
    cache: Any
    """The caller's, or a new one; None where none is kept."""
    read: Any
    """What the encoder gave, as the caller has it."""

    def run(self, stock: Callable[..., Any]) -> Any:
        """The stock forward's output, laid out as the caller's rows were."""
        with run_with(self.layout):
            output = stock(self.model, return_dict=True, **self.kwargs)
        for name in self.head.token_outputs:
            origin = self.scored if name == "logits" else self.origin
            output[name] = lay(output[name][0], origin, self.is_sorted)
        for name in ("hidden_states", "decoder_hidden_states"):
            if output.get(name) is not None:
                output[name] = tuple(lay(states[0], self.origin, self.is_sorted) for states in output[name])
        if self.read is not None:
            output["encoder_last_hidden_state"] = self.read[0]
        for name in NAMES:
            if output.get(name) is not None:
                output[name] = self.cache
        return output


@dataclass(frozen=True, eq=False)
class _Source:
    """What an encoder gave to as many rows as the decoder has."""

    outputs: Any
    """As the caller has it, the states (N, S', C) first."""
    slots: NewSlots
    is_kept: bool
    """Whether the cache has its keys and values already."""


def step(model: Any, family: Family, head: Head, kwargs: Mapping[str, Any]) -> Step | None:
    """How to compute a call without padding; None where that is not known."""
    if not (_is_known(model, family, head) and _are_known(model, family, head, kwargs)):
        return None
    cache = next((kwargs[name] for name in NAMES if name in kwargs), None)
    if cache is None and kwargs.get("use_cache", getattr(model.config, "use_cache", False)):
        cache = new_cache(model.get_decoder().config, head.decodes)
    parts = () if cache is None else parts_of(cache, head.decodes)
    if parts is None:
        return None
    new = new_slots(kwargs, _DECODER * head.decodes, columns_of(parts[0]) if parts else (0, 0))
    if new is None or not _fits(model, family, kwargs, new):
        return None
    if not head.decodes:
        return _made(model, family, head, kwargs, cache, parts, new)
    source = _source(model, kwargs, cache, new)
    return None if source is None else _made(model, family, head, kwargs, cache, parts, new, source)


def _fits(model: Any, family: Family, kwargs: Mapping[str, Any], new: NewSlots) -> bool:
    """Whether rows are such that what hidden slots would give is not asked for, and changes nothing of the others."""
    if any(new.torn) and (family.counts_distances or has_windows(model.config)):
        return False
    if 0 in new.lengths and hasattr(model, "peft_config"):
        return False  # its layers may be told by which adapter each row is computed
    return "logits_to_keep" not in kwargs or new.end_in_tokens  # who names it reads the last slot, as 0 too


def _is_known(model: Any, family: Family, head: Head) -> bool:
    """Whether a model writes on, token by token, and nothing of another kind is computed beside it."""
    writes = head.scores_vocabulary or "last_hidden_state" in head.token_outputs
    config, causal = model.config, head.decodes or family.is_causal(model.config)
    if model.training or not (writes and causal and family.by_interface):
        return False
    if head.pools_at or getattr(model, "pooler", None) is not None:
        return False
    if not getattr(config, IS_CAUSAL, True) or getattr(config, "output_attentions", False):
        return False
    if any(
        getattr(own, "alora_invocation_tokens", None) for own in getattr(model, "peft_config", {}).values()
    ):
        return False
    return bool(model.device.type == "cpu") and not model._yanma_masked


def _are_known(model: Any, family: Family, head: Head, kwargs: Mapping[str, Any]) -> bool:
    """Whether it is known of each argument what becomes of it."""
    known = {IDS, EMBEDDINGS, MASK, *_ANY}
    if head.decodes:
        known |= {"encoder_outputs", *(_DECODER + name for name in (IDS, EMBEDDINGS, MASK))}
    else:
        known |= {"position_ids"} if family.position_argument else set()
        known |= {"token_type_ids"} if family.token_types else set()
        known |= {"logits_to_keep"} & parameters_of(type(model)._yanma_stock)
    if any(name not in known for name, value in kwargs.items() if value is not False):
        return False
    keeps = kwargs.get("logits_to_keep", 0)
    if not isinstance(keeps, int) or keeps < 0:
        return False
    return not (torch.is_grad_enabled() and wants_states(model, kwargs))


def _source(model: Any, kwargs: Mapping[str, Any], cache: Any, new: NewSlots) -> _Source | None:
    """The source of a call, which the encoder reads now if the caller did not let it; None where it does not fit."""
    outputs = kwargs.get("encoder_outputs")
    if outputs is None:
        names = IDS, EMBEDDINGS, MASK, "output_hidden_states"
        read = {name: kwargs[name] for name in names if name in kwargs}
        outputs = model.get_encoder()(**read, return_dict=True)
    marks = set() if cache is None else {bool(is_read) for is_read in cache.is_updated.values()}
    slots = new_slots({EMBEDDINGS: outputs[0]} | ({MASK: kwargs[MASK]} if MASK in kwargs else {}))
    if (
        slots is None
        or 0 in (*slots.lengths, *new.lengths)
        or slots.shape[0] != new.shape[0]
        or len(marks) > 1
    ):
        return None
    is_kept = True in marks
    if is_kept and columns_of(cache.cross_attention_cache) != slots.shape:
        return None
    return _Source(outputs, slots, is_kept)


def _made(
    model: Any, family: Family, head: Head, kwargs: Mapping[str, Any],
    cache: Any, parts: Sequence[Any], new: NewSlots, source: _Source | None = None,
) -> Step:  # fmt: skip
    order = _order(new, source)
    is_sorted, origin = order == list(range(new.shape[0])), new.origin(order)
    readings = new.readings(order, new.lengths, True) if new.past else None
    layout = replace(_layout(new, order, True), bits=bits.of(model, head), readings=readings)
    flat, layout = _placed(model.config, family, origin, layout, new)
    scored, last = origin, kwargs.get("logits_to_keep", 0)
    if last:
        scored, flat["logits_to_keep"] = new.last(origin, last)
    slots = Slots(origin.index, new.shape, is_sorted and new.fresh is None)
    views = [Kept(part, slots, new.past > 0) for part in parts[:1]]
    if source is not None:
        layout, flat["encoder_outputs"], slots = _beside(layout, source, order, new)
        views += [Kept(part, slots, source.is_kept) for part in parts[1:]]
    if cache is not None:
        flat[name_of(model)] = with_parts(cache, views)
    flat["use_cache"] = bool(kwargs.get("use_cache", getattr(model.config, "use_cache", False)))
    flat["output_hidden_states"] = kwargs.get("output_hidden_states")
    return Step(model, head, layout, flat, origin, scored, is_sorted, cache, source and source.outputs)


def _order(new: NewSlots, source: _Source | None) -> list[int]:
    """Rows with new tokens, so that those of equal lengths are neighbours where their packed tokens are read."""
    beside = new.lengths if source is None or source.is_kept else source.slots.lengths
    rows = (row for row, length in enumerate(new.lengths) if length)
    return sorted(rows, key=lambda row: (new.lengths[row], beside[row]))


def _layout(slots: NewSlots, order: Sequence[int], causal: bool) -> Layout:
    lengths, numbers = tuple(slots.lengths[row] for row in order), tuple(order)
    mask = own_mask(lengths, causal)
    return Layout(lengths, mask, causal, False, 0, numbers, torch.device("cpu"), order=numbers)


def _placed(
    config: Any, family: Family, origin: Origin, layout: Layout, new: NewSlots
) -> tuple[dict[str, Any], Layout]:
    """The flat arguments with positions and token types, or the layout with positions."""
    flat: dict[str, Any] = dict(origin.tokens)
    if not family.position_argument:
        return flat, replace(layout, positions=_positions(config, family, origin, layout, new))
    if "position_ids" not in flat:
        flat["position_ids"] = _positions(config, family, origin, layout, new)[None]
    if family.token_types and family.default_token_type is not None and "token_type_ids" not in flat:
        flat["token_type_ids"] = torch.full_like(flat["position_ids"], family.default_token_type)
    return flat, layout


def _positions(config: Any, family: Family, origin: Origin, layout: Layout, new: NewSlots) -> Tensor:
    """(T,) int64: as the stock model would compute them; but for OPT's they count all slots of a cache."""
    if not new.past:
        return position_ids(config, family, origin, layout)
    if family.counts_tokens:
        earlier = torch.tensor([new.keys[row] - new.lengths[row] for row in layout.order])
        return layout.places + earlier[layout.documents]
    rows, pad = origin.rows, config.pad_token_id
    ids = next((each for name, each in rows.tokens.items() if name.endswith(IDS)), None)
    found = family.positions(ids, rows.slots, pad)[origin.index]
    is_counted = found != pad if family.positions is after_padding_id else torch.ones_like(found)
    return found + new.past * is_counted


def _beside(
    layout: Layout, source: _Source, order: Sequence[int], new: NewSlots
) -> tuple[Layout, Any, Slots]:
    """The decoder's layout with what it reads of the source, what the stock forward is given of it, and its slots."""
    from transformers.modeling_outputs import BaseModelOutput

    states, *more = (
        source.outputs[:3] if isinstance(source.outputs, tuple | list) else source.outputs.to_tuple()
    )
    origin = source.slots.origin(order)
    whole = source.slots.fresh is None and list(order) == list(range(new.shape[0]))
    slots = Slots(origin.index, source.slots.shape, whole)
    if source.is_kept:
        readings = source.slots.readings(order, new.lengths, False)
        return replace(layout, source_readings=readings), BaseModelOutput(states, *more), slots
    beside = replace(_layout(source.slots, order, False), bits=layout.bits)
    packed = states.flatten(0, 1)[origin.index][None]
    return replace(layout, source=beside), BaseModelOutput(packed, *more), slots
