"""One step of pre-training a masked language model: HF's collator and padded model, and yanma.

A step is the gradient of the mean loss over the scored tokens of its texts, from clean token ids, in train mode; the
texts may be computed in smaller batches, whose gradients are added up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..batch import PackedBatch
from ..corruption import IGNORE, PadMasked, Plan
from ..models import scored_loss
from . import contestants_hf as hf
from .batching import Rows

SIZES = (8, 32)
YANMA, ALL_LOGITS = "yanma", "yanma, logits of all tokens"

Example = tuple[Tensor, Tensor]
"""Corrupted token ids and labels of one text."""


@dataclass(frozen=True)
class Pretraining(ABC):
    """One way to compute a step; the gradient is left in the parameters of `model`."""

    name: str
    model: nn.Module
    batching: Rows
    sizes: tuple[int, ...]
    """Numbers of texts at once; the fastest is measured."""

    def step(self, texts: Sequence[list[int]], size: int) -> float:
        """The mean loss over what is scored, and its gradient; corruption and collation included."""
        groups = self.batching.groups([len(text) for text in texts], size)
        return self._backward([self.corrupted(texts, group) for group in groups])

    def step_on(self, examples: Sequence[Example], size: int) -> float:
        """The same of texts that are corrupted already."""
        groups = self.batching.groups([len(ids) for ids, _ in examples], size)
        return self._backward([self.laid([examples[index] for index in group]) for group in groups])

    def _backward(self, batches: list[tuple[Any, Tensor]]) -> float:
        self.model.train()
        self.model.zero_grad(set_to_none=True)
        count = sum(int((labels != IGNORE).sum()) for _, labels in batches)
        total = 0.0
        for batch, labels in batches:
            loss = self.summed_loss(batch, labels) / count
            loss.backward()
            total += loss.item()
        return total

    @abstractmethod
    def corrupted(self, texts: Sequence[list[int]], group: Sequence[int]) -> tuple[Any, Tensor]:
        """A batch of the texts whose numbers are in `group`, corrupted, and its labels."""

    @abstractmethod
    def laid(self, examples: Sequence[Example]) -> tuple[Any, Tensor]:
        """A batch of texts that are corrupted already, and its labels."""

    @abstractmethod
    def summed_loss(self, batch: Any, labels: Tensor) -> Tensor:
        """(): the sum of the cross-entropies of all scored tokens of a batch."""


@dataclass(frozen=True)
class Padded(Pretraining):
    """DataCollatorForLanguageModeling and a stock model."""

    collate: Callable[[list[dict[str, list[int]]]], Any]
    special_ids: frozenset[int]
    pad_token_id: int

    def corrupted(self, texts: Sequence[list[int]], group: Sequence[int]) -> tuple[Any, Tensor]:
        batch = dict(self.collate([self._encoded(texts[index]) for index in group]))
        return batch, batch.pop("labels")

    def _encoded(self, text: list[int]) -> dict[str, list[int]]:
        """As a tokenizer leaves it that was asked for `special_tokens_mask`, which spares the collator finding them."""
        special = [
            int(text[0] in self.special_ids),
            *[0] * (len(text) - 2),
            int(text[-1] in self.special_ids),
        ]
        return {"input_ids": text, "special_tokens_mask": special}

    def laid(self, examples: Sequence[Example]) -> tuple[Any, Tensor]:
        batch = PadMasked(self.pad_token_id)([{"input_ids": x, "labels": y} for x, y in examples])
        missing = (self.batching.width or 0) - batch["labels"].shape[1]
        fill = {"input_ids": self.pad_token_id, "attention_mask": 0, "labels": IGNORE}
        if missing > 0:
            batch = {name: F.pad(x, (0, missing), value=fill[name]) for name, x in batch.items()}
        return batch, batch.pop("labels")

    def summed_loss(self, batch: Any, labels: Tensor) -> Tensor:
        mean: Tensor = self.model(**batch, labels=labels).loss
        return mean * (labels != IGNORE).sum()


@dataclass(frozen=True)
class Packed(Pretraining):
    """A plan of corruption, a PackedBatch, an unpadded model."""

    plan: Plan
    only_scored: bool = True
    """Whether logits are computed of scored tokens alone."""

    def corrupted(self, texts: Sequence[list[int]], group: Sequence[int]) -> tuple[Any, Tensor]:
        batch = PackedBatch.from_sequences([texts[index] for index in group], ids=group)
        ids, labels = self.plan.flat(batch.input_ids, batch.lengths, seed=0, epoch=0, examples=group)
        return PackedBatch(ids, batch.lengths, ids=batch.ids), labels

    def laid(self, examples: Sequence[Example]) -> tuple[Any, Tensor]:
        return PackedBatch.from_sequences([x for x, _ in examples]), torch.cat([y for _, y in examples])

    def summed_loss(self, batch: Any, labels: Tensor) -> Tensor:
        if self.only_scored:
            return scored_loss(self.model, batch, labels).loss
        return F.cross_entropy(self.model(batch).logits, labels, reduction="sum")


def contestants(
    stock: nn.Module, unpadded: nn.Module, tokenizer: Any, plan: Plan, width: int, size: int
) -> list[Pretraining]:
    """Three ways of padding through a stock model, and packs through an unpadded one; a step has `size` texts.

    `tokenizer` is what HF's collator asks about special tokens and padding.
    """
    from transformers import DataCollatorForLanguageModeling

    special, pad = frozenset(plan.vocabulary.special_ids), int(tokenizer.pad_token_id)
    to_longest = DataCollatorForLanguageModeling(tokenizer)
    to_width = DataCollatorForLanguageModeling(tokenizer, pad_to_multiple_of=width)
    sizes = tuple(each for each in SIZES if each <= size) or (size,)
    static = Padded(f"{hf.STATIC} to {width}", stock, Rows(width=width), sizes, to_width, special, pad)
    return [
        static,
        Padded(hf.LONGEST, stock, Rows(), sizes, to_longest, special, pad),
        Padded(hf.SORTED, stock, Rows(by_length=True), sizes, to_longest, special, pad),
        Packed(ALL_LOGITS, unpadded, Rows(), (size,), plan, only_scored=False),
        Packed(YANMA, unpadded, Rows(), (size,), plan),
    ]
