"""Small models measured against the same models on one document at a time; tests judge what is found, a page shows it.

In float64 the stock model gives the truth. In the dtype at hand it has an error, in units of which that of the unpadded
model is told.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

import yanma
from models.builders import LENGTHS, build, doubled, gradient, rectangle
from models.pairs import Pairs, ours_by_pair, pairs, stock_by_pair
from models.sounds import Recordings, recordings
from yanma.models.family import Family, Head

# N documents, each with its own outputs: those of its tokens, and those of the whole

Outputs = dict[str, list[Tensor]]
"""By name, one tensor a document."""


def sharpened(model: nn.Module) -> nn.Module:
    """Larger weights than a fresh model's, so that attention is sharp and every bias and norm matters.

    T5 does not divide scores by the root of the head's width. Its own fresh weights of queries are smaller by that
    root, and so are these: else softmax is so sharp that every gradient, the stock model's too, loses half its digits.
    """
    draw = torch.Generator().manual_seed(3)
    width = getattr(getattr(model, "config", None), "d_kv", 1)  # of T5 alone
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = 0.25 * torch.randn(parameter.shape, generator=draw)
            if name.endswith(".q.weight"):
                drawn /= width**0.5
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


@dataclass(frozen=True)
class Subject:
    """Documents, or pairs of a source and a target, and a head that is given them."""

    head: Head
    documents: Sequence[Tensor] = ()
    pairs: Pairs | None = None

    def __len__(self) -> int:
        return len(self.documents) if self.pairs is None else len(self.pairs.sources)

    def together(self, model: nn.Module) -> Outputs:
        """An unpadded model's outputs of one pack."""
        if self.pairs is not None:
            return _by_name(ours_by_pair(model, self.pairs))
        batch = yanma.PackedBatch.from_sequences(list(self.documents))
        return {
            key: batch.unpack(value) if key in self.head.token_outputs else list(value.split(1))
            for key, value in _compared(model(batch), self.head).items()
        }

    def alone(self, model: nn.Module) -> Outputs:
        """A stock model's outputs, one document or pair after the other."""
        if self.pairs is not None:
            return _by_name(stock_by_pair(model, self.pairs))
        found: Outputs = {}
        for document in self.documents:
            ids = document[None, None] if self.head.loss == "choice" else document[None]
            output = _compared(model(input_ids=ids, attention_mask=torch.ones_like(ids)), self.head)
            for key, value in output.items():
                found.setdefault(key, []).append(value[0] if key in self.head.token_outputs else value)
        return found

    def changed(self, index: int) -> Subject:
        """With other tokens in one document, or in one source."""

        def others(documents: Sequence[Tensor]) -> list[Tensor]:
            return [5 + (ids + 40) % 94 if i == index else ids for i, ids in enumerate(documents)]

        if self.pairs is None:
            return replace(self, documents=others(self.documents))
        sources = self.pairs.sources
        read = [torch.cat([new[:-1], old[-1:]]) for new, old in zip(others(sources), sources, strict=True)]
        return replace(self, pairs=replace(self.pairs, sources=read, targets=others(self.pairs.targets)))

    def chosen(self, indices: Sequence[int]) -> Subject:
        """Some of them, or the same ones several times."""
        if self.pairs is None:
            return replace(self, documents=[self.documents[i] for i in indices])
        sources, targets = ([own[i] for i in indices] for own in (self.pairs.sources, self.pairs.targets))
        return replace(self, pairs=replace(self.pairs, sources=sources, targets=targets))


def _by_name(outputs: list[dict[str, Tensor]]) -> Outputs:
    return {key: [own[key] for own in outputs] for key in outputs[0]}


def _compared(output: Any, head: Head) -> dict[str, Tensor]:
    names = (*head.token_outputs, *head.document_outputs)
    return {name: output[name] for name in names if output.get(name) is not None}


