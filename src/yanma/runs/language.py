"""How well a model does on held-back text, under one fixed corruption: the same for every run and every step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator

from ..corruption import UNITS, Plan, Vocabulary
from ..data.blocks import Block, Blocks
from ..errors import ConfigError
from ..objectives import Compute, Objective
from ..objectives.electra import Rtd
from ..objectives.language import CausalLm, Mlm
from ..objectives.objective import evaluating
from ..objectives.perplexity import found_masked, found_next, found_pseudo
from .setup import Note

FIXED_SEED = 0x6669786564
"""Of the corruption of validation texts, whatever the run's own seed is."""
_RATE = 0.15
_TOKENS_AT_ONCE = 2**16  # are hidden together; what is computed together is bounded by max_batch_tokens


@dataclass(frozen=True)
class LanguageFigures:
    """Figures of one moment of a run."""

    loss: float
    """mlm: the mean of tokens hidden one by one (15 %); else the objective's own."""
    figures: Mapping[str, Any]
    ranked: bool = True
    """Whether a lower loss is a better model."""

    @property
    def rank(self) -> float | None:
        """See Validation."""
        return -self.loss if self.ranked else None

    def table(self, title: str) -> None:
        """See Validation: the line says it all."""

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


@dataclass(frozen=True)
class LanguageJudge:
    """Measures a model of language."""

    objective: Objective
    compute: Compute
    held: Held
    bf16: bool
    vocabulary: Vocabulary
    pseudo_perplexity_tokens: int

    def validate(self, accelerator: Accelerator) -> LanguageFigures:
        """See Judge; every rank measures by itself and finds the same."""
        with evaluating(self.compute.model), self._autocast():
            if isinstance(self.objective, Mlm):
                return _masked(self.compute, self.objective, self.held)
            if isinstance(self.objective, CausalLm):
                found = found_next(self.compute, self.held.blocks)
                return LanguageFigures(found.loss, found.as_dict())
            return _terms(self.compute, self.objective, self.held.blocks)

    def finish(self, model: Path, accelerator: Accelerator, note: Note) -> dict[str, Any]:
        """Pseudo-perplexity after the last step; None where it was not asked for."""
        if not isinstance(self.objective, Mlm) or self.pseudo_perplexity_tokens == 0:
            return {"pseudo_perplexity": None}
        with self._autocast():
            found = found_pseudo(
                self.compute,
                self.held.units["word"],
                vocabulary=self.vocabulary,
                max_tokens=self.pseudo_perplexity_tokens,
                seed=FIXED_SEED,
            )
        note(f"pseudo-perplexity {found.perplexity:.2f} on {found.tokens:,} tokens of validation")
        return {"pseudo_perplexity": found.as_dict()}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.compute.device.type, torch.bfloat16, enabled=self.bf16)


def fixed_plans(vocabulary: Vocabulary, units: Sequence[str]) -> dict[str, Plan]:
    """15 % of the tokens, hidden as BERT hides them, by each unit."""
    try:
        return {unit: Plan(vocabulary, UNITS[unit], _RATE) for unit in units}
    except ValueError as error:
        raise ConfigError(f"the tokenizer cannot hide tokens: {error}") from None


def _masked(compute: Compute, objective: Mlm, held: Held) -> LanguageFigures:
    plans = fixed_plans(objective.plan.vocabulary, list(held.units))
    found = {unit: found_masked(compute, held.units[unit], plan, FIXED_SEED) for unit, plan in plans.items()}
    units = {unit: masked.as_dict() for unit, masked in found.items()}
    return LanguageFigures(found["token"].loss, {"units": units})


def _terms(compute: Compute, objective: Objective, blocks: Blocks) -> LanguageFigures:
    """The objective's own terms, each a mean."""
    fixed: Objective = replace(cast(Any, objective), seed=FIXED_SEED)
    sums, counts = [0.0] * len(fixed.weights), [0] * len(fixed.weights)
    for some in _portions(blocks):
        prepared = fixed.prepare(some, epoch=0, progress=1.0)
        counts = [a + b for a, b in zip(counts, prepared.counts, strict=True)]
        for pack in prepared.packs(compute.batching):
            sums = [a + float(b) for a, b in zip(sums, fixed.terms(compute, pack).sums, strict=True)]
    means = [a / max(1, b) for a, b in zip(sums, counts, strict=True)]
    named = dict(zip(fixed.names, means, strict=True))
    loss = math.fsum(w * m for w, m in zip(fixed.weights, means, strict=True))
    # A better generator makes the discriminator's loss higher: it says nothing of which of two models is better.
    return LanguageFigures(loss, {"terms": named}, ranked=not isinstance(objective, Rtd))


def _portions(blocks: Blocks) -> Iterator[list[Block]]:
    some: list[Block] = []
    tokens = 0
    for block in blocks:
        some.append(block)
        tokens += block.num_tokens
        if tokens >= _TOKENS_AT_ONCE:
            yield some
            some, tokens = [], 0
    if some:
        yield some
