"""How well a model does on held-back text, under one fixed corruption: the same for every run and every step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from ..corruption import UNITS, Plan, Vocabulary
from ..data.blocks import Block, Blocks
from ..errors import ConfigError
from ..objectives.language import CausalLm, Mlm, Objective
from ..objectives.perplexity import evaluating, masked_accuracy, perplexity

FIXED_SEED = 0x6669786564
"""Of the corruption of validation texts, whatever the run's own seed is."""
_RATE = 0.15
_TOKENS_AT_ONCE = 2**16  # are hidden together; what is computed together is bounded by max_batch_tokens


@dataclass(frozen=True)
class Validation:
    """Figures of one moment of a run."""

    loss: float
    """mlm: the mean of tokens hidden one by one (15 %); else the objective's own."""
    figures: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"loss": self.loss, **self.figures}

    def points(self) -> dict[str, float]:
        """Of curves, by name."""
        units = {f"accuracy/{name}": unit["accuracy"] for name, unit in self.figures.get("units", {}).items()}
        rest = {name: self.figures[name] for name in ("perplexity",) if name in self.figures}
        return {f"validation/{name}": x for name, x in (units | rest | self.figures.get("terms", {})).items()}

    def describe(self) -> str:
        """Part of a line."""
        told = [f"loss {self.loss:.4f}"]
        if "units" in self.figures:
            told.append(f"accuracy {self.figures['units']['token']['accuracy']:.2%}".replace("%", " %"))
        if "perplexity" in self.figures:
            told.append(f"perplexity {self.figures['perplexity']:.2f}")
        return ", ".join(told)


@dataclass(frozen=True)
class Held:
    """Validation texts: as the objective takes them, and by unit of hiding."""

    blocks: Blocks
    units: Mapping[str, Blocks]
    """mlm: with the words that each unit asks for; else empty."""


def validate(
    objective: Objective, model: nn.Module, held: Held, *, max_batch_tokens: int, bf16: bool
) -> Validation:
    """Measure; leaves the model in the mode in which it was."""
    with evaluating(model) as device, torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        if isinstance(objective, Mlm):
            return _masked(objective, held, max_batch_tokens)
        if isinstance(objective, CausalLm):
            found = perplexity(model, held.blocks, max_batch_tokens=max_batch_tokens)
            return Validation(found.loss, found.as_dict())
        return _terms(objective, held.blocks, max_batch_tokens)


def fixed_plans(vocabulary: Vocabulary, units: Sequence[str]) -> dict[str, Plan]:
    """15 % of the tokens, hidden as BERT hides them, by each unit."""
    try:
        return {unit: Plan(vocabulary, UNITS[unit], _RATE) for unit in units}
    except ValueError as error:
        raise ConfigError(f"the tokenizer cannot hide tokens: {error}") from None


def _masked(objective: Mlm, held: Held, max_batch_tokens: int) -> Validation:
    found: dict[str, Any] = {}
    for unit, plan in fixed_plans(objective.plan.vocabulary, list(held.units)).items():
        blocks = held.units[unit]
        found |= masked_accuracy(
            objective.model, blocks, {unit: plan}, seed=FIXED_SEED, max_batch_tokens=max_batch_tokens
        )
    units = {unit: masked.as_dict() for unit, masked in found.items()}
    return Validation(found["token"].loss, {"units": units})


def _terms(objective: Objective, blocks: Blocks, max_batch_tokens: int) -> Validation:
    """The objective's own terms, each a mean."""
    fixed: Objective = replace(cast(Any, objective), seed=FIXED_SEED)
    sums, counts = [0.0] * len(fixed.weights), [0] * len(fixed.weights)
    for some in _portions(blocks):
        prepared = fixed.prepare(some, epoch=0, progress=1.0)
        counts = [a + b for a, b in zip(counts, prepared.counts, strict=True)]
        for pack in prepared.packs(max_batch_tokens):
            terms = fixed.terms(pack, epoch=0, dropout_seed=0)
            sums = [a + float(b) for a, b in zip(sums, terms.sums, strict=True)]
    means = [a / max(1, b) for a, b in zip(sums, counts, strict=True)]
    named = dict(zip(fixed.names, means, strict=True))
    return Validation(math.fsum(w * m for w, m in zip(fixed.weights, means, strict=True)), {"terms": named})


def _portions(blocks: Blocks) -> Iterator[list[Block]]:
    some: list[Block] = []
    tokens = 0
    for block in blocks:
        some.append(block)
        tokens += len(block.ids)
        if tokens >= _TOKENS_AT_ONCE:
            yield some
            some, tokens = [], 0
    if some:
        yield some
