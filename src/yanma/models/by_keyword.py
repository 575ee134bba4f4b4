"""Several documents in a row of plain tensors, as transformers' collators make them and libraries hand them on.

Where documents begin is told by `cu_seq_lens_q` (N + 1,), by `seq_idx` or by `position_ids` that begin again, (R, S)
each. Plain tensors pass through whatever moves, counts and wraps the batches of a padded model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..batch import PackedBatch
from ..errors import Unsupported
from .arguments import whole_number
from .bounds import BOUNDS, DERIVED
from .causality import is_causal
from .family import Family, Head

# R rows of S slots, M slots of all rows end to end, T tokens (slots that are not hidden), N documents


@dataclass(frozen=True)
class Cut:
    """Where documents begin in the caller's rows."""

    widths: tuple[int, ...]
    """Slots of each document, from its first token to that of the next."""
    before: int
    """Of the first document's, those that are hidden before its first token."""


@dataclass(frozen=True, eq=False)
class _Slots:
    """What is told of the caller's slots, on the host."""

    told: Mapping[str, Tensor]
    """(M,) each: `position_ids`, `seq_idx`, `attention_mask`."""
    width: int

    @cached_property
    def held(self) -> Tensor:
        """(T,): slots that hold tokens."""
        mask = self.told.get("attention_mask")
        return torch.arange(self.num_slots) if mask is None else mask.nonzero()[:, 0]

    @property
    def num_slots(self) -> int:
        return len(next(iter(self.told.values())))

    @cached_property
    def first(self) -> Tensor:
        """(T,) bool: tokens that are their row's first."""
        rows = self.held // self.width
        return torch.cat([rows.new_ones(1, dtype=torch.bool), rows[1:] != rows[:-1]])[: len(rows)]

    def steps(self, name: str) -> Tensor:
        """(T,): by how much a token's entry is above that of the token before it."""
        own = self.told[name][self.held]
        return torch.cat([own[:1], own]).diff()


def cut(model: Any, family: Family, head: Head, kwargs: dict[str, Any]) -> Cut | None:
    """Where documents begin, told by the keywords of a call, which are taken out of them; None = each row is one.

    Raises ValueError where the keywords contradict each other, Unsupported for what only one document a row can have.
    """
    told = {name: kwargs.pop(name) for name in (BOUNDS, *DERIVED) if name in kwargs}
    if not told and "position_ids" not in kwargs:
        return None
    if head.decodes or family.is_speech:
        if told:
            raise Unsupported(f"{next(iter(told))} is for models that only read; give this one PackedBatches")
        return None
    shape = _shape(kwargs)
    if not told and (shape is None or shape[-1] == 1 or _says_who_reads_whom(kwargs, shape)):
        return None
    if shape is None:
        raise ValueError(f"with {next(iter(told))}, give exactly one of input_ids and inputs_embeds")
    slots = _on_host(kwargs, told, shape)
    begins = _begins(model, family, kwargs, told, slots)
    if begins is None:
        return None
    _check_call(family, kwargs, told, shape)
    before = int(slots.held[0]) if len(slots.held) else 0
    return Cut(_widths(slots, begins), before)


def told_by_positions(model: Any, family: Family, kwargs: Mapping[str, Any]) -> bool:
    """Whether `position_ids` alone say that a row holds several documents, be they read or not."""
    given = {name: value for name, value in kwargs.items() if value is not None}
    shape = _shape(given)
    if "position_ids" not in given or shape is None or shape[-1] == 1 or _says_who_reads_whom(given, shape):
        return False
    return _by_positions(model, family, given, _on_host(given, {}, shape)) is not None


def _shape(kwargs: Mapping[str, Any]) -> torch.Size | None:
    """(R, S), or (R, C, S) with C choices; None where there are not just ids or embeddings."""
    if ("input_ids" in kwargs) == ("inputs_embeds" in kwargs):
        return None
    shape: torch.Size = (
        kwargs["input_ids"].shape if "input_ids" in kwargs else kwargs["inputs_embeds"].shape[:-1]
    )
    return shape


def _says_who_reads_whom(kwargs: Mapping[str, Any], shape: torch.Size) -> bool:
    """Whether a mask has other shapes than the tokens: such as `generate` makes for static caches, of every pair."""
    mask = kwargs.get("attention_mask")
    return mask is not None and not (isinstance(mask, Tensor) and mask.dim() == len(shape))


