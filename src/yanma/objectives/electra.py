"""Replaced-token detection (ELECTRA: Clark et al. 2020): tell which tokens a small generator has replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from ..autocast import as_cast
from ..batch import PackedBatch
from ..corruption import IGNORE, Corrupted, Plan, RunningLoss, replaced_tokens
from ..data.blocks import Block
from ..data.collate import packed
from ..keyed import Site
from ..models.linear import linear
from ..models.vocabulary_loss import cross_entropy
from .language import examples_of, hidden, labels_of, num_scored
from .objective import Compute, Pack, Prepared, Terms

# K hidden tokens of a pack, D width, V vocabulary


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

    def head(self) -> tuple[Tensor, Tensor]:
        """The generator's last layer: weight (V, D) and bias (V,)."""
        generator: Any = self.generator
        return generator.generator_lm_head.weight, generator.generator_lm_head.bias


@dataclass(frozen=True)
class Rtd:
    """The generator's masked loss and, weighted, the discriminator's of every token; the model is an `Electra`.

    What the generator puts in the place of a hidden token is drawn by a number of (seed, epoch, block, place).
    """

    plan: Plan
    seed: int
    weights: tuple[float, ...] = (1.0, 50.0)
    names: tuple[str, ...] = ("generator", "discriminator")

    def prepare(
        self, items: Sequence[Block], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        """See Objective."""
        made, batch = hidden(self.plan, items, self.seed, epoch, progress, losses)
        judged = int(self.plan.vocabulary.hideable(batch.input_ids).sum())
        return Prepared(examples_of(batch, made), (num_scored(made.labels), judged))

    def terms(self, compute: Compute, pack: Pack) -> Terms:
        """See Objective."""
        model, device = cast(Electra, compute.model), compute.device
        batch, labels = packed(pack), labels_of(pack)
        places = (labels != IGNORE).nonzero().flatten()
        generator: Any = model.generator
        states = generator.electra(batch.to(device), seed=compute.seed ^ Site.GENERATOR).last_hidden_state
        rows = generator.generator_predictions(states[places.to(device)])
        true = labels[places]
        losses, _ = cross_entropy(as_cast(rows), *model.head(), true.to(device))
        replaced = self._replaced(model, batch, labels, rows.detach(), compute.epoch)
        judged = (replaced.labels != IGNORE).to(device)
        read = replace(batch, input_ids=replaced.input_ids).to(device)
        scores = model.discriminator(read, seed=compute.seed).logits
        answers = replaced.labels.to(device)[judged].float()
        detected = F.binary_cross_entropy_with_logits(scores.float()[judged], answers, reduction="sum")
        return Terms((losses.sum(), detected), tokens=true, losses=losses.detach())

    def _replaced(
        self, model: Electra, batch: PackedBatch, labels: Tensor, rows: Tensor, epoch: int
    ) -> Corrupted:
        """What the discriminator reads; `rows` (K, D) are what the generator's last layer is given."""
        vocabulary = self.plan.vocabulary
        weight, bias = (as_cast(part.detach()[: vocabulary.size]) for part in model.head())
        return replaced_tokens(
            Corrupted(batch.input_ids, labels),
            lambda some: linear(rows[some], weight, bias),
            batch.lengths,
            vocabulary,
            seed=self.seed,
            epoch=epoch,
            examples=batch.ids or (),
        )
