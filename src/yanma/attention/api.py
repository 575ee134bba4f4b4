"""The front of attention: checks, the choice of a backend, and the reasons for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

from torch import Tensor

from ..autocast import as_cast
from ..errors import Unsupported
from ..masks import Mask
from . import flex, reference, sdpa, segments, varlen
from .dropout import dropout_of
from .problem import Cost, Problem

_log = logging.getLogger("yanma")


@dataclass(frozen=True)
class Backend:
    """A name, and a module with `refusal(problem)`, `cost(problem)` and `run(...)`."""

    name: str
    module: ModuleType

    def refusal(self, problem: Problem) -> str | None:
        """Why it cannot do it; None = it can."""
        why: str | None = self.module.refusal(problem)
        return why


BACKENDS = (
    Backend("segments", segments),
    Backend("varlen", varlen),
    Backend("flex", flex),
    Backend("sdpa", sdpa),
    Backend("reference", reference),
)
"""In order of preference; on a CPU flex comes last. `auto` takes the first that does not refuse."""


@dataclass(frozen=True)
class Choice:
    """Which backend serves a call, what each would cost that can, and why the others cannot."""

    backend: str
    costs: dict[str, Cost]
    refusals: dict[str, str]

    def __str__(self) -> str:
        """A table, one line a backend, in order of preference among those that can."""
        lines = []
        for name, cost in self.costs.items():
            lines.append(f"{name:9}  {'chosen' if name == self.backend else 'can':6}  {cost}")
        return "\n".join(lines + [f"{name:9}  cannot  {why}" for name, why in self.refusals.items()])


def attention(
    q: Tensor,  # (Tq, H, D)
    k: Tensor,  # (Tk, Hk, D), H a multiple of Hk
    v: Tensor,  # (Tk, Hk, D)
    mask: Mask,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
    seed: int | Sequence[int] | Tensor | None = None,
    backend: str = "auto",
) -> Tensor:  # (Tq, H, D)
    """softmax(q kᵀ · scale) v over the keys that `mask` lets each query read; a query that may read nothing gives 0.

    `scale` is 1/√D by default. `dropout` drops attention weights, keyed by (seed, document, head, query, key):
    `seed` is one number (documents are then known by their place in the pack) or one int64 key a document.
    `backend` is `auto`, or a name from `BACKENDS`, which is honoured or refused, never replaced. Under `torch.autocast`
    q, k and v are cast first, as those of torch's scaled_dot_product_attention are.

    Raises ValueError for shapes that do not fit and Unsupported where the backend cannot do it exactly.

    >>> import torch
    >>> from yanma.masks import causal, documents
    >>> q = k = v = torch.eye(3).view(3, 1, 3)
    >>> attention(q, k, v, documents([1, 2]) & causal())[:2, 0]
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    q, k, v = as_cast(q), as_cast(k), as_cast(v)
    problem = Problem.of(q, k, v, mask, dropout)
    chosen = _choose(problem, backend)
    if q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scale = q.shape[2] ** -0.5 if scale is None else scale
    out: Tensor = chosen.module.run(q, k, v, problem, scale, dropout_of(dropout, seed, problem))
    return out


def explain(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, *, dropout: float = 0.0, backend: str = "auto"
) -> Choice:
    """Which backend `attention` would take for these arguments, what each would cost, and why some cannot.

    >>> import torch
    >>> from yanma.masks import window
    >>> q = torch.zeros(300, 2, 8)
    >>> print(explain(q, q, q, window(2, 0)))
    segments   chosen  21,480 pairs a head, 17,464 bytes of mask
    sdpa       can     90,000 pairs a head, 90,000 bytes of mask
    reference  can     90,000 pairs a head, 90,000 bytes of mask
    flex       can     81,920 pairs a head, 144 bytes of mask
    varlen     cannot  runs on CUDA, and this is cpu
    """
    q, k, v = as_cast(q), as_cast(k), as_cast(v)
    problem = Problem.of(q, k, v, mask, dropout)
    chosen = _choose(problem, backend)
    reasons = {other: other.refusal(problem) for other in _in_order(problem)}
    costs = {other.name: other.module.cost(problem) for other, why in reasons.items() if why is None}
    return Choice(chosen.name, costs, {o.name: why for o, why in reasons.items() if why is not None})


def _choose(problem: Problem, name: str) -> Backend:
    if name == "auto":
        return _first_able(problem)
    named = [backend for backend in BACKENDS if backend.name == name]
    if not named:
        raise ValueError(f"no backend {name!r}; there are auto, {', '.join(b.name for b in BACKENDS)}")
    why = named[0].refusal(problem)
    if why is not None:
        able = [backend.name for backend in _in_order(problem) if backend.refusal(problem) is None]
        raise Unsupported(f"{name} {why}; backends that can: {', '.join(able) or 'none'}")
    return named[0]


def _first_able(problem: Problem) -> Backend:
    passed: list[str] = []
    for backend in _in_order(problem):
        why = backend.refusal(problem)
        if why is None:
            _tell(backend.name, tuple(passed))
            return backend
        passed.append(f"{backend.name} {why}")
    raise Unsupported(f"no backend can compute {problem.mask.describe()}: {'; '.join(passed)}")


def _in_order(problem: Problem) -> list[Backend]:
    """On a CPU, flex compiles for many seconds or forms every score: all others come before it."""
    return sorted(BACKENDS, key=lambda each: problem.device.type == "cpu" and each.module is flex)


@lru_cache(maxsize=256)
def _tell(chosen: str, passed: tuple[str, ...]) -> None:
    """Say a choice, once each of the last 256."""
    _log.info("attention: %s is chosen%s", chosen, "".join(f"; {why}" for why in passed))
