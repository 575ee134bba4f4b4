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

from ..data.collate import packed, padded
from ..data.examples import Example
from ..masks import Mask
from ..models import unpad
from ..models.kernels import fastest
from ..packing import plan

# T tokens of some examples, N examples, C classes

Group = tuple[int, ...]
"""Indices of examples that are computed together."""


class Masking(Protocol):
    """What the loop asks of either kind."""

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model, made ready in place."""

    def describe(self, dtype: torch.dtype, device: torch.device) -> str:
        """One line: how examples are laid out, and by which kernels linear layers compute in this dtype."""

    def groups(self, lengths: Sequence[int]) -> tuple[Group, ...]:
        """Every index once, longest first, cut where the memory's bound is reached."""

    def slots(self, lengths: Sequence[int]) -> int:
        """Places that are computed for examples of these lengths, be they tokens or padding."""

    def logits(
        self, model: nn.Module, examples: Sequence[Example], *, seed: int, device: torch.device
    ) -> Tensor:
        """(T, C) or (N, C) of one group, in its order; `seed` is dropout's, the same for all groups of a step."""


@dataclass(frozen=True)
class Dynamic:
    """Packs of at most `max_batch_tokens` tokens through `unpad(model, mask)`."""

    max_batch_tokens: int
    mask: Mask | None = None
    """On top of the model's own, in every layer."""

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        return unpad(model, self.mask)

    def describe(self, dtype: torch.dtype, device: torch.device) -> str:
        layout = f"dynamic, examples end to end in packs of at most {self.max_batch_tokens} tokens"
        layout += "" if self.mask is None else f", under {self.mask.describe()}"
        kernels = fastest(dtype, device)
        used = f"forward {kernels.forward}, weight gradient {kernels.weight_gradient}"
        return f"{layout}; linear layers in {dtype} on {device}: {used}".replace("torch.", "", 1)

    def groups(self, lengths: Sequence[int]) -> tuple[Group, ...]:
        return plan(lengths, self.max_batch_tokens).groups

    def slots(self, lengths: Sequence[int]) -> int:
        return sum(lengths)

    def logits(
        self, model: nn.Module, examples: Sequence[Example], *, seed: int, device: torch.device
    ) -> Tensor:
        logits: Tensor = model(packed(examples).to(device), seed=seed).logits
        return logits


@dataclass(frozen=True)
class Static:
    """Rectangles of rows of `max_length` slots, at most `max_batch_tokens` slots in all, through the stock model."""

    max_batch_tokens: int
    max_length: int
    pad_token_id: int
    per_token: bool
    """Whether the head scores tokens; then the slots that hold none are left out of the logits."""

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        return model

    def describe(self, dtype: torch.dtype, device: torch.device) -> str:
        layout = f"static, rows of {self.max_length} slots, at most {self.max_batch_tokens} slots at once"
        return f"{layout}; linear layers in {dtype} on {device}: torch's own".replace("torch.", "", 1)

    def groups(self, lengths: Sequence[int]) -> tuple[Group, ...]:
        return plan([self.max_length] * len(lengths), self.max_batch_tokens).groups

    def slots(self, lengths: Sequence[int]) -> int:
        return len(lengths) * self.max_length

    def logits(
        self, model: nn.Module, examples: Sequence[Example], *, seed: int, device: torch.device
    ) -> Tensor:
        if (
            model.training
        ):  # the stock model's dropout draws from the global generator: another draw for every group
            torch.manual_seed(seed ^ examples[0].id)
        rectangle = {
            name: x.to(device) for name, x in padded(examples, self.max_length, self.pad_token_id).items()
        }
        logits: Tensor = model(**rectangle).logits
        return logits[rectangle["attention_mask"].bool()] if self.per_token else logits
