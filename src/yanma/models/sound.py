"""The way into a speech model: padded recordings become samples end to end, and their frames a pack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import PackedBatch
from ..errors import Unsupported
from .arguments import by_token, handed_on, refuse
from .causality import refuse_is_causal
from .family import Family, Head
from .inputs import Call, Origin, document_labels, layout_of, seed_of
from .rows import Rows, end_to_end, stands
from .spec_augment import masked_frames

# N recordings, S samples of a padded row, F frames of one, T frames of all recordings


def check_sound(model: Any, head: Head) -> None:
    """Refuse a speech model whose config asks for something that `unpad` does not do."""
    config = model.config
    if getattr(config, "add_adapter", False):
        raise Unsupported(
            "add_adapter is True: an adapter makes fewer frames of those of a recording, which unpad does not do"
        )
    if getattr(config, "conv_pos_batch_norm", False):
        raise Unsupported(
            "conv_pos_batch_norm is True: in training its norm is over all frames of a batch, whatever their recording"
        )
    if head.loss == "ctc" and config.ctc_loss_reduction not in ("sum", "mean"):
        raise Unsupported(
            f"ctc_loss_reduction is {config.ctc_loss_reduction!r}; unpad supports 'sum' and 'mean'"
        )


def prepare_sound(
    model: Any, family: Family, head: Head, batch: PackedBatch | None, kwargs: dict[str, Any]
) -> Call:
    """Sort recordings by length, so that equal ones are neighbours, and keep only what was recorded."""
    if batch is not None:
        raise Unsupported(
            f"{type(model).__name__} reads recordings, of which a PackedBatch has none; give input_values (N, samples) "
            f"and attention_mask"
        )
    refuse(model, kwargs)
    refuse_is_causal(model, kwargs)
    _check_training(model)
    seed = seed_of(model, kwargs)
    values, samples = _recordings(kwargs)
    rows = _frames(model, head, samples, values.shape[1], kwargs, by_token(family, head))
    order = sorted(range(len(samples)), key=samples.__getitem__)
    origin = Origin(rows, rows.index(order))
    layout = replace(layout_of(rows, order, seed, False), samples=tuple(samples[i] for i in order))
    flat = dict(origin.tokens)
    flat["input_values"] = torch.cat([values[i, : samples[i]] for i in order])[None]
    config = model.config
    if model.training and config.apply_spec_augment and config.mask_time_prob > 0:
        spans = config.mask_time_prob, config.mask_time_length, config.mask_time_min_masks
        flat.setdefault("mask_time_indices", masked_frames(layout, *spans)[None])
    if "mask_time_indices" in flat and not hasattr(model.base_model, "masked_spec_embed"):
        raise ValueError(
            "frames are to be masked, but this model was built with mask_time_prob 0 and has no masked_spec_embed to "
            "put there; build or load it with its mask_time_prob"
        )
    order_tensor = torch.tensor(order, device=layout.device)
    flat |= {name: label[order_tensor] for name, label in document_labels(head, kwargs, len(order)).items()}
    flat |= handed_on(model, kwargs)
    return Call(layout, flat, {}, order_tensor, order == sorted(order), origin, origin)


def _check_training(model: nn.Module) -> None:
    """Refuse what training draws for all recordings at once."""
    config: Any = model.config
    if not model.training:
        return
    if config.apply_spec_augment and config.mask_feature_prob:
        raise Unsupported(
            f"mask_feature_prob is {config.mask_feature_prob}: the same channels would be hidden in all recordings; "
            f"set model.config.mask_feature_prob to 0 (masks in time, mask_time_prob, are each recording's own)"
        )


def _recordings(kwargs: dict[str, Any]) -> tuple[Tensor, tuple[int, ...]]:
    """(N, S) of a call's arguments, and how many samples each recording has."""
    values, mask = kwargs.pop("input_values", None), kwargs.pop("attention_mask", None)
    if values is None or values.dim() != 2 or 0 in values.shape:
        raise ValueError(
            f"input_values {'is not given' if values is None else f'is {tuple(values.shape)}'}; it is (N, samples)"
        )
    if mask is None:
        return values, (values.shape[1],) * len(values)
    if not isinstance(mask, Tensor) or mask.shape != values.shape:
        seen = tuple(mask.shape) if isinstance(mask, Tensor) else f"a {type(mask).__name__}"
        raise Unsupported(f"attention_mask must be {tuple(values.shape)}, 1 where a sample is; got {seen}")
    valid = stands(mask, "attention_mask")
    torn = (valid[:, 1:] & ~valid[:, :-1]).any(1)
    if bool(torn.any()):
        raise Unsupported(
            f"row {int(torn.nonzero()[0])} of attention_mask has hidden samples before others; pad on the right"
        )
    return values, tuple(valid.sum(1).tolist())


def _frames(
    model: Any,
    head: Head,
    samples: Sequence[int],
    width: int,
    kwargs: dict[str, Any],
    names: Sequence[str],
) -> Rows:
    """Rows of frames, as many as the stock model makes of padded rows, with what there is for each frame."""
    config, least = model.config, 1
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        least = (least - 1) * stride + kernel
    if min(samples) < least:
        row = next(row for row, count in enumerate(samples) if count < least)
        raise ValueError(
            f"row {row} has {samples[row]} samples; this model makes no frame of less than {least}"
        )
    given = {name: kwargs.pop(name) for name in names if kwargs.get(name) is not None}
    *lengths, frames = model._get_feat_extract_output_lengths(torch.tensor([*samples, width])).tolist()
    shape = torch.Size((len(samples), frames))
    device = next(model.parameters()).device
    slots = torch.arange(frames, device=device).repeat(len(samples))
    valid = None
    if min(lengths) < frames:
        valid = slots < torch.tensor(lengths, device=device).repeat_interleave(frames)
    tokens = {
        name: end_to_end(tensor, shape, name, name in head.flat_labels) for name, tensor in given.items()
    }
    return Rows(tokens, (frames,) * len(samples), valid, slots, None, tuple(shape))