def measure(
    family: Family, name: str, mode: str, dtype: torch.dtype, autocast: torch.dtype | None = None
) -> Measured:
    """`mode`: "eval", or "train" with every dropout at 0; `autocast`: under it to this dtype, but for the truth."""
    head = family.heads[name]
    subject: Subject | Recordings
    if head.decodes:
        subject = Subject(head, pairs=pairs(family, name))
    elif family.is_speech:
        subject = Recordings(head, recordings())
    else:
        subject = Subject(head, rectangle(family, name).documents)
    stock = sharpened(build(family, name)).to(dtype).train(mode == "train")
    exact, ours = doubled(stock), yanma.unpad(copy.deepcopy(stock))
    truth, *cast = (
        _outputs_and_gradient(model, subject, to)
        for model, to in ((exact, None), (stock, autocast), (ours, autocast))
    )
    theirs, found = cast
    rounded = dtype if autocast is None else autocast
    outputs = [_joined(outputs, truth[0]) for outputs, _ in (found, theirs, truth)]
    true, their, own = (each.double() for _, each in (truth, theirs, found))
    step = torch.finfo(rounded).eps * float(true.norm())
    return Measured(
        error=max(_in_units(*each, rounded) for each in zip(*outputs, strict=True)),
        gradient=float((own - their).norm() / their.norm()),
        gradient_error=float((own - true).norm() / ((their - true).norm() + step)),
        leaks=leaks(ours, subject, autocast),
        pairs=len(subject) * (len(subject) - 1),
    )


def _in_units(found: Tensor, theirs: Tensor, truth: Tensor, dtype: torch.dtype) -> float:
    step = torch.finfo(dtype).eps * truth.norm()
    return float((found.double() - truth).norm() / ((theirs.double() - truth).norm() + step))


def _joined(outputs: Outputs, like: Outputs) -> list[Tensor]:
    return [torch.cat([part.flatten() for part in outputs[key]]).detach() for key in like]


def _outputs_and_gradient(
    model: nn.Module, subject: Subject | Recordings, autocast: torch.dtype | None
) -> tuple[Outputs, Tensor]:
    """A stock model's of one document at a time, an unpadded one's of the pack; the loss is a fixed sum of outputs."""
    model.zero_grad()
    with autocast_to(autocast):
        outputs = subject.together(model) if yanma.models.is_unpadded(model) else subject.alone(model)
    draw = torch.Generator().manual_seed(4)
    for key in sorted(outputs):
        whole = torch.cat([part.flatten() for part in outputs[key]]).double()
        weights = torch.randn(whole.shape, generator=draw, dtype=torch.float64)
        (whole * weights).sum().backward(retain_graph=True)
    return outputs, gradient(model)


def autocast_to(dtype: torch.dtype | None) -> torch.autocast:
    """Autocast on the CPU; None = off."""
    return torch.autocast("cpu", dtype, enabled=dtype is not None)


@torch.no_grad()
def leaks(model: nn.Module, subject: Subject | Recordings, autocast: torch.dtype | None = None) -> int:
    """How many documents' outputs change in a bit when another document does."""
    with autocast_to(autocast):
        return _leaks(model, subject)


def _leaks(model: nn.Module, subject: Subject | Recordings) -> int:
    before, found = subject.together(model), 0
    for changed in range(len(subject)):
        after = subject.changed(changed).together(model)
        moved = [
            any(not torch.equal(before[key][i], after[key][i]) for key in before) for i in range(len(subject))
        ]
        if not moved[changed]:
            raise AssertionError(f"document {changed} was changed and its output was not: nothing is shown")
        found += sum(moved) - 1
    return found


@torch.no_grad()
def differing_pairs(model: nn.Module, family: Family, name: str, least: int) -> tuple[int, int]:
    """How many documents differ in a bit from themselves alone, in random batches, and of how many: `least` or more."""
    draw, differing, count = random.Random(5), 0, 0
    lengths = (1, 2, 3, *range(4, 61, 3), *LENGTHS)
    subject: Subject | Recordings
    if family.is_speech:
        subject = Recordings(family.heads[name], recordings([6 * n + draw.randint(5, 10) for n in lengths]))
    elif family.heads[name].decodes:
        subject = Subject(family.heads[name], pairs=pairs(family, name, lengths, lengths[::-1]))
    else:
        known = [torch.tensor([draw.randint(5, 98) for _ in range(n)]) for n in lengths]
        subject = Subject(family.heads[name], known)
    own = [subject.chosen([i]).together(model) for i in range(len(subject))]
    while count < least:
        company = draw.choices(range(len(subject)), k=draw.randint(2, 40))
        batch = subject.chosen(company).together(model)
        for place, i in enumerate(company):
            differing += any(not torch.equal(batch[key][place], own[i][key][0]) for key in batch)
            count += 1
    return differing, count