def _on_host(kwargs: Mapping[str, Any], told: Mapping[str, Any], shape: torch.Size) -> _Slots:
    """All that has an entry a slot, moved at once."""
    mask = kwargs.get("attention_mask")
    given = {"position_ids": kwargs.get("position_ids"), "seq_idx": told.get("seq_idx")}
    if mask is not None and not _says_who_reads_whom(kwargs, shape) and mask.shape[-1] >= shape[-1]:
        given["attention_mask"] = mask[..., -shape[-1] :] != 0  # behind what a cache holds
    found = {name: _by_slot(tensor, name, shape) for name, tensor in given.items() if tensor is not None}
    if not found:
        return _Slots({BOUNDS: torch.empty(shape.numel())}, shape[-1])
    rows = torch.stack(list(found.values())).cpu()
    return _Slots(dict(zip(found, rows, strict=True)), shape[-1])


def _by_slot(tensor: Tensor, name: str, shape: torch.Size) -> Tensor:
    """(M,) int64; one row of position ids may serve all rows."""
    if name == "position_ids" and tensor.shape in (shape[-1:], (1, shape[-1])):
        tensor = tensor.expand(shape)
    if tensor.shape != shape:
        raise ValueError(f"{name} is {tuple(tensor.shape)}; the tokens are {tuple(shape)}")
    return tensor.reshape(-1).long()


def _begins(
    model: Any, family: Family, kwargs: dict[str, Any], told: Mapping[str, Any], slots: _Slots
) -> Tensor | None:
    """(T,) bool: tokens at which documents begin; None where nothing says that a row has several."""
    if BOUNDS in told:
        begins = _by_bounds(kwargs, told, slots)
    elif "seq_idx" in told:
        begins = slots.first | (slots.steps("seq_idx") != 0)
    elif told:
        raise ValueError(f"{next(iter(told))} is of a pack by keywords, which {BOUNDS} is missing from")
    else:
        return _by_positions(model, family, kwargs, slots)
    if "seq_idx" in told and bool((begins != (slots.first | (slots.steps("seq_idx") != 0))).any()):
        raise ValueError(
            f"seq_idx changes elsewhere than {BOUNDS} says that documents begin; give one of them"
        )
    if "position_ids" in kwargs:
        _check_positions(kwargs, slots, begins, BOUNDS if BOUNDS in told else "seq_idx")
    return begins


def _by_bounds(kwargs: Mapping[str, Any], told: Mapping[str, Any], slots: _Slots) -> Tensor:
    bounds: Tensor = told[BOUNDS]
    if bounds.dim() != 1 or bounds.is_floating_point():
        raise ValueError(f"{BOUNDS} is {bounds.dtype} {tuple(bounds.shape)}; it is (N + 1,) of whole numbers")
    if slots.num_slots != slots.width:
        raise ValueError(
            f"the tokens are {slots.num_slots // slots.width} rows of {slots.width}; with {BOUNDS} they are one row"
        )
    if len(slots.held) != slots.num_slots:
        raise ValueError(
            f"attention_mask hides slots, but {BOUNDS} is for rows without padding; give one of them"
        )
    ends: list[int] = bounds.tolist()
    if "inputs_embeds" in kwargs and ends[-1] < slots.num_slots:
        raise Unsupported(
            f"inputs_embeds holds {slots.num_slots - ends[-1]} embeddings more than {BOUNDS}. Prompt tuning and "
            f"p-tuning of peft's put theirs before each padded row, and not before each document of a pack: give them "
            f"input_ids and attention_mask"
        )
    if len(ends) < 2 or ends[0] != 0 or ends[-1] != slots.num_slots:
        raise ValueError(
            f"{BOUNDS} is {ends if len(ends) < 9 else f'{ends[0]} to {ends[-1]}'}; "
            f"it begins with 0 and ends with the number of tokens, here {slots.num_slots}"
        )
    lengths = torch.tensor(ends).diff()
    if int(lengths.min()) < 1:
        document = int((lengths < 1).nonzero()[0])
        raise ValueError(f"{BOUNDS}: document {document} has {int(lengths[document])} tokens; leave it out")
    others = told.get("cu_seq_lens_k", bounds)
    if others is not bounds and others.tolist() != ends:
        raise ValueError(f"cu_seq_lens_k is not {BOUNDS}: a document would read another; give {BOUNDS} alone")
    for name in ("max_length_q", "max_length_k"):
        if name in told and whole_number(name, told[name]) < int(lengths.max()):
            raise ValueError(
                f"{name} is {int(told[name])}, but a document has {int(lengths.max())} tokens; leave it out"
            )
    return torch.zeros(slots.num_slots, dtype=torch.bool).index_fill(0, torch.tensor(ends[:-1]), True)


