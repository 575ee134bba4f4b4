"""Which contestants meet in which part, and how each part is checked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ..models import unpad
from . import (
    contestants_ct2,
    contestants_hf,
    contestants_ort,
    contestants_text,
    contestants_training,
    contestants_yanma,
    parity,
)
from .absent import Absent
from .batching import Rows
from .contestant import Batched, Contestant
from .contestants_hf import padded
from .contestants_training import Training
from .floor import Floor, linear_shapes
from .model import Models
from .outputs import Kind
from .parity import Verdict
from .workloads import Workload, sample

Told = Callable[[str], None]


class Examination(Protocol):
    """How a part's results are checked."""

    def turns(self, contestants: Sequence[Contestant]) -> int:
        """How many names `__call__` will tell."""

    def __call__(
        self, contestants: Sequence[Contestant], workload: Workload, told: Told
    ) -> dict[str, Verdict]:
        """A verdict on each contestant, by name; ParityError if one fails."""


@dataclass(frozen=True)
class Part:
    """One kind of work."""

    key: str
    title: str
    contestants: tuple[Contestant, ...]
    examine: Examination
    floors: tuple[Floor, ...] = ()
    absent: tuple[tuple[str, str], ...] = ()
    yardsticks: tuple[str, ...] = (contestants_yanma.FP32,)


@dataclass(frozen=True)
class Outputs:
    """All of the workload is computed with every batch size, and a sample compared with the stock model in float64."""

    stock: nn.Module
    kind: Kind

    def turns(self, contestants: Sequence[Contestant]) -> int:
        return sum(len(contestant.sizes) for contestant in contestants)

    def __call__(
        self, contestants: Sequence[Contestant], workload: Workload, told: Told
    ) -> dict[str, Verdict]:
        chosen = sample(workload, parity.SAMPLE)
        sampled = workload.take(chosen)
        expected = parity.reference(self.stock, self.kind, sampled.sequences)
        limit = parity.accepted(parity.own_error(self._padded(sampled), expected))
        verdicts: dict[str, Verdict] = {}
        in_fp32: list[Tensor] = []
        for contestant in contestants:
            for size in contestant.sizes:
                told(contestant.name)
                outputs = contestant.run(workload, size)
                if contestant.name == contestants_yanma.FP32:
                    in_fp32 = outputs
                if contestant.name == contestants_yanma.BF16:
                    parity.check_low_precision(contestant.name, outputs, in_fp32)
                verdict = parity.judge(
                    contestant.name,
                    [outputs[index] for index in chosen],
                    expected,
                    limit if contestant.precision == "fp32" else None,
                )
                verdicts[contestant.name] = _worse(verdict, verdicts.get(contestant.name))
        return verdicts

    def _padded(self, sampled: Workload) -> list[Tensor]:
        stock = Batched("stock", Rows(), (parity.SAMPLE,), padded(self.stock, self.kind))
        return stock.run(sampled, parity.SAMPLE)


@dataclass(frozen=True)
class Gradients:
    """Loss and whole gradient of a sample are compared with the stock model in float64, dropout off."""

    stock: nn.Module

    def turns(self, contestants: Sequence[Contestant]) -> int:
        return len(contestants)

    def __call__(
        self, contestants: Sequence[Contestant], workload: Workload, told: Told
    ) -> dict[str, Verdict]:
        sampled = workload.take(sample(workload, parity.SAMPLE))
        expected = parity.Gradient.reference(self.stock, sampled)
        verdicts = {}
        for contestant in contestants:
            assert isinstance(contestant, Training)
            told(contestant.name)
            verdicts[contestant.name] = parity.judge_gradient(contestant, sampled, expected)
        return verdicts


def parts(models: Models, keys: Sequence[str], width: int, folder: Path) -> list[Part]:
    """The parts that were asked for, ready to run; `folder` takes what is exported and converted."""
    from ..loading.pretrained import quiet

    makers: dict[str, Callable[[Models, int, Path], Part]] = {
        "embeddings": _embeddings,
        "text": _text,
        "classification": _classification,
        "training": _training,
    }
    with quiet():
        return [makers[key](models, width, folder) for key in keys]


def _embeddings(models: Models, width: int, folder: Path) -> Part:
    kind: Kind = "embedding"
    threads = torch.get_num_threads()
    others, absent = _present(
        ("ONNX Runtime", lambda: contestants_ort.contestants(models.base, folder, threads)),
        ("CTranslate2", lambda: contestants_ct2.contestants(_saved(models, folder), folder, threads)),
    )
    shapes = linear_shapes(models.base)
    return Part(
        "embeddings",
        "Embeddings (mean of the last hidden states)",
        (
            *contestants_hf.contestants(models.base, kind, width),
            contestants_hf.sorted_bf16(models.base_bf16, kind),
            *others,
            *contestants_yanma.contestants(models.unpadded, kind),
            *contestants_yanma.contestants(models.unpadded_bf16, kind, precision="bf16"),
        ),
        Outputs(models.base, kind),
        (Floor(shapes, torch.float32), Floor(shapes, torch.bfloat16)),
        absent,
        (contestants_yanma.FP32, contestants_yanma.BF16),
    )


def _text(models: Models, width: int, folder: Path) -> Part:
    others, absent = _present(
        (
            "sentence-transformers",
            lambda: contestants_text.sentence_transformers(_saved(models, folder), width),
        ),
    )
    packs, _ = contestants_yanma.contestants(models.unpadded, "embedding")
    return Part(
        "text",
        "Embeddings from text, tokenisation included",
        (*others, contestants_text.FromText(packs, models.tokenizer, width)),
        Outputs(models.base, "embedding"),
        absent=absent,
    )


def _classification(models: Models, width: int, folder: Path) -> Part:
    stock = models.classifier
    return Part(
        "classification",
        "Classification (logits of 77 classes)",
        (
            *contestants_hf.contestants(stock, "logits", width),
            *contestants_yanma.contestants(models.unpadded_classifier, "logits"),
        ),
        Outputs(stock, "logits"),
        (Floor(linear_shapes(models.base), torch.float32),),
    )


def _training(models: Models, width: int, folder: Path) -> Part:
    stock = copy.deepcopy(models.classifier)  # it is in train mode from here on
    unpadded = unpad(copy.deepcopy(stock))
    return Part(
        "training",
        "Training (forward and backward of a classifier of 77 classes, dropout on)",
        tuple(contestants_training.contestants(stock, unpadded, width)),
        Gradients(stock),
        (Floor(linear_shapes(models.base), torch.float32, passes=3),),
    )


def _present(
    *makers: tuple[str, Callable[[], Sequence[Contestant]]],
) -> tuple[list[Contestant], tuple[tuple[str, str], ...]]:
    """Those who can take part, and those who cannot with the reason."""
    found: list[Contestant] = []
    absent = []
    for name, make in makers:
        try:
            found += make()
        except Absent as reason:
            absent.append((name, str(reason)))
    return found, tuple(absent)


def _saved(models: Models, folder: Path) -> Path:
    place = folder / "model"
    return place if place.exists() else models.save(place)


def _worse(verdict: Verdict, other: Verdict | None) -> Verdict:
    return verdict if other is None or verdict.difference > other.difference else other
