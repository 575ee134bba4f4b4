"""What is learned: how a text becomes input and labels, and which sums of losses come of it.

Mlm              find hidden tokens (BERT: Devlin et al. 2019)
Rtd              tell which tokens a small generator replaced (ELECTRA: Clark et al. 2020)
SpanCorruption   write the hidden spans (T5: Raffel et al. 2020)
CausalLm         write each next token (GPT: Radford et al. 2018)

The loss of a step is the sum over terms of weight * sum / count, both over all packs and ranks. So counts must be known
before the first pack is computed: `prepare` hides tokens of a whole share, `terms` computes one pack of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..autocast import as_cast
from ..batch import PackedBatch
from ..corruption import IGNORE, Corrupted, Denoiser, Plan, RunningLoss, replaced_tokens
from ..corruption.plan import Resampling, copy_of
from ..data.blocks import Block, pack_blocks
from ..models.known import recognise
from ..models.linear import linear
from ..models.pairs import shifted
from ..models.scored import scored_loss
from ..models.vocabulary_loss import cross_entropy
from ..packing import plan as plan_packs

# T tokens of a pack, O of its targets, N blocks, K of T scored

_GENERATOR = 0x67656E65  # apart from the model's own dropout


@dataclass(frozen=True, eq=False)
class Example:
    """One block as the model sees it, on the host."""

    number: int
    input_ids: Tensor
    """(T,) int64."""
    labels: Tensor
    """(T,) int64, or (O,) where there is a decoder, which writes them."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A rank's share of one step."""

    examples: tuple[Example, ...]
    sizes: tuple[int, ...]
    """Tokens that are computed for each."""
    counts: tuple[int, ...]
    """Of each term of the loss: how many items it scores."""

    def packs(self, max_batch_tokens: int) -> list[tuple[Example, ...]]:
        """All examples, longest first, as many at once as the bound allows; a longer one alone."""
        groups = plan_packs(self.sizes, max_batch_tokens, too_long="alone").groups
        return [tuple(self.examples[index] for index in group) for group in groups]


@dataclass(frozen=True, eq=False)
class Terms:
    """What one pack gives."""

    sums: tuple[Tensor, ...]
    """() float32 each, with a gradient."""
    tokens: Tensor
    """(K,) int64: the true tokens where a vocabulary was scored; empty where none was."""
    losses: Tensor
    """(K,) float32, without a gradient: the loss of each."""


