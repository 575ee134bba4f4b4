"""yanma, by the roads that users take: the engine that answers, and the stepper that trains."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..corruption import Plan, RunningLoss
from ..data.blocks import Block
from ..data.examples import Example
from ..data.tokens import tokenize_texts
from ..engine import Engine
from ..objectives import Compute, Objective, Packed, Prepared, SequenceClassification, Terms
from ..objectives.language import Mlm, labels_of, num_scored
from ..objectives.objective import Pack
from ..objectives.task import summed_cross_entropy
from ..runs.loop import started
from ..runs.stepper import Place, Stepper
from .contestant import Contestant, Rows, Run
from .hf import SIZES as ROWS
from .outputs import Kind, of_pack
from .workloads import NUM_LABELS, SEED, Workload

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PACK_SIZES = (1024, 2048, 4096, 8192)
FP32, BF16, ALL_LOGITS = "yanma", "yanma, bf16", "yanma, logits of all tokens"
ARRIVAL = "yanma, the batches of 'padded to the longest'"


@dataclass(frozen=True)
class PackedRows(Packed):
    """The batches of `Rows`, but end to end: what changes when only the padding goes."""

    max_batch_tokens: int = sys.maxsize
    rows: int = 1

    def groups(self, lengths: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """See Batching."""
        return tuple(map(tuple, Rows(self.rows).groups(lengths)))


def _rows(size: int) -> Packed:
    return PackedRows(rows=size)


def inference(model: nn.Module, kind: Kind) -> list[Contestant]:
    """The outputs of an unpadded model in eval mode, packed in two ways."""
    return _two_ways(lambda batching, workload: _outputs(model, kind, batching, workload.examples))


def bf16(model: nn.Module, kind: Kind) -> Contestant:
    """Packs, the weights of the model in bf16."""
    packs, _ = inference(model, kind)
    return replace(packs, name=BF16, precision="bf16")


def from_text(
    model: nn.Module, kind: Kind, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Contestant:
    """Packs, given texts: they are tokenised first, and that is timed too."""

    def run(workload: Workload, size: int) -> list[Tensor]:
        tokens = tokenize_texts(tokenizer, workload.texts, None, max_length=max_length)
        examples = [Example(place, (own,), None) for place, own in enumerate(tokens)]
        return _outputs(model, kind, Packed(size), examples)

    return Contestant(FP32, run, PACK_SIZES, Packed, "tokens")


def training(model: nn.Module) -> list[Contestant]:
    """The gradient of an unpadded classifier, packed in two ways."""
    task = SequenceClassification(tuple(map(str, range(NUM_LABELS))))
    return _two_ways(lambda batching, workload: [step(task, model, batching, workload.examples)], model)


def pretraining(model: nn.Module, plan: Plan, size: int) -> list[Contestant]:
    """The gradient of an unpadded masked language model, all `size` texts at once.

    Logits are computed of all tokens, or of scored tokens alone, as is done where nothing else is said.
    """

    def run(objective: Mlm, workload: Workload, size: int) -> list[Tensor]:
        if workload.labels:
            return [step(Given(objective), model, _rows(size), workload.examples)]
        ids = (torch.tensor(sequence, dtype=torch.int32) for sequence in workload.sequences)
        return [step(objective, model, _rows(size), [Block(*pair) for pair in enumerate(ids)])]

    return [
        Contestant(name, partial(run, kind(plan, SEED)), (size,), _rows, model=model)
        for name, kind in ((ALL_LOGITS, AllLogits), (FP32, Mlm))
    ]


def step(objective: Objective, model: nn.Module, batching: Packed, items: Sequence[Any]) -> Tensor:
    """The loss of a step, its gradient left in the parameters: what training computes before it moves the weights."""
    model.train()
    model.zero_grad(set_to_none=True)
    stepper = Stepper(objective, model, batching, started(bf16=False), seed=SEED, bf16=False)
    return stepper.gradient(items, Place(epoch=0, progress=0.0))


@dataclass(frozen=True)
class AllLogits(Mlm):
    """The same loss, with logits of all tokens."""

    def terms(self, compute: Compute, pack: Pack) -> Terms:
        """See Objective."""
        return Terms((summed_cross_entropy(compute.logits(pack), labels_of(pack)),))


@dataclass(frozen=True)
class Given:
    """An objective whose examples are corrupted already: so that all are compared on the same."""

    learned: Mlm
    weights: tuple[float, ...] = (1.0,)
    names: tuple[str, ...] = ("masked",)

    def prepare(
        self, items: Sequence[Example], *, epoch: int, progress: float, losses: RunningLoss | None = None
    ) -> Prepared:
        """See Objective."""
        return Prepared(tuple(items), (num_scored(labels_of(items)),))

    def terms(self, compute: Compute, pack: Pack) -> Terms:
        """See Objective."""
        return self.learned.terms(compute, pack)


def _two_ways(
    run: Callable[[Packed, Workload], list[Tensor]], model: nn.Module | None = None
) -> list[Contestant]:
    """Packs of the best size, and the very batches that the padded baseline computes, at its best size."""

    def cut(cuts: Callable[[int], Packed]) -> Run:
        return lambda workload, size: run(cuts(size), workload)

    return [
        Contestant(FP32, cut(Packed), PACK_SIZES, Packed, "tokens", model=model),
        Contestant(ARRIVAL, cut(_rows), ROWS, _rows, model=model),
    ]


def _outputs(model: nn.Module, kind: Kind, batching: Packed, examples: Sequence[Example]) -> list[Tensor]:
    """One a text; whatever fails is raised."""

    def decode(logits: Tensor, pack: Pack) -> list[Tensor]:
        return of_pack(kind, logits, [example.num_tokens for example in pack])

    answers = Engine(model, decode=decode, batching=batching).run(examples)
    return [answer.result() for answer in answers]
