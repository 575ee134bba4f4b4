"""No time without parity: what every contestant computed, against float64, one text at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import YanmaError
from .contestant import Contestant
from .hf import padded
from .ours import BF16, FP32
from .outputs import Kind
from .workloads import Workload, sample

SAMPLE = 64
FLOOR, MOST_OWN_ERROR = 1e-5, 1e-4
LEAST_MEAN_COSINE = 0.9999

Told = Callable[[str], None]
"""Hears the name of whoever has its turn: one turn a batch size."""


class ParityError(YanmaError):
    """A contestant's results are not those of the model; nothing of the workload is reported."""


@dataclass(frozen=True)
class Verdict:
    """How far one contestant's results are from the reference."""

    difference: float
    """Inference: the largest of any number of the sample's outputs, over the reference's largest number or 1.

    Training: the larger of `loss` and `gradient`.
    """
    limit: float | None
    """The difference that is accepted; None where no exactness is claimed."""
    cosine: float | None = None
    """The mean over the sample's texts; None in training."""
    least_cosine: float | None = None
    """Of any of them."""
    loss: float | None = None
    """Training: its relative difference, dropout off; None in inference."""
    gradient: float | None = None
    """That of the whole gradient: norm of the difference over norm of what was expected."""

    @property
    def text(self) -> str:
        """As it stands in the table.

        >>> Verdict(1.23e-6, 1e-5, 1.0, 1.0).text, Verdict(0.02, None, 0.995123, 0.98).text
        ('1.2e-06', 'cosine 0.99512, least 0.98000')
        """
        if self.limit is not None:
            return f"{self.difference:.1e}"
        return f"cosine {self.cosine:.5f}, least {self.least_cosine:.5f}"


# -- outputs -----------------------------------------------------------------------------------------------------------


def outputs(
    stock: nn.Module, kind: Kind, contestants: Sequence[Contestant], workload: Workload, told: Told
) -> dict[str, Verdict]:
    """A verdict on each, by name: all of the workload is computed with every batch size, and a sample compared.

    Raises ParityError if one fails: in fp32 where it is off by more than twice what stock transformers is off by
    itself, or 1e-5, whichever is more.
    """
    chosen = sample(workload, SAMPLE)
    examples = workload.take(chosen).examples
    exact = padded(copy.deepcopy(stock).double().eval(), kind)
    expected = [exact([example])[0] for example in examples]  # no padding, no neighbours
    limit = max(2 * _own_error(padded(stock, kind)(examples), expected), FLOOR)
    verdicts: dict[str, Verdict] = {}
    in_fp32: Sequence[Tensor] = ()
    for contestant in contestants:
        for size in contestant.sizes:
            told(contestant.name)
            found = contestant.run(workload, size)
            if contestant.name == FP32:
                in_fp32 = found
            if contestant.name == BF16:
                _check_low_precision(contestant.name, found, in_fp32)
            sampled = [found[index] for index in chosen]
            verdict = judge(
                contestant.name, sampled, expected, limit if contestant.precision == "fp32" else None
            )
            verdicts[contestant.name] = _worse(verdict, verdicts.get(contestant.name))
    return verdicts


def judge(name: str, found: Sequence[Tensor], expected: Sequence[Tensor], limit: float | None) -> Verdict:
    """The verdict on one contestant's outputs; ParityError where they differ by more than `limit`."""
    if [tuple(out.shape) for out in found] != [tuple(out.shape) for out in expected]:
        raise ParityError(f"{name}: its outputs have other shapes than the model's; no time is reported")
    similar = _cosines(found, expected)
    verdict = Verdict(difference(found, expected), limit, float(similar.mean()), float(similar.min()))
    if limit is not None and not verdict.difference <= limit:
        raise ParityError(
            f"{name}: results differ from float64, one text at a time, by {verdict.difference:.1e}, "
            f"accepted is {limit:.1e}; no time is reported"
        )
    return verdict


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of any number, over the largest expected number where that is above 1.

    >>> difference([torch.tensor([1.5, 4.0])], [torch.tensor([1.0, 4.0])])
    0.125
    """
    got, wanted = (torch.cat([out.double().flatten() for out in outs]) for outs in (found, expected))
    largest = float((got - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))
    return largest if got.isfinite().all() else float("inf")


def _cosines(found: Sequence[Tensor], expected: Sequence[Tensor]) -> Tensor:
    """(N,) float64: the cosine of each text's output with what was expected of it."""
    pairs = zip(found, expected, strict=True)
    return torch.stack(
        [F.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0) for a, b in pairs]
    )