def _check_positions(kwargs: dict[str, Any], slots: _Slots, begins: Tensor, by: str) -> None:
    """They may count from any number. From 0 they are left out, as each family has its own first position."""
    firsts = slots.told["position_ids"][slots.held][begins]
    if bool((slots.steps("position_ids")[~begins] != 1).any()) or bool((firsts != firsts[0]).any()):
        raise ValueError(
            f"position_ids count otherwise than {by}: in a pack they count each document's tokens; leave them out"
        )
    if int(firsts[0]) == 0:
        del kwargs["position_ids"]


def _by_positions(model: Any, family: Family, kwargs: Mapping[str, Any], slots: _Slots) -> Tensor | None:
    """A document begins where positions return to their row's first or to that of a text alone.

    Other jumps are positions of one document, but where the stock model begins another at each of them.
    """
    jumps = (slots.steps("position_ids") != 1) & ~slots.first
    if not bool(jumps.any()):
        return None
    positions = slots.told["position_ids"][slots.held]
    home = family.reserved_positions(model.config.pad_token_id)
    of_row = positions[slots.first][slots.first.long().cumsum(0) - 1]
    splits = _splits_at_jumps(model, family, kwargs)
    returns = (positions == 0) | (positions == home) | (positions == of_row)
    begins = slots.first | (jumps if splits else jumps & returns)
    if bool((begins == slots.first).all()):
        return None
    if bool(begins.all()) and not splits:
        raise ValueError(
            f"position_ids are {int(positions[-1])} throughout a row: that is documents of one token, or one document "
            f"without positions; say by {BOUNDS} or seq_idx which"
        )
    least = int(positions[begins].min())
    if family.position_table and least < home:
        raise ValueError(
            f"position_ids count documents from {least}, but {family.model_type} counts from {home}, which is "
            f"DataCollatorWithFlattening(position_ids_start={home}); else the model would read positions of padding"
        )
    return begins


def _splits_at_jumps(model: Any, family: Family, kwargs: Mapping[str, Any]) -> bool:
    """Whether the stock model, given neither a mask nor a cache, begins a document wherever positions jump."""
    if "attention_mask" in kwargs or not (family.splits_at_jumps and is_causal(model.config, family, kwargs)):
        return False
    if model.training and getattr(model, "is_gradient_checkpointing", False):
        return True
    return not kwargs.get("use_cache", getattr(model.config, "use_cache", False))


def _check_call(
    family: Family, kwargs: Mapping[str, Any], told: Mapping[str, Any], shape: torch.Size
) -> None:
    """Refuse what does not go with several documents in a row."""
    by = next(iter(told), "position_ids")
    for name in ("use_cache", "past_key_values"):
        if name in kwargs and kwargs[name] is not False:
            raise Unsupported(
                f"{by} says that a row holds several documents, and a cache, such as peft's prefix tuning hands on, "
                f"holds one; leave out {name}, or give padded rows (input_ids and attention_mask)"
            )
    if len(shape) != 2:
        raise Unsupported(
            f"{by} says that a row holds several documents; then the input is (rows, slots), not {tuple(shape)}"
        )
    if "token_type_ids" in kwargs and not family.token_types:
        raise Unsupported(f"{family.model_type} has no token types, but the pack has token_type_ids")


def _widths(slots: _Slots, begins: Tensor) -> tuple[int, ...]:
    """Hidden slots belong to the document before them, and those before the first document to that."""
    starts = [0, *slots.held[begins][1:].tolist(), slots.num_slots]
    return tuple(torch.tensor(starts).diff().tolist())


def one_row(batch: PackedBatch) -> dict[str, Tensor]:
    """The keywords of a pack.

    >>> one_row(PackedBatch.from_sequences([[7, 8, 9], [5]]))["cu_seq_lens_q"].tolist()
    [0, 3, 4]
    """
    given = {"input_ids": batch.input_ids[None], BOUNDS: batch.cu_seqlens}
    return given if batch.token_type_ids is None else given | {"token_type_ids": batch.token_type_ids[None]}
