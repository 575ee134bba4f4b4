"""What becomes of every argument of a forward: laid out with its tokens or its documents, handed on, or refused."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import PackedBatch
from ..errors import Unsupported, did_you_mean
from .bounds import BOUNDS
from .families import FAMILIES, SPEECH
from .family import Family, Head

MORE_TOKENS = ("position_ids", "token_type_ids")
"""Arguments of any family that have one entry a slot, beside ids or embeddings."""
REFUSED = {
    "use_cache": "a key-value cache",
    "encoder_hidden_states": "cross-attention",
    "encoder_attention_mask": "cross-attention",
    "head_mask": "a head mask",
    "decoder_head_mask": "a head mask",
    "cross_attn_head_mask": "a head mask",
    "encoder_outputs": "what an encoder gave before, which lies padded",
    "logits_to_keep": "logits of the last tokens only",
    "output_attentions": "attention weights: they are never formed",
    "output_cross_attentions": "attention weights: they are never formed",
    "sliding_window": "a window other than the config's",
    "softcap": "capped scores other than the config's",
    "position_bias": "a bias of scores",
    "ignore_index": "another label than -100 for what is not scored",
}
"""Arguments that an unpadded forward does not honour, and what each asks for."""
HANDED_ON = ("output_hidden_states", "num_items_in_batch")
"""What the stock forward takes whatever the rows are."""
OURS = ("seed", "max_logits_mib", "return_dict", "is_causal")
"""What an unpadded forward reads itself."""
UNREAD = ("special_tokens_mask", "offset_mapping", "overflow_to_sample_mapping", "length")
"""What tokenizers give beside a model's input. No stock forward reads it, so it is left out."""
LABELS = frozenset(
    name
    for family in (*FAMILIES, *SPEECH)
    for head in family.heads.values()
    for name in (*head.token_labels, *head.document_labels)
)
"""The labels of all heads. A stock forward reads none but its own head's, so the others are left out."""


def by_token(family: Family, head: Head) -> tuple[str, ...]:
    """Names of what has one entry a token beside ids, positions and token types; labels among them."""
    return (*family.token_arguments, *head.token_arguments, *head.token_labels)


_IDS = ("input_ids", "decoder_input_ids")
_TENSORS = (
    *_IDS,
    *("inputs_embeds", "decoder_inputs_embeds", "input_values"),
    *(*MORE_TOKENS, BOUNDS, "cu_seq_lens_k", "seq_idx"),
)


def check_tensors(family: Family, head: Head, kwargs: Mapping[str, Any]) -> None:
    """Raise ValueError for something else in the place of a tensor, and for ids that are no whole numbers."""
    for name in (*_TENSORS, *by_token(family, head), *head.document_labels):
        value = kwargs.get(name)
        if value is None or isinstance(value, PackedBatch):
            continue
        if not isinstance(value, Tensor):
            packs = " (texts of several lengths: PackedBatch.from_sequences)" if name in _IDS else ""
            raise ValueError(f"{name} is a {type(value).__name__}; give a torch.Tensor{packs}")
        if name in _IDS and value.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"{name} is {value.dtype}; token ids are torch.int64 or torch.int32")


def whole_number(name: str, value: Any) -> int:
    """The value of an argument as an int. Raises ValueError where it is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; it is a whole number") from None


def refuse(model: nn.Module, kwargs: Mapping[str, Any]) -> None:
    """Raise Unsupported for arguments that cannot be honoured."""
    asked = {name: value for name, value in kwargs.items() if value is not None and value is not False}
    config: Any = model.config
    if getattr(config, "output_attentions", False):
        asked.setdefault("output_attentions", True)
    for name, what in REFUSED.items():
        if name in asked and not _asks_for_nothing(name, asked[name]):
            raise Unsupported(f"an unpadded model does not do {name} ({what}); yanma.restore(model) does")


def _asks_for_nothing(name: str, value: Any) -> bool:
    nothing = {"logits_to_keep": 0, "ignore_index": -100}
    return isinstance(value, int) and value == nothing.get(name)


def handed_on(model: nn.Module, kwargs: Mapping[str, Any], batch: Any = None) -> dict[str, Any]:
    """What is left of a call once rows and labels are taken out, as the stock forward may see it.

    Raises Unsupported for what may have an entry a token or a document and is not known, and beside a PackedBatch for
    any name that is not known. Stock models pass over such names, and so they do beside padded rows.
    """
    left = {name: value for name, value in kwargs.items() if name not in UNREAD and name not in LABELS}
    for name, value in left.items():
        if name not in HANDED_ON and not isinstance(value, bool | int | float | str):
            shape = getattr(value, "shape", None)
            seen = f"a {type(value).__name__}" + ("" if shape is None else f" {tuple(shape)}")
            raise Unsupported(
                f"{type(model).__name__} was given {name}, {seen}, of which unpad does not know to what tokens or "
                f"documents it belongs; leave it out, or call yanma.restore(model)"
            )
    if isinstance(batch, PackedBatch):
        _refuse_unknown(model, left)
    return left


def _refuse_unknown(model: nn.Module, names: Iterable[str]) -> None:
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    stock = inspect.signature(type(model).forward).parameters.values()
    known = {*HANDED_ON, *OURS, *REFUSED, *(parameter.name for parameter in stock if parameter.kind in kinds)}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, sorted(known)) or "leave it out"
            raise Unsupported(
                f"{type(model).__name__} has no argument {name!r}, which would be passed over; {hint}"
            )
