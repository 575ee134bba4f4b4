"""Small models measured against the same models on one document at a time; tests judge what is found, a page shows it.

In float64 the stock model gives the truth. In the dtype at hand it has an error, in units of which that of the unpadded
model is told.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import yanma
from models.builders import LENGTHS, build, doubled, gradient, rectangle
from yanma.models.families import Family, Head

# N documents, each with its own outputs: those of its tokens, and those of the whole

Outputs = dict[str, list[Tensor]]
"""By name, one tensor a document."""


def sharpened(model: nn.Module) -> nn.Module:
    """Larger weights than a fresh model's, so that attention is sharp and every bias and norm matters."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = 0.25 * torch.randn(parameter.shape, generator=draw)
            is_norm = name.lower().endswith("norm.weight")
            parameter.copy_(drawn + 1 if is_norm else drawn)
    return model


@dataclass(frozen=True)
class Measured:
    """One head in one mode and dtype."""

    error: float
    """The largest error of an output, root mean square, in units of the stock model's and a rounding step."""
    gradient: float
    """Of the whole gradient: its relative difference from the stock model's."""
    gradient_error: float
    """The gradient's error in units of the stock gradient's."""
    leaks: int
    """Pairs of documents of which one changed and the other's output did in some bit."""
    pairs: int
    """All pairs that were looked at for that."""


def measure(family: Family, name: str, mode: str, dtype: torch.dtype) -> Measured:
    """`mode`: "eval", or "train" with every dropout at 0."""
    head, documents = family.heads[name], rectangle(family, name).documents
    stock = sharpened(build(family, name)).to(dtype).train(mode == "train")
    exact, ours = doubled(stock), yanma.unpad(copy.deepcopy(stock))
    truth, theirs, found = (_outputs_and_gradient(model, head, documents) for model in (exact, stock, ours))
    units = [
        _in_units(*each, dtype) for each in zip(*(_joined(o) for o, _ in (found, theirs, truth)), strict=True)
    ]
    true, their, own = (each.double() for _, each in (truth, theirs, found))
    step = torch.finfo(dtype).eps * float(true.norm())
    return Measured(
        error=max(units),
        gradient=float((own - their).norm() / their.norm()),
        gradient_error=float((own - true).norm() / ((their - true).norm() + step)),
        leaks=leaks(ours, head, documents),
        pairs=len(documents) * (len(documents) - 1),
    )


def _in_units(found: Tensor, theirs: Tensor, truth: Tensor, dtype: torch.dtype) -> float:
    step = torch.finfo(dtype).eps * truth.norm()
    return float((found.double() - truth).norm() / ((theirs.double() - truth).norm() + step))


def _joined(outputs: Outputs) -> list[Tensor]:
    return [torch.cat([part.flatten() for part in parts]).detach() for parts in outputs.values()]


def _outputs_and_gradient(
    model: nn.Module, head: Head, documents: Sequence[Tensor]
) -> tuple[Outputs, Tensor]:
    """A stock model's of one document at a time, an unpadded one's of the pack; the loss is a fixed sum of outputs."""
    model.zero_grad()
    outputs = (
        together(model, head, documents) if yanma.models.is_unpadded(model) else alone(model, head, documents)
    )
    draw = torch.Generator().manual_seed(4)
    for parts in outputs.values():
        whole = torch.cat([part.flatten() for part in parts]).double()
        (whole * torch.randn(whole.shape, generator=draw, dtype=torch.float64)).sum().backward(
            retain_graph=True
        )
    return outputs, gradient(model)


def together(model: nn.Module, head: Head, documents: Sequence[Tensor]) -> Outputs:
    """An unpadded model's outputs of one pack."""
    batch = yanma.PackedBatch.from_sequences(list(documents))
    output = model(batch)
    return {
        key: batch.unpack(value) if key in head.token_outputs else list(value.split(1))
        for key, value in _compared(output, head).items()
    }


def alone(model: nn.Module, head: Head, documents: Sequence[Tensor]) -> Outputs:
    """A stock model's outputs, one document after the other."""
    found: Outputs = {}
    for document in documents:
        ids = document[None, None] if head.loss == "choice" else document[None]
        for key, value in _compared(model(input_ids=ids, attention_mask=torch.ones_like(ids)), head).items():
            found.setdefault(key, []).append(value[0] if key in head.token_outputs else value)
    return found


def _compared(output: Any, head: Head) -> dict[str, Tensor]:
    names = (*head.token_outputs, *head.document_outputs)
    return {name: output[name] for name in names if output.get(name) is not None}


@torch.no_grad()
def leaks(model: nn.Module, head: Head, documents: Sequence[Tensor]) -> int:
    """How many outputs change in a bit when another document's tokens do."""
    before, found = together(model, head, documents), 0
    for changed in range(len(documents)):
        others = list(documents)
        others[changed] = 5 + (documents[changed] + 40) % 94
        after = together(model, head, others)
        moved = [
            any(not torch.equal(before[key][i], after[key][i]) for key in before)
            for i in range(len(documents))
        ]
        if not moved[changed]:
            raise AssertionError(f"document {changed} was changed and its output was not: nothing is shown")
        found += sum(moved) - 1
    return found


@torch.no_grad()
def differing_pairs(model: nn.Module, head: Head, pairs: int) -> tuple[int, int]:
    """How many documents differ in a bit from themselves alone, in random batches, and of how many: `pairs` or more."""
    draw, differing, count = random.Random(5), 0, 0
    known = [
        torch.tensor([draw.randint(5, 98) for _ in range(n)]) for n in (1, 2, 3, *range(4, 61, 3), *LENGTHS)
    ]
    own = [together(model, head, [document]) for document in known]
    while count < pairs:
        company = draw.choices(range(len(known)), k=draw.randint(2, 40))
        batch = together(model, head, [known[i] for i in company])
        for place, i in enumerate(company):
            differing += any(not torch.equal(batch[key][place], own[i][key][0]) for key in batch)
            count += 1
    return differing, count
