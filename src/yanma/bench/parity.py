"""No time without parity: what every contestant computed, against float64, one text at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import YanmaError
from .contestant import Sequences
from .contestants_hf import padded
from .contestants_training import Training, gradient, padded_training
from .outputs import Kind
from .workloads import Workload

SAMPLE = 64
FLOOR, MOST_OWN_ERROR = 1e-5, 1e-4
LEAST_MEAN_COSINE = 0.9999


class ParityError(YanmaError):
    """A contestant's results are not those of the model; nothing of the workload is reported."""


@dataclass(frozen=True)
class Verdict:
    """How far one contestant's results are from the reference."""

    difference: float
    """Inference: the largest of any number of the sample's outputs, over the reference's largest number or 1.

    Training: of loss and whole gradient the larger relative difference, dropout off.
    """
    limit: float | None
    """The difference that is accepted; None where no exactness is claimed."""
    cosine: float | None = None
    """The mean over the sample's texts; None in training."""
    least_cosine: float | None = None
    """Of any of them."""

    @property
    def text(self) -> str:
        """As it stands in the table.

        >>> Verdict(1.23e-6, 1e-5, 1.0, 1.0).text, Verdict(0.02, None, 0.995123, 0.98).text
        ('1.2e-06', 'cosine 0.99512, least 0.98000')
        """
        if self.limit is not None:
            return f"{self.difference:.1e}"
        return f"cosine {self.cosine:.5f}, least {self.least_cosine:.5f}"


def reference(model: nn.Module, kind: Kind, sequences: Sequences) -> list[Tensor]:
    """Outputs of a stock model in float64, one text at a time: no padding, no neighbours."""
    compute = padded(copy.deepcopy(model).double().eval(), kind)
    return [compute([sequence])[0] for sequence in sequences]


def difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of any number, over the largest expected number where that is above 1.

    >>> difference([torch.tensor([1.5, 4.0])], [torch.tensor([1.0, 4.0])])
    0.125
    """
    got, wanted = _flat(outputs), _flat(expected)
    largest = float((got - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))
    return largest if got.isfinite().all() else float("inf")


def cosines(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> Tensor:
    """(N,) float64: the cosine of each text's output with what was expected of it."""
    pairs = zip(outputs, expected, strict=True)
    return torch.stack(
        [F.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0) for a, b in pairs]
    )


def own_error(padded_outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """How far stock transformers in fp32 is from the reference; ParityError where that is more than rounding."""
    found = difference(padded_outputs, expected)
    if not found <= MOST_OWN_ERROR:
        raise ParityError(
            f"stock transformers itself differs from float64 by {found:.1e}, which is more than rounding"
        )
    return found


def accepted(own_error: float) -> float:
    """The largest difference accepted in fp32: twice the error that stock transformers makes itself, or 1e-5."""
    return max(2 * own_error, FLOOR)


def judge(name: str, outputs: Sequence[Tensor], expected: Sequence[Tensor], limit: float | None) -> Verdict:
    """The verdict on one contestant's outputs; ParityError where they differ by more than `limit`."""
    shapes, wanted = [tuple(out.shape) for out in outputs], [tuple(out.shape) for out in expected]
    if shapes != wanted:
        raise ParityError(f"{name}: its outputs have other shapes than the model's; no time is reported")
    similar = cosines(outputs, expected)
    verdict = Verdict(difference(outputs, expected), limit, float(similar.mean()), float(similar.min()))
    return _passed(name, verdict)


def judge_gradient(contestant: Training, sample: Workload, expected: Gradient) -> Verdict:
    """The verdict on one contestant's loss and gradient on a sample, with every batch size it may be measured with.

    Raises ParityError where either is further than 1e-5 from the reference.
    """
    worst = 0.0
    for size in contestant.sizes:
        with without_dropout(contestant.model):
            got = Gradient.of(contestant, sample, size)
        worst = max(worst, got.relative_difference(expected))
    return _passed(contestant.name, Verdict(worst, FLOOR))


def check_low_precision(name: str, outputs: Sequence[Tensor], in_fp32: Sequence[Tensor]) -> None:
    """Raise ParityError where the outputs of yanma's own bf16 have a mean cosine below 0.9999 with its fp32."""
    cosine = float(cosines(outputs, in_fp32).mean())
    if not cosine >= LEAST_MEAN_COSINE:
        raise ParityError(
            f"{name}: cosine with fp32 is {cosine:.6f}, accepted is {LEAST_MEAN_COSINE}; no time is reported"
        )


@dataclass(frozen=True)
class Gradient:
    """Loss () and whole gradient (P,) of a sample, float64."""

    loss: float
    whole: Tensor

    @classmethod
    def of(cls, contestant: Training, sample: Workload, size: int) -> Gradient:
        """As a contestant computes it."""
        (loss,) = contestant.run(sample, size)
        found = cls(float(loss), gradient(contestant.model))
        contestant.model.zero_grad(set_to_none=True)
        return found

    @classmethod
    def reference(cls, stock: nn.Module, sample: Workload) -> Gradient:
        """In float64, one text at a time, through a copy of the stock model, dropout off."""
        exact = copy.deepcopy(stock).double()
        with without_dropout(exact):
            return cls.of(padded_training(exact), sample, 1)

    def relative_difference(self, expected: Gradient) -> float:
        """The larger of loss and gradient: norm of the difference over norm of what was expected."""
        loss = abs(self.loss - expected.loss) / abs(expected.loss)
        whole = float((self.whole - expected.whole).norm() / expected.whole.norm())
        return max(loss, whole) if self.whole.isfinite().all() else float("inf")


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


def _passed(name: str, verdict: Verdict) -> Verdict:
    if verdict.limit is not None and not verdict.difference <= verdict.limit:
        raise ParityError(
            f"{name}: results differ from float64, one text at a time, by {verdict.difference:.1e}, "
            f"accepted is {verdict.limit:.1e}; no time is reported"
        )
    return verdict


def _flat(outputs: Sequence[Tensor]) -> Tensor:
    return torch.cat([output.double().flatten() for output in outputs])
