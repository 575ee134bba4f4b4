"""An objective whose loss is one of all examples of a step: each text is told from those of other targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification

from yanma import unpad
from yanma.data.collate import packed
from yanma.data.examples import Example, Tokens
from yanma.objectives import Packed
from yanma.objectives.objective import Prepared
from yanma.runs.stepper import Place, Stepper

LENGTHS = (3, 14, 7, 7, 2, 25, 9, 5, 4, 11)


@dataclass
class Contrastive:
    """Supervised contrastive loss (Khosla et al. 2020); targets are the number of a text's group."""

    temperature: float | Tensor = 0.1
    told: list[int] = field(default_factory=list)
    """Examples of every pack that was computed."""

    names: ClassVar[tuple[str, ...]] = ("contrastive",)
    weights: ClassVar[tuple[float, ...]] = (2.0,)

    def prepare(self, items, *, epoch, progress, losses=None) -> Prepared:
        return Prepared(tuple(items), (len(items),))

    def outputs(self, compute, pack) -> Tensor:
        self.told.append(len(pack))
        return compute.logits(pack)

    def step_loss(self, outputs: Tensor, examples: Sequence[Example]) -> Tensor:
        groups = torch.tensor([example.targets for example in examples], device=outputs.device)
        rows = F.normalize(outputs)
        itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        scores = (rows @ rows.T / self.temperature).masked_fill(itself, -torch.inf)
        kin = (groups[:, None] == groups) & ~itself
        chances = scores.log_softmax(1).masked_fill(~kin, 0)
        return -(chances.sum(1) / kin.sum(1).clamp(min=1)).sum()


def examples(lengths=LENGTHS, *, first: int = 0) -> list[Example]:
    """Texts of two groups, in no order of their keys."""
    draw = torch.Generator().manual_seed(first)
    made = [
        Example(first + key, (Tokens(torch.randint(5, 50, (length,), generator=draw)),), key % 2)
        for key, length in enumerate(lengths)
    ]
    return made[::-1]


def model(dropout: float = 0.0) -> nn.Module:
    """What makes eight numbers of a text."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=8,
        initializer_range=0.2,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return unpad(BertForSequenceClassification(config))


def step_gradient(
    objective, model: nn.Module, step, *, batching=None, bf16: bool = False
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient of a step, by the name of each parameter; None where it has none."""
    accelerator = Accelerator(mixed_precision="no", cpu=True)
    how = {"seed": 3, "bf16": bf16}
    stepper = Stepper(objective, model, batching or Packed(4096), accelerator, **how)
    model.train()
    model.zero_grad()
    loss = float(stepper.gradient(step, Place(epoch=1, progress=0.5)))
    return loss, {name: p.grad for name, p in model.named_parameters()}


def plain_gradient(objective, model: nn.Module, step, seed: int) -> tuple[float, dict[str, Tensor]]:
    """The same without a stepper: all examples in one pack, one loss, one backward."""
    model.train()
    model.zero_grad()
    ordered = sorted(step, key=lambda example: example.key)
    outputs = model(packed(ordered), seed=seed).logits
    loss = objective.step_loss(outputs, ordered) * objective.weights[0] / len(ordered)
    loss.backward()
    return float(loss.detach()), {name: p.grad for name, p in model.named_parameters()}