def _own_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """How far stock transformers in fp32 is from the reference; ParityError where that is more than rounding."""
    off = difference(found, expected)
    if not off <= MOST_OWN_ERROR:
        raise ParityError(
            f"stock transformers itself differs from float64 by {off:.1e}, which is more than rounding"
        )
    return off


def _check_low_precision(name: str, found: Sequence[Tensor], in_fp32: Sequence[Tensor]) -> None:
    """Raise ParityError where the outputs of yanma's own bf16 have a mean cosine below 0.9999 with its fp32."""
    cosine = float(_cosines(found, in_fp32).mean())
    if not cosine >= LEAST_MEAN_COSINE:
        raise ParityError(
            f"{name}: cosine with fp32 is {cosine:.6f}, accepted is {LEAST_MEAN_COSINE}; no time is reported"
        )


# -- gradients ---------------------------------------------------------------------------------------------------------


def gradients(
    reference: Callable[[nn.Module], Contestant],
    stock: nn.Module,
    contestants: Sequence[Contestant],
    workload: Workload,
    told: Told,
) -> dict[str, Verdict]:
    """A verdict on each, by name: loss and whole gradient of a sample with every batch size, dropout off.

    They are compared with the stock model in float64, which `reference` computes, one text at a time. Raises
    ParityError if one is off by more than 1e-5.
    """
    sampled = workload.take(sample(workload, SAMPLE))
    expected = Gradient.of(reference(copy.deepcopy(stock).double()), sampled, 1)
    verdicts: dict[str, Verdict] = {}
    for contestant in contestants:
        for size in contestant.sizes:
            told(contestant.name)
            verdict = Gradient.of(contestant, sampled, size).verdict(contestant.name, expected)
            verdicts[contestant.name] = _worse(verdict, verdicts.get(contestant.name))
    return verdicts


@dataclass(frozen=True)
class Gradient:
    """Of a sample, as one contestant computes it, dropout off."""

    loss: float
    parts: tuple[Tensor, ...]
    """Each parameter's; 0 where there is none."""

    @classmethod
    def of(cls, contestant: Contestant, sampled: Workload, size: int) -> Gradient:
        """Computed now; nothing is left in the parameters."""
        model = contestant.model
        assert model is not None
        with without_dropout(model):
            (loss,) = contestant.run(sampled, size)
        parts = tuple(torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters())
        model.zero_grad(set_to_none=True)
        return cls(float(loss), parts)

    def verdict(self, name: str, expected: Gradient) -> Verdict:
        """ParityError where loss or gradient is further than 1e-5 from what was expected."""
        loss = abs(self.loss - expected.loss) / abs(expected.loss)
        pairs = zip(self.parts, expected.parts, strict=True)
        off = _norm((a.double() - b for a, b in pairs)) / _norm(expected.parts)
        if not (loss <= FLOOR and off <= FLOOR):
            raise ParityError(
                f"{name}: loss is off float64, one text at a time, by {loss:.1e}, the gradient by {off:.1e}; "
                f"accepted is {FLOOR:.0e}; no time is reported"
            )
        return Verdict(max(loss, off), FLOOR, loss=loss, gradient=off)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Every dropout rate of a model at 0, in train mode too."""
    rates = {module: module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    try:
        for module in rates:
            module.p = 0.0
        yield
    finally:
        for module, rate in rates.items():
            module.p = rate


def _norm(parts: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(part.double().square().sum()) for part in parts))


def _worse(verdict: Verdict, other: Verdict | None) -> Verdict:
    return verdict if other is None or verdict.difference > other.difference else other
