"""A pack by keywords: what transformers' collators make for flash attention, and libraries on top of it hand on.

`input_ids` is one row, (1, T), and `cu_seq_lens_q` (N + 1,) says where its documents begin and end. These are plain
tensors, so they pass through whatever moves, counts and wraps the batches of a padded model.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from ..batch import PackedBatch
from ..errors import Unsupported
from .arguments import by_token
from .families import Family, Head

# T tokens in the pack, N documents

BOUNDS = "cu_seq_lens_q"
DERIVED = ("cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")
"""What else such collators give; all of it follows from the bounds."""


@dataclass(frozen=True, eq=False)
class OneRow(PackedBatch):
    """A pack whose token-level outputs go back as one row, (1, T, ...)."""


def taken(kwargs: dict[str, Any], family: Family, head: Head) -> OneRow | None:
    """Take a pack out of a forward's keywords, what it has by token laid flat; None where there is none in them.

    Raises ValueError where the keywords contradict each other, Unsupported for an encoder-decoder.
    """
    derived = [name for name in DERIVED if kwargs.pop(name, None) is not None]
    bounds = kwargs.pop(BOUNDS, None)
    if bounds is None:
        if derived:
            raise ValueError(f"{derived[0]} is of a pack by keywords, which {BOUNDS} is missing from")
        return None
    if head.decodes:
        raise Unsupported(f"{BOUNDS} is for models that only read; give this one PackedBatches")
    ids = kwargs.pop("input_ids", None)
    if ids is None or ids.dim() != 2 or len(ids) != 1:
        seen = "is not given" if ids is None else f"is {tuple(ids.shape)}"
        raise ValueError(f"input_ids {seen}; with {BOUNDS} it is one row, (1, T)")
    lengths = _lengths(bounds, ids.shape[1])
    types = kwargs.pop("token_type_ids", None)
    batch = OneRow(ids[0], lengths, None if types is None else _row(types, "token_type_ids", ids))
    positions = kwargs.pop("position_ids", None)
    if positions is not None:
        _check_positions(_row(positions, "position_ids", ids), batch)
    for name in by_token(family, head):
        if kwargs.get(name) is not None:
            kwargs[name] = _row(kwargs[name], name, ids)
            if head.loss == "next_token" and name in head.token_labels:
                _check_first_labels(kwargs[name], name, batch)
    return batch


def _lengths(bounds: Tensor, num_tokens: int) -> tuple[int, ...]:
    if bounds.dim() != 1 or bounds.is_floating_point():
        raise ValueError(f"{BOUNDS} is {bounds.dtype} {tuple(bounds.shape)}; it is (N + 1,) of whole numbers")
    ends: list[int] = bounds.tolist()
    if len(ends) < 2 or ends[0] != 0 or ends[-1] != num_tokens:
        raise ValueError(
            f"{BOUNDS} is {ends if len(ends) < 9 else f'{ends[0]} to {ends[-1]}'}; "
            f"it begins with 0 and ends with the number of tokens, here {num_tokens}"
        )
    return tuple(end - start for start, end in pairwise(ends))


def _row(tensor: Tensor, name: str, ids: Tensor) -> Tensor:
    if tensor.shape != ids.shape:
        raise ValueError(f"{name} is {tuple(tensor.shape)}; input_ids is {tuple(ids.shape)}")
    return tensor[0]


def _check_positions(positions: Tensor, batch: PackedBatch) -> None:
    """They may count from any number, as each family has its own first position; but they may only count."""
    firsts = positions - batch.position_ids
    if bool((firsts != firsts[0]).any()):
        raise ValueError(
            f"position_ids count otherwise than {BOUNDS}: in a pack they count each document's tokens; leave them out"
        )


def _check_first_labels(labels: Tensor, name: str, batch: PackedBatch) -> None:
    """Who counts what is scored, as transformers' Trainer does, would count labels that nobody predicts."""
    firsts = labels[batch.cu_seqlens[:-1].long()]
    if bool((firsts != -100).any()):
        raise ValueError(
            f"{name} of document {int((firsts != -100).nonzero()[0])} begins with a token that nobody predicts: "
            f"its first label must be -100, as PackedCollator(next_token=True) writes it"
        )


def one_row(batch: PackedBatch) -> dict[str, Tensor]:
    """The keywords of a pack.

    >>> one_row(PackedBatch.from_sequences([[7, 8, 9], [5]]))["cu_seq_lens_q"].tolist()
    [0, 3, 4]
    """
    given = {"input_ids": batch.input_ids[None], BOUNDS: batch.cu_seqlens}
    return given if batch.token_type_ids is None else given | {"token_type_ids": batch.token_type_ids[None]}
