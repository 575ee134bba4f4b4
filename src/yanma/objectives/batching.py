"""How examples meet a model: end to end through an unpadded one, or in rows of slots through the stock one.

packed   examples end to end, each token reads its own document; nothing is computed for padding
padded   stock transformers: every example in a row of `max_length` slots, with a mask of which slots hold a token

Both give the same logits in the same order, so nobody above knows which one computes. Of a model without a head, its
last hidden states stand for logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..data.collate import packed, padded
from ..data.examples import IGNORE, Example
from ..errors import Unsupported
from ..masks import Mask
from ..models import scored_loss, unpad
from ..models.kernels import fastest
from ..models.known import recognise
from ..models.scored import unwrapped
from ..models.scoring import Scored
from ..packing import plan

# T tokens of some examples, N examples, C classes or a headless model's width, S slots of a row, V vocabulary

Group = tuple[int, ...]
"""Indices of examples that are computed together."""


class Batching(Protocol):
    """What the two have in common."""

    @property
    def max_batch_tokens(self) -> int:
        """Places that are computed at once, be they tokens or padding: bounds memory."""

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model as this kind takes it."""

    def describe(self, dtype: torch.dtype, device: torch.device) -> str:
        """In words, and which linear layers compute."""

    def groups(self, lengths: Sequence[int]) -> tuple[Group, ...]:
        """Which of some examples of these lengths are computed together: longest first, a longer one alone."""

    def slots(self, lengths: Sequence[int]) -> int:
        """Places that are computed for examples of these lengths, be they tokens or padding."""

    def logits(self, model: nn.Module, examples: Sequence[Example], *, seed: int) -> Tensor:
        """(T, C) of a head that scores tokens, or (N, C), float32; of a model without a head its last hidden states.

        `seed` is dropout's.
        """

    def scored(self, model: nn.Module, examples: Sequence[Example], labels: Tensor, *, seed: int) -> Scored:
        """What a model of language makes of the tokens whose label (T,) is not IGNORE."""


@dataclass(frozen=True)
class Packed:
    """Packs of at most `max_batch_tokens` tokens through `unpad(model, mask)`."""

    max_batch_tokens: int
    mask: Mask | None = None
    """On top of the model's own, in every layer."""

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        """See Batching."""
        return unpad(model, self.mask)

    def describe(self, dtype: torch.dtype, device: torch.device) -> str:
        """See Batching."""
        layout = f"packed, examples end to end in packs of at most {self.max_batch_tokens} tokens"
        layout += "" if self.mask is None else f", under {self.mask.describe()}"
        kernels = fastest(dtype, device)
        used = f"forward {kernels.forward}, weight gradient {kernels.weight_gradient}"
        return f"{layout}; linear layers in {dtype} on {device}: {used}".replace("torch.", "", 1)

    def groups(self, lengths: Sequence[int]) -> tuple[Group, ...]:
        """See Batching."""
        return plan(lengths, self.max_batch_tokens, too_long="alone").groups

    def slots(self, lengths: Sequence[int]) -> int:
        """See Batching."""
        return sum(lengths)

    def logits(self, model: nn.Module, examples: Sequence[Example], *, seed: int) -> Tensor:
        """See Batching."""
        return _told(model(packed(examples).to(_device(model)), seed=seed)).float()

    def scored(self, model: nn.Module, examples: Sequence[Example], labels: Tensor, *, seed: int) -> Scored:
        """See Batching; logits are computed of scored tokens alone."""
        device = _device(model)
        return scored_loss(model, packed(examples).to(device), labels.to(device), seed=seed)


@dataclass(frozen=True)
class Padded:
    """Rectangles of rows of `max_length` slots, at most `max_batch_tokens` slots in all, through the stock model."""

    max_batch_tokens: int
    max_length: int
    pad_token_id: int

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        """See Batching."""
        return model

    def describe(self, dtype: torch.dtype, device: torch.device) -> str:
        """See Batching."""
        layout = f"padded, rows of {self.max_length} slots, at most {self.max_batch_tokens} slots at once"
        return f"{layout}; linear layers in {dtype} on {device}: torch's own".replace("torch.", "", 1)

    def groups(self, lengths: Sequence[int]) -> tuple[Group, ...]:
        """See Batching."""
        return plan([self.max_length] * len(lengths), self.max_batch_tokens, too_long="alone").groups

    def slots(self, lengths: Sequence[int]) -> int:
        """See Batching."""
        return len(lengths) * self.max_length

    def logits(self, model: nn.Module, examples: Sequence[Example], *, seed: int) -> Tensor:
        """See Batching; the slots that hold no token are left out."""
        device = _device(model)
        rectangle = {
            name: x.to(device) for name, x in padded(examples, self.max_length, self.pad_token_id).items()
        }
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices, enabled=model.training):
            if (
                model.training
            ):  # the stock model's dropout draws from the global generator: anew for each batch
                torch.default_generator.manual_seed(seed ^ examples[0].key)
                if devices:
                    torch.cuda.manual_seed(seed ^ examples[0].key)
            logits = _told(model(**rectangle))
        per_token = logits.dim() == 3
        return (logits[rectangle["attention_mask"].bool()] if per_token else logits).float()

    def scored(self, model: nn.Module, examples: Sequence[Example], labels: Tensor, *, seed: int) -> Scored:
        """See Batching; logits are computed of all slots, as stock models do."""
        logits = self.logits(model, examples, seed=seed)  # (T, V)
        targets = labels.to(logits.device)
        if recognise(unwrapped(model))[1].loss == "next_token":
            targets = _next(targets, [example.num_tokens for example in examples])
        places = (targets != IGNORE).nonzero().flatten()
        losses = F.cross_entropy(logits[places], targets[places], reduction="none")
        return Scored(losses.sum(), losses.detach(), logits.detach()[places].argmax(-1), places)


def _told(output: Any) -> Tensor:
    """Logits, or the last hidden states where there is no head. Raises Unsupported where a head gives neither."""
    first, *_ = output
    if first not in ("logits", "last_hidden_state"):
        raise Unsupported(
            f"this model gives {', '.join(output)}; what computes here is a head with logits, or none"
        )
    told: Tensor = output[first]
    return told


def _next(labels: Tensor, lengths: Sequence[int]) -> Tensor:
    """(T,): each token's label is the next one's; of the last of a document none."""
    parts = [F.pad(own[1:], (0, 1), value=IGNORE) for own in labels.split(list(lengths))]
    return torch.cat(parts)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
