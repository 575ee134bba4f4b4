"""The keywords by which a row says where the documents in it begin and end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import Unsupported

BOUNDS = "cu_seq_lens_q"
DERIVED = ("cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")
"""What else such collators give; all but `seq_idx` follow from the bounds."""


def refuse_alone(kwargs: Mapping[str, Any]) -> None:
    """Refuse a pack that reached a part of a model by itself, where attention would go on across documents."""
    for name in (BOUNDS, *DERIVED):
        if kwargs.get(name) is not None:
            raise reached_alone(name)


def reached_alone(name: str) -> Unsupported:
    """The refusal of what tells documents apart, but not to a part of a model that is called by itself."""
    return Unsupported(
        f"{name}, of a pack, reached a part of an unpadded model that was called by itself, as peft's prefix tuning "
        f"does: give it padded rows (input_ids and attention_mask), or call the whole model"
    )
