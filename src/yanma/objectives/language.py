"""Learning from text alone: blocks become input and labels, and a model of language is scored on them.

Mlm              find hidden tokens (BERT: Devlin et al. 2019)
SpanCorruption   write the hidden spans (T5: Raffel et al. 2020)
CausalLm         write each next token (GPT: Radford et al. 2018)

Replaced-token detection stands in electra.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..batch import PackedBatch
from ..corruption import IGNORE, Corrupted, Denoiser, Plan, RunningLoss
from ..corruption.plan import Resampling, copy_of
from ..data.blocks import Block, pack_blocks
from ..data.examples import Example, Tokens
from ..models.known import recognise
from ..models.pairs import shifted
from ..models.scored import scored_loss, unwrapped
from .objective import Compute, Pack, Prepared, Terms

# T tokens of a pack, O of its targets, N blocks


@dataclass(frozen=True)
class Mlm:
    """Masked language modelling; the loss is the mean cross-entropy of the hidden tokens. Targets are labels (T,)."""

    plan: Plan
    seed: int
    weights: tuple[float, ...] = (1.0,)
    names: tuple[str, ...] = ("masked",)

    def prepare(
        self, items: Sequence[Block], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        """See Objective."""
        made, batch = hidden(self.plan, items, self.seed, epoch, progress, losses)
        return Prepared(examples_of(batch, made), (num_scored(made.labels),))

    def terms(self, compute: Compute, pack: Pack) -> Terms:
        """See Objective."""
        return _vocabulary_terms(compute, pack)


@dataclass(frozen=True)
class CausalLm:
    """The next token, from those before it in its own block; the mean over all but each block's first."""

    weights: tuple[float, ...] = (1.0,)
    names: tuple[str, ...] = ("next token",)

    def prepare(
        self, items: Sequence[Block], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        """See Objective."""
        batch, _ = pack_blocks(items)
        made = Corrupted(batch.input_ids, batch.input_ids)
        return Prepared(examples_of(batch, made), (len(batch.input_ids) - len(batch),))

    def terms(self, compute: Compute, pack: Pack) -> Terms:
        """See Objective."""
        return _vocabulary_terms(compute, pack, ahead=1)


@dataclass(frozen=True)
class SpanCorruption:
    """Hidden spans are written by a decoder; the loss is the mean over all tokens of what it writes.

    An example's sequences are what the encoder reads and what the decoder writes.
    """

    denoise: Denoiser
    resampling: Resampling
    seed: int
    weights: tuple[float, ...] = (1.0,)
    names: tuple[str, ...] = ("target",)

    def prepare(
        self, items: Sequence[Block], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        """See Objective."""
        batch, _ = pack_blocks(items)
        made = self.denoise(
            batch.input_ids,
            batch.lengths,
            seed=self.seed,
            epoch=copy_of(self.resampling, epoch),
            examples=batch.ids or (),
        )
        pairs = zip(batch.ids or (), made.pairs(), strict=True)
        examples = (Example(key, (Tokens(read), Tokens(written)), None) for key, (read, written) in pairs)
        return Prepared(tuple(examples), (len(made.labels),))

    def terms(self, compute: Compute, pack: Pack) -> Terms:
        """See Objective; the model is unpadded."""
        keys = [example.key for example in pack]
        read, written = (
            PackedBatch.from_sequences([e.sequences[side].input_ids for e in pack], ids=ids)
            for side, ids in ((0, keys), (1, None))
        )
        targets = written.to(compute.device)
        model = unwrapped(compute.model)
        config: Any = model.config
        begun = shifted(config, recognise(model)[0], targets.input_ids, targets.lengths)
        scored = scored_loss(
            compute.model,
            read.to(compute.device),
            targets.input_ids,
            decoder=replace(targets, input_ids=begun),
            seed=compute.seed,
        )
        return Terms((scored.loss,), tokens=targets.input_ids[scored.places], losses=scored.losses)


def hidden(
    plan: Plan,
    blocks: Sequence[Block],
    seed: int,
    epoch: int,
    progress: float,
    losses: RunningLoss | None,
) -> tuple[Corrupted, PackedBatch]:
    """Some blocks with tokens hidden, and as they are."""
    batch, words = pack_blocks(blocks)
    made = plan.flat(
        batch.input_ids,
        batch.lengths,
        seed=seed,
        epoch=epoch,
        examples=batch.ids or (),
        words=words,
        progress=progress,
        losses=losses,
    )
    return made, batch


def examples_of(batch: PackedBatch, made: Corrupted) -> tuple[Example, ...]:
    """One a document of the pack; targets are its labels (T,)."""
    parts = zip(batch.ids or (), batch.unpack(made.input_ids), batch.unpack(made.labels), strict=True)
    return tuple(Example(key, (Tokens(ids),), labels) for key, ids, labels in parts)


def labels_of(pack: Pack) -> Tensor:
    """(T,) int64: those of all examples."""
    return torch.cat([example.targets for example in pack])


def num_scored(labels: Tensor) -> int:
    """How many of the labels are not IGNORE."""
    return int((labels != IGNORE).sum())


def _vocabulary_terms(compute: Compute, pack: Pack, ahead: int = 0) -> Terms:
    """`ahead` is how many tokens behind the place whose logits are scored its label stands."""
    labels = labels_of(pack)
    scored = compute.scored(pack, labels)
    return Terms((scored.loss,), tokens=labels[scored.places.cpu() + ahead], losses=scored.losses)