class Objective(Protocol):
    """What the loop asks of each."""

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the terms of the loss."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the terms."""

    def prepare(
        self, blocks: Sequence[Block], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        """Hide tokens, by (seed, epoch, number of the block) and `progress`, the share of training that is done."""

    def terms(self, pack: Sequence[Example], *, epoch: int, dropout_seed: int) -> Terms:
        """Compute one pack."""


@dataclass(frozen=True)
class Mlm:
    """Masked language modelling; the loss is the mean cross-entropy of the hidden tokens."""

    model: nn.Module
    plan: Plan
    seed: int
    weights: tuple[float, ...] = (1.0,)
    names: tuple[str, ...] = ("masked",)

    def prepare(
        self, blocks: Sequence[Block], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        batch, words = pack_blocks(blocks)
        made = _hidden(self.plan, batch, words, self.seed, epoch, progress, losses)
        return Prepared(_examples(batch, made), batch.lengths, (_num_scored(made.labels),))

    def terms(self, pack: Sequence[Example], *, epoch: int, dropout_seed: int) -> Terms:
        return _vocabulary_terms(self.model, pack, dropout_seed)


@dataclass(frozen=True)
class CausalLm:
    """The next token, from those before it in its own block; the mean over all but each block's first."""

    model: nn.Module
    weights: tuple[float, ...] = (1.0,)
    names: tuple[str, ...] = ("next token",)

    def prepare(
        self, blocks: Sequence[Block], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        batch, _ = pack_blocks(blocks)
        made = Corrupted(batch.input_ids, batch.input_ids)
        return Prepared(_examples(batch, made), batch.lengths, (len(batch.input_ids) - len(batch),))

    def terms(self, pack: Sequence[Example], *, epoch: int, dropout_seed: int) -> Terms:
        return _vocabulary_terms(self.model, pack, dropout_seed)


@dataclass(frozen=True)
class SpanCorruption:
    """Hidden spans are written by a decoder; the loss is the mean over all tokens of the targets."""

    model: nn.Module
    denoise: Denoiser
    resampling: Resampling
    seed: int
    weights: tuple[float, ...] = (1.0,)
    names: tuple[str, ...] = ("target",)

    def prepare(
        self, blocks: Sequence[Block], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        batch, _ = pack_blocks(blocks)
        made = self.denoise(
            batch.input_ids,
            batch.lengths,
            seed=self.seed,
            epoch=copy_of(self.resampling, epoch),
            examples=batch.ids or (),
        )
        pairs = zip(batch.ids or (), made.pairs(), strict=True)
        examples = tuple(Example(number, inputs, labels) for number, (inputs, labels) in pairs)
        sizes = tuple(len(example.input_ids) + len(example.labels) for example in examples)
        return Prepared(examples, sizes, (len(made.labels),))

    def terms(self, pack: Sequence[Example], *, epoch: int, dropout_seed: int) -> Terms:
        device = _device(self.model)
        targets = PackedBatch.from_sequences([example.labels for example in pack]).to(device)
        family, _ = recognise(self.model)
        config: Any = self.model.config
        read = shifted(config, family, targets.input_ids, targets.lengths)
        scored = scored_loss(
            self.model,
            packed(pack).to(device),
            targets.input_ids,
            decoder=replace(targets, input_ids=read),
            seed=dropout_seed,
        )
        return Terms((scored.loss,), targets.input_ids[scored.places], scored.losses)


class Electra(nn.Module):
    """A generator and a discriminator that share the parameters of their embeddings (Clark et al. 2020, 3.2)."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """Of transformers: ElectraForMaskedLM, whose `electra` is unpadded, and an unpadded ElectraForPreTraining."""
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        finder: Any = generator
        judge: Any = discriminator
        for path, parameter in list(judge.electra.embeddings.named_parameters()):
            module, _, name = path.rpartition(".")
            setattr(finder.electra.embeddings.get_submodule(module), name, parameter)
        finder.generator_lm_head.weight = judge.electra.embeddings.word_embeddings.weight


@dataclass(frozen=True)
class Rtd:
    """Replaced-token detection: the generator's masked loss and, weighted, the discriminator's of every token.

    What the generator puts in the place of a hidden token is drawn by a number of (seed, epoch, block, place).
    """

    model: Electra
    plan: Plan
    seed: int
    weights: tuple[float, ...] = (1.0, 50.0)
    names: tuple[str, ...] = ("generator", "discriminator")

    def prepare(
        self, blocks: Sequence[Block], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        batch, words = pack_blocks(blocks)
        made = _hidden(self.plan, batch, words, self.seed, epoch, progress, losses)
        judged = int(self.plan.vocabulary.hideable(batch.input_ids).sum())
        return Prepared(_examples(batch, made), batch.lengths, (_num_scored(made.labels), judged))

    def terms(self, pack: Sequence[Example], *, epoch: int, dropout_seed: int) -> Terms:
        batch, labels = packed(pack), torch.cat([example.labels for example in pack])
        device = _device(self.model)
        places = (labels != IGNORE).nonzero().flatten()
        generator: Any = self.model.generator
        states = generator.electra(batch.to(device), seed=dropout_seed ^ _GENERATOR).last_hidden_state
        rows = generator.generator_predictions(states[places.to(device)])
        true = labels[places]
        losses, _ = cross_entropy(as_cast(rows), *self._head(), true.to(device))
        replaced = self._replaced(batch, labels, rows.detach(), epoch)
        judged = (replaced.labels != IGNORE).to(device)
        scores = self.model.discriminator(
            replace(batch, input_ids=replaced.input_ids).to(device), seed=dropout_seed
        ).logits
        answers = replaced.labels.to(device)[judged].float()
        detected = F.binary_cross_entropy_with_logits(scores.float()[judged], answers, reduction="sum")
        return Terms((losses.sum(), detected), true, losses.detach())

    def _head(self) -> tuple[Tensor, Tensor]:
        """The generator's last layer: weight (V, D) and bias (V,)."""
        head: Any = self.model.generator.generator_lm_head
        return head.weight, head.bias

    def _replaced(self, batch: PackedBatch, labels: Tensor, rows: Tensor, epoch: int) -> Corrupted:
        """What the discriminator reads; `rows` (K, D) are what the generator's last layer is given."""
        vocabulary = self.plan.vocabulary
        weight, bias = (as_cast(part.detach()[: vocabulary.size]) for part in self._head())
        return replaced_tokens(
            Corrupted(batch.input_ids, labels),
            lambda some: linear(rows[some], weight, bias),
            batch.lengths,
            vocabulary,
            seed=self.seed,
            epoch=epoch,
            examples=batch.ids or (),
        )


def _hidden(
    plan: Plan,
    batch: PackedBatch,
    words: Tensor | None,
    seed: int,
    epoch: int,
    progress: float,
    losses: RunningLoss | None,
) -> Corrupted:
    return plan.flat(
        batch.input_ids,
        batch.lengths,
        seed=seed,
        epoch=epoch,
        examples=batch.ids or (),
        words=words,
        progress=progress,
        losses=losses,
    )


def packed(pack: Sequence[Example]) -> PackedBatch:
    """What the model reads of some examples."""
    return PackedBatch.from_sequences(
        [example.input_ids for example in pack], ids=[example.number for example in pack]
    )


def _examples(batch: PackedBatch, made: Corrupted) -> tuple[Example, ...]:
    parts = zip(batch.ids or (), batch.unpack(made.input_ids), batch.unpack(made.labels), strict=True)
    return tuple(Example(*part) for part in parts)


def _num_scored(labels: Tensor) -> int:
    return int((labels != IGNORE).sum())


def _vocabulary_terms(model: nn.Module, pack: Sequence[Example], dropout_seed: int) -> Terms:
    labels = torch.cat([example.labels for example in pack])
    scored = scored_loss(model, packed(pack).to(_device(model)), labels.to(_device(model)), seed=dropout_seed)
    return Terms((scored.loss,), labels[scored.places.cpu()], scored.losses)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
