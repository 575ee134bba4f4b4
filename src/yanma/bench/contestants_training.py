"""Training: forward and backward of all texts, in train mode, without an optimizer.

Everyone computes the same thing, whatever its batches: the gradient of the mean loss over all texts, in `.grad`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..batch import PackedBatch
from . import contestants_hf as hf
from . import contestants_yanma as ours
from .batching import PackedRows, Packs, Rows, rectangle
from .contestant import InBatches, Sequences
from .workloads import SEED, Workload

NUM_LABELS = 77


@dataclass(frozen=True)
class Training(InBatches):
    """One way of batching; the gradient is left in the parameters of `model`."""

    model: nn.Module
    logits: Callable[[Sequences], Tensor]
    """(B, C) of one batch."""

    def run(self, workload: Workload, size: int) -> list[Tensor]:
        """The mean loss, as the only output."""
        self.model.train()
        self.model.zero_grad(set_to_none=True)
        labels = labels_of(workload)
        loss = torch.zeros(())
        for group in self.batching.groups(workload.lengths, size):
            logits = self.logits([workload.sequences[index] for index in group])
            share = F.cross_entropy(logits, labels[list(group)], reduction="sum") / len(labels)
            share.backward()
            loss += share.detach()
        return [loss]


def contestants(stock: nn.Module, unpadded: nn.Module, width: int) -> list[Training]:
    """The three ways of padding through a stock classifier, and the two of packing through an unpadded one."""
    to_longest, to_width, packed = _padded(stock), _padded(stock, width), _packed(unpadded)
    return [
        Training(f"{hf.STATIC} to {width}", Rows(width=width), hf.SIZES, stock, to_width),
        padded_training(stock),
        Training(hf.SORTED, Rows(by_length=True), hf.SIZES, stock, to_longest),
        Training(ours.FP32, Packs(), ours.PACK_SIZES, unpadded, packed),
        Training(ours.ARRIVAL, PackedRows(), hf.SIZES, unpadded, packed),
    ]


def padded_training(stock: nn.Module) -> Training:
    """Batches padded to their longest, in the order of arrival."""
    return Training(hf.LONGEST, Rows(), hf.SIZES, stock, _padded(stock))


def labels_of(workload: Workload) -> Tensor:
    """(N,) int64: a class for each text, made of its token ids, so that it is the same in a sample."""
    return torch.tensor([hash((SEED, *sequence)) % NUM_LABELS for sequence in workload.sequences])


def gradient(model: nn.Module) -> Tensor:
    """(P,) float64: the whole gradient; 0 where a parameter has none."""
    grads = (torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters())
    return torch.cat([grad.double().flatten() for grad in grads])


def _padded(model: nn.Module, width: int | None = None) -> Callable[[Sequences], Tensor]:
    pad_token_id = int(model.config.pad_token_id or 0)  # type: ignore[union-attr, arg-type]

    def logits(sequences: Sequences) -> Tensor:
        ids, valid = rectangle(sequences, pad_token_id, width)
        output: Any = model(input_ids=ids, attention_mask=valid)
        return output.logits  # type: ignore[no-any-return]

    return logits


def _packed(model: nn.Module) -> Callable[[Sequences], Tensor]:
    def logits(sequences: Sequences) -> Tensor:
        output: Any = model(PackedBatch.from_sequences(sequences))
        return output.logits  # type: ignore[no-any-return]

    return logits
