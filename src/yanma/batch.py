"""PackedBatch: tokens of many documents end to end, without padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from .masks import Mask, documents

# T tokens in the pack, N documents, S slots of a padded row


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Token ids of N documents end to end, in the order in which they were given.

    >>> batch = PackedBatch.from_sequences([[7, 8, 9], [5]])
    >>> batch.input_ids.tolist(), batch.position_ids.tolist(), batch.cu_seqlens.tolist()
    ([7, 8, 9, 5], [0, 1, 2, 0], [0, 3, 4])
    >>> print(batch.mask.show())
    ###.
    ###.
    ###.
    ...#
    """

    input_ids: Tensor
    """(T,) int64."""

    lengths: tuple[int, ...]
    """Tokens of each document, on the host."""

    token_type_ids: Tensor | None = None
    """(T,) int64, or None where the model does not tell segments apart."""

    ids: tuple[int, ...] | None = None
    """One number a document by which dropout recognises it, whatever batch it is in; None = its place in the pack."""

    def __post_init__(self) -> None:
        if not isinstance(self.input_ids, Tensor):
            raise ValueError(
                f"input_ids is a {type(self.input_ids).__name__}, not a tensor (T,); "
                f"PackedBatch.from_sequences makes one of lists"
            )
        if self.input_ids.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"input_ids is {self.input_ids.dtype}; token ids are torch.int64 or torch.int32")
        if self.input_ids.dim() != 1:
            raise ValueError(f"input_ids must be flat, (T,); got {tuple(self.input_ids.shape)}")
        if sum(self.lengths) != len(self.input_ids):
            raise ValueError(
                f"lengths add up to {sum(self.lengths)}, input_ids has {len(self.input_ids)} tokens"
            )
        for document, length in enumerate(self.lengths):
            if length < 1:
                what = "is empty; leave it out" if length == 0 else f"has a negative length, {length}"
                raise ValueError(f"document {document} {what}")
        if not self.lengths:
            raise ValueError("no documents to pack")
        if self.token_type_ids is not None and self.token_type_ids.shape != self.input_ids.shape:
            raise ValueError(
                f"token_type_ids is {tuple(self.token_type_ids.shape)}, input_ids {tuple(self.input_ids.shape)}"
            )
        if self.ids is not None and len(self.ids) != len(self.lengths):
            raise ValueError(f"{len(self.ids)} ids for {len(self.lengths)} documents")

    @classmethod
    def from_sequences(
        cls,
        input_ids: Sequence[Sequence[int] | Tensor],
        token_type_ids: Sequence[Sequence[int] | Tensor] | None = None,
        *,
        ids: Sequence[int] | None = None,
    ) -> PackedBatch:
        """Pack N documents, each a sequence of token ids; `token_type_ids` likewise."""
        _check_sequences("input_ids", input_ids)
        if token_type_ids is not None:
            _check_sequences("token_type_ids", token_type_ids)
            _check_types(input_ids, token_type_ids)
        return cls(
            _concatenate(input_ids),
            tuple(len(document) for document in input_ids),
            None if token_type_ids is None else _concatenate(token_type_ids),
            None if ids is None else tuple(ids),
        )

    @classmethod
    def from_padded(
        cls, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> PackedBatch:
        """Pack the valid slots of a rectangle (N, S); `attention_mask` (N, S) is 1 (or True) where a token stands.

        Padding may stand on either side. `position_ids` count each document's own tokens from 0.

        >>> rectangle = torch.tensor([[7, 8, 0], [5, 0, 0]])
        >>> PackedBatch.from_padded(rectangle, rectangle != 0).input_ids.tolist()
        [7, 8, 5]
        """
        for name, given in (("input_ids", input_ids), ("attention_mask", attention_mask)):
            if not isinstance(given, Tensor):
                raise ValueError(f"{name} is a {type(given).__name__}, not a tensor (N, S)")
        if input_ids.dim() != 2 or input_ids.shape != attention_mask.shape:
            raise ValueError(
                f"input_ids and attention_mask must both be (N, S); "
                f"got {tuple(input_ids.shape)} and {tuple(attention_mask.shape)}"
            )
        if token_type_ids is not None and token_type_ids.shape != input_ids.shape:
            raise ValueError(
                f"token_type_ids is {tuple(token_type_ids.shape)}, input_ids {tuple(input_ids.shape)}"
            )
        valid = attention_mask.bool()
        lengths = tuple(valid.sum(1).tolist())
        return cls(input_ids[valid], lengths, None if token_type_ids is None else token_type_ids[valid])

    if not TYPE_CHECKING:  # else any name would pass the type checker

        def __getattr__(self, name: str) -> NoReturn:
            """Say where it belongs: code that asks for a `shape` or a `size` would take a tensor."""
            raise AttributeError(
                f"a PackedBatch has no {name!r}: what was given one takes tensors. A model after yanma.unpad takes it, "
                f"by itself or in peft's wrapper, but not with prompt tuning, p-tuning or prefix tuning, which put "
                f"tokens before the rows of a padded batch: give them input_ids and attention_mask. Activated LoRA "
                f"looks for its tokens in padded rows, and is for the stock model",
                name=name,
                obj=self,
            )

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.lengths)

    @property
    def mask(self) -> Mask:
        """Each token reads the tokens of its own document."""
        return documents(self.lengths)

    @property
    def max_seqlen(self) -> int:
        """Tokens of the longest document."""
        return max(self.lengths)

    @cached_property
    def cu_seqlens(self) -> Tensor:
        """(N + 1,) int32 on the device of `input_ids`: document i is `cu_seqlens[i]:cu_seqlens[i + 1]`."""
        starts = torch.tensor((0, *self.lengths), dtype=torch.int32).cumsum(0, dtype=torch.int32)
        return starts.to(self.input_ids.device)

    @cached_property
    def position_ids(self) -> Tensor:
        """(T,) int64: each token's place in its document, from 0."""
        lengths = torch.tensor(self.lengths)
        starts = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
        return (torch.arange(len(starts)) - starts).to(self.input_ids.device)

    def pad(self, flat: Tensor, value: float = 0) -> Tensor:
        """Lay out (T, ...) as (N, max_seqlen, ...), rows padded on the right with `value`.

        >>> batch = PackedBatch.from_sequences([[7, 8, 9], [5]])
        >>> batch.pad(batch.input_ids).tolist()
        [[7, 8, 9], [5, 0, 0]]
        """
        return torch.nn.utils.rnn.pad_sequence(self.unpack(flat), batch_first=True, padding_value=value)

    def unpack(self, flat: Tensor) -> list[Tensor]:
        """Views of (T, ...), one a document: (length, ...).

        >>> [t.tolist() for t in PackedBatch.from_sequences([[7, 8, 9], [5]]).unpack(torch.arange(4))]
        [[0, 1, 2], [3]]
        """
        if len(flat) != len(self.input_ids):
            raise ValueError(f"the pack has {len(self.input_ids)} tokens, this tensor {len(flat)} rows")
        return list(flat.split(self.lengths))

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on another device."""
        types = None if self.token_type_ids is None else self.token_type_ids.to(device)
        return replace(self, input_ids=self.input_ids.to(device), token_type_ids=types)


def _check_sequences(name: str, documents: Any) -> None:
    """Refuse what is no list of sequences of whole numbers, before these are laid end to end."""
    shape = getattr(documents, "shape", ())
    if len(shape) > 1:
        raise ValueError(
            f"{name} is a rectangle {tuple(shape)}, in which padding would count as tokens; "
            f"PackedBatch.from_padded(input_ids, attention_mask) packs it"
        )
    if isinstance(documents, str | Mapping) or not hasattr(documents, "__len__"):
        raise ValueError(f"{name} is a {type(documents).__name__}; give a list of documents' token ids")
    if len(documents) == 0:
        raise ValueError("no documents to pack")
    for index, document in enumerate(documents):
        if isinstance(document, str):
            raise ValueError(f"{name}: document {index} is a text; tokenise it first")
        shape = getattr(document, "shape", None)
        if not hasattr(document, "__len__") or (shape is not None and len(shape) != 1):
            seen = f"a {type(document).__name__}" + (f" {tuple(shape)}" if shape else "")
            raise ValueError(f"{name}: document {index} is {seen}; each document is a sequence of token ids")


def _check_types(
    input_ids: Sequence[Sequence[int] | Tensor], types: Sequence[Sequence[int] | Tensor]
) -> None:
    """Documents with as many types as tokens; their sums alone could agree by chance."""
    if len(types) != len(input_ids):
        raise ValueError(f"token_type_ids of {len(types)} documents, input_ids of {len(input_ids)}")
    for document, (tokens, own) in enumerate(zip(input_ids, types, strict=True)):
        if len(tokens) != len(own):
            raise ValueError(
                f"token_type_ids of document {document} has {len(own)} entries for {len(tokens)} tokens"
            )


def _concatenate(documents: Sequence[Sequence[int] | Tensor]) -> Tensor:
    tensors = [_as_tensor(index, document) for index, document in enumerate(documents)]
    return torch.cat([tensor.long() for tensor in tensors])


def _as_tensor(index: int, document: Sequence[int] | Tensor) -> Tensor:
    try:
        tensor = torch.as_tensor(document)
    except (TypeError, ValueError, RuntimeError):
        tensor = None
    if tensor is None or tensor.dim() != 1:
        raise ValueError(f"document {index} is no flat sequence of whole numbers")
    if len(tensor) and (tensor.is_floating_point() or tensor.dtype == torch.bool):
        raise ValueError(f"document {index} is {tensor.dtype}; token ids are integers")
    return tensor
