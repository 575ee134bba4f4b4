"""The way into an encoder with a decoder: pairs of a source, which is read, and a target, which is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import PackedBatch
from ..errors import Unsupported
from . import bits
from .arguments import handed_on, refuse
from .causality import refuse_is_causal
from .family import Family, Head
from .inputs import Call, Origin, document_labels, layout_of, packed_input, position_ids, seed_of
from .rows import Rows, check_hidden_slots, packed_rows, padded_rows

# N pairs, S slots of a padded row, M slots of all rows end to end, T tokens

_PREFIX = "decoder_"
_IDS, _EMBEDDINGS, _MASK = (_PREFIX + name for name in ("input_ids", "inputs_embeds", "attention_mask"))
_UNKNOWN = ("position_ids", "decoder_position_ids", "token_type_ids")


def prepare_pairs(
    model: nn.Module, family: Family, head: Head, batch: PackedBatch | None, kwargs: dict[str, Any]
) -> Call:
    """Sort pairs by the lengths of target and source, so that equal ones are neighbours, and keep only their tokens."""
    for name in _UNKNOWN:
        if kwargs.pop(name, None) is not None:
            raise Unsupported(f"{type(model).__name__} takes no {name}")
    refuse(model, kwargs)
    refuse_is_causal(model, kwargs)
    source = padded_rows(kwargs, ()) if batch is None else packed_input(family, batch, kwargs)
    config, target_rows = model.config, _padded_target if batch is None else _packed_target
    target = target_rows(config, family, head, source, kwargs)
    check_hidden_slots(model, head, target)
    _check_pairs(family, head, source, target)
    seed = seed_of(model, kwargs)
    order = sorted(range(len(source.lengths)), key=lambda i: (target.lengths[i], source.lengths[i]))
    read, written = (Origin(rows, rows.index(order)) for rows in (source, target))
    known = bits.of(model, head)
    encoder, decoder = (
        replace(layout_of(rows, order, seed, rows is target), bits=known) for rows in (source, target)
    )
    encoder = replace(encoder, positions=position_ids(config, family, read, encoder))
    positions = position_ids(config, family, written, decoder)
    decoder = replace(decoder, ids=encoder.ids, positions=positions, source=encoder, _visits=encoder._visits)
    labels = document_labels(head, kwargs, len(order))
    order_tensor = torch.tensor(order, device=decoder.device)
    flat = read.tokens | written.tokens | {"use_cache": False}
    if head.loss == "stock":
        flat |= {name: label[order_tensor] for name, label in labels.items()}
    ours = {} if head.loss == "stock" else labels
    flat |= handed_on(model, kwargs, batch)
    return Call(decoder, flat, ours, order_tensor, order == sorted(order), written, read)


def _check_pairs(family: Family, head: Head, source: Rows, target: Rows) -> None:
    if len(source.lengths) != len(target.lengths):
        raise ValueError(f"there are {len(source.lengths)} sources and {len(target.lengths)} targets")
    if head.pools_at == "eos" and source.widths != target.widths:
        row = next(i for i, width in enumerate(source.widths) if width != target.widths[i])
        raise ValueError(
            f"document {row} has {source.widths[row]} slots in the source and {target.widths[row]} in the target; "
            f"documents are judged where input_ids has eos_token_id, so {_IDS} must be as long"
        )
    if target.ids not in (None, source.ids):
        raise ValueError("a pair is known by the ids of its source; give the targets none")
    if family.counts_distances:
        source.check_holes()
        target.check_holes()


def _padded_target(config: Any, family: Family, head: Head, source: Rows, kwargs: dict[str, Any]) -> Rows:
    """The target as the stock model is given it, or makes it of labels or of the source."""
    is_given = kwargs.get(_IDS) is not None or kwargs.get(_EMBEDDINGS) is not None
    labels = kwargs.get("labels") if head.token_labels else None
    if not is_given and labels is not None:
        if labels.dim() != 2:
            raise ValueError(f"labels is {tuple(labels.shape)}; it must be (N, S) where {_IDS} is made of it")
        widths = (labels.shape[-1],) * len(labels)
        kwargs[_IDS] = shifted(config, family, labels.reshape(-1), widths).view(labels.shape)
    elif not is_given:
        kwargs[_IDS] = _copied(config, family, head, source).view(source.shape)
    rows = padded_rows(kwargs, head.token_labels, _PREFIX, head.flat_labels)
    if rows.valid is not None:
        return rows
    if "labels" in rows.tokens:
        return replace(rows, valid=_before_unscored_ends(rows))
    return rows if is_given else replace(rows, valid=_padded_on_the_right(source))


def _before_unscored_ends(rows: Rows) -> Tensor:
    """(M,) bool: slots up to the last of their row that has a label, as no token reads what comes after it.

    The first slot of a row without any label stays.
    """
    scored = (rows.slots * (rows.tokens["labels"] != -100)).view(rows.shape)
    return (rows.slots.view(rows.shape) <= scored.amax(1, keepdim=True)).reshape(-1)


def _padded_on_the_right(source: Rows) -> Tensor | None:
    """(M,) bool: which slots hold a token, of a source of which the target is made."""
    if source.valid is None:
        return None
    lengths = torch.tensor(source.lengths, device=source.slots.device)
    right = source.slots < lengths.repeat_interleave(source.shape[1])
    if not torch.equal(source.valid, right):
        raise Unsupported(
            f"where {_IDS} is made of input_ids, the decoder would read the slots that attention_mask hides before a "
            f"token; pad on the right, or give {_MASK} too, or {_IDS}"
        )
    return source.valid


def _packed_target(config: Any, family: Family, head: Head, source: Rows, kwargs: dict[str, Any]) -> Rows:
    """The target as a PackedBatch of decoder inputs or of labels, or made of the source."""
    for name in (_EMBEDDINGS, _MASK):
        if kwargs.pop(name, None) is not None:
            raise ValueError(f"{name} does not go with a PackedBatch; give {_IDS} as a PackedBatch")
    batch, labels = kwargs.pop(_IDS, None), kwargs.pop("labels", None) if head.token_labels else None
    if batch is None and isinstance(labels, PackedBatch):
        batch = replace(labels, input_ids=shifted(config, family, labels.input_ids, labels.lengths))
    elif batch is None and labels is None:
        batch = PackedBatch(_copied(config, family, head, source), source.lengths)
    if not isinstance(batch, PackedBatch):
        raise ValueError(f"beside a PackedBatch, {_IDS} or labels must be a PackedBatch too")
    if isinstance(labels, PackedBatch):
        if labels.lengths != batch.lengths:
            raise ValueError(f"labels have lengths {labels.lengths}, {_IDS} has {batch.lengths}")
        labels = labels.input_ids
    return packed_rows(batch, {_IDS: batch.input_ids, "labels": labels}, _PREFIX)


def _copied(config: Any, family: Family, head: Head, source: Rows) -> Tensor:
    """(M,): the source, shifted, as some heads write again what they read."""
    if not head.copies_source or source.input_ids is None:
        raise ValueError(f"give {_IDS}" + (", or labels of which it is made" if head.token_labels else ""))
    return shifted(config, family, source.input_ids, source.widths)


def shifted(config: Any, family: Family, ids: Tensor, widths: Sequence[int]) -> Tensor:
    """(M,): what a decoder is given so that it writes `ids` (M,): each row one place later, behind a start token.

    -100 becomes the padding id.
    """
    pad = config.pad_token_id
    if pad is None:
        raise ValueError(f"config.pad_token_id is None; set it, or give {_IDS}")
    ids = ids.masked_fill(ids == -100, pad)
    lengths = torch.tensor(widths, device=ids.device)
    first = lengths.cumsum(0) - lengths
    return ids.roll(1).index_copy(0, first, _starts(config, family, ids, lengths))


def _starts(config: Any, family: Family, ids: Tensor, lengths: Tensor) -> Tensor:
    """(N,): what each row of `ids` (M,) starts with."""
    if family.starts_with_last:
        rows = torch.arange(len(lengths), device=ids.device).repeat_interleave(lengths)
        counts = torch.zeros_like(lengths).index_add(0, rows, ids.ne(config.pad_token_id).long())
        return ids[lengths.cumsum(0) - lengths + (counts - 1).clamp(min=0)]
    start = getattr(config, "decoder_start_token_id", None)
    if start is None:
        raise ValueError(f"config.decoder_start_token_id is None; set it, or give {_IDS}")
    return ids.new_full((len(lengths),), start)
