"""The two kinds of masking under one interface: how examples are cut into batches, and how logits come of a batch.

dynamic   examples end to end, each token reads its own document; nothing is computed for padding
static    stock transformers: every example in a row of `max_length` slots, with a mask of which slots hold a token
Both give the same logits in the same order, so the loop does not know which one it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..batch import PackedBatch
from ..models import unpad
from ..packing import plan
from ..tasks.examples import Example

# T tokens of some examples, N examples, C classes, S = max_length

Group = tuple[int, ...]


class Masking(Protocol):
    """What the loop asks of either kind."""

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model, made ready in place."""

    def groups(self, lengths: Sequence[int]) -> tuple[Group, ...]:
        """Which examples are computed together: every index once, each group within the memory's bound."""

    def slots(self, lengths: Sequence[int]) -> int:
        """Places that are computed for one group of examples, be they tokens or padding."""

    def logits(self, model: nn.Module, examples: Sequence[Example], *, seed: int, device: torch.device) -> Tensor:
        """(T, C) or (N, C) of one group, in its order; `seed` is dropout's."""


@dataclass(frozen=True)
class Dynamic:
    """Packs of at most `max_batch_tokens` tokens through `unpad(model)`."""

    max_batch_tokens: int

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        unpadded: PreTrainedModel = unpad(model)
        return unpadded

    def groups(self, lengths: Sequence[int]) -> tuple[Group, ...]:
        return plan(lengths, self.max_batch_tokens).groups

    def slots(self, lengths: Sequence[int]) -> int:
        return sum(lengths)

    def logits(self, model: nn.Module, examples: Sequence[Example], *, seed: int, device: torch.device) -> Tensor:
        batch = PackedBatch.from_sequences(
            [example.input_ids for example in examples],
            _token_types(examples),
            ids=[example.id for example in examples],
        )
        logits: Tensor = model(batch.to(device), seed=seed).logits
        return logits


@dataclass(frozen=True)
class Static:
    """Rectangles of `max_length` slots a row, at most `max_batch_tokens` slots in all, through the stock model."""

    max_batch_tokens: int
    max_length: int
    pad_token_id: int
    per_token: bool
    """Whether the head scores tokens; then only the slots that hold one are given back."""

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        return model

    def groups(self, lengths: Sequence[int]) -> tuple[Group, ...]:
        rows = self.max_batch_tokens // self.max_length
        longest_first = sorted(range(len(lengths)), key=lambda index: -lengths[index])
        return tuple(tuple(longest_first[start : start + rows]) for start in range(0, len(lengths), rows))

    def slots(self, lengths: Sequence[int]) -> int:
        return len(lengths) * self.max_length

    def logits(self, model: nn.Module, examples: Sequence[Example], *, seed: int, device: torch.device) -> Tensor:
        if model.training:
            torch.manual_seed(seed)  # the stock model's dropout draws from the global generator
        lengths = torch.tensor([len(example.input_ids) for example in examples])
        valid = torch.arange(self.max_length) < lengths[:, None]  # (N, S)
        padded = {"input_ids": self._rectangle([example.input_ids for example in examples], self.pad_token_id)}
        token_types = _token_types(examples)
        if token_types is not None:
            padded["token_type_ids"] = self._rectangle(token_types, 0)
        padded = {name: tensor.to(device) for name, tensor in padded.items()}
        logits: Tensor = model(**padded, attention_mask=valid.long().to(device)).logits
        return logits[valid.to(device)] if self.per_token else logits

    def _rectangle(self, rows: Sequence[Sequence[int]], value: int) -> Tensor:
        return torch.tensor([[*row, *[value] * (self.max_length - len(row))] for row in rows])


def labels_of(examples: Sequence[Example], device: torch.device) -> Tensor:
    """(T,) or (N,) int64: the examples' labels end to end, as `logits` has them."""
    return torch.tensor([label for example in examples for label in example.labels], device=device)


def _token_types(examples: Sequence[Example]) -> list[tuple[int, ...]] | None:
    types = [example.token_type_ids for example in examples if example.token_type_ids is not None]
    return types if len(types) == len(examples) else None
