"""The front of attention: checks, the choice of a backend, and the reasons for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from torch import Tensor

from ..errors import Unsupported
from ..masks import Mask
from . import reference, sdpa, segments
from .dropout import dropout_of
from .problem import Problem


@dataclass(frozen=True)
class Backend:
    """A name, and a module with `refusal(problem)` and `run(...)`."""

    name: str
    module: ModuleType


BACKENDS = (Backend("segments", segments), Backend("sdpa", sdpa), Backend("reference", reference))
"""In order of preference. `auto` takes the first that does not refuse."""


@dataclass(frozen=True)
class Choice:
    """Which backend serves a call, and why the others were passed over."""

    backend: str
    refusals: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.backend}: chosen"]
        return "\n".join(lines + [f"{name}: {why}" for name, why in self.refusals.items()])


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
    `backend` is `auto`, or a name from `BACKENDS`, which is honoured or refused, never replaced.

    Raises ValueError for shapes that do not fit and Unsupported where the backend cannot do it exactly.

    >>> import torch
    >>> from yanma.masks import causal, documents
    >>> q = k = v = torch.eye(3).view(3, 1, 3)
    >>> attention(q, k, v, documents([1, 2]) & causal())[:2, 0]
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
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
    """Which backend `attention` would take for these arguments, and why not the ones before it.

    >>> import torch
    >>> from yanma.masks import window
    >>> q = torch.zeros(3, 1, 8)
    >>> print(explain(q, q, q, window(2, 0)))
    sdpa: chosen
    segments: cannot express window(2, 0); only documents and causal
    """
    problem = Problem.of(q, k, v, mask, dropout)
    chosen = _choose(problem, backend)
    reasons = ((other.name, other.module.refusal(problem)) for other in BACKENDS)
    return Choice(chosen.name, {name: why for name, why in reasons if why is not None})


def _choose(problem: Problem, name: str) -> Backend:
    able = [backend for backend in BACKENDS if backend.module.refusal(problem) is None]
    if name == "auto":
        return able[0]
    named = [backend for backend in BACKENDS if backend.name == name]
    if not named:
        raise ValueError(f"no backend {name!r}; there are auto, {', '.join(b.name for b in BACKENDS)}")
    why = named[0].module.refusal(problem)
    if why is not None:
        raise Unsupported(f"{name} {why}; backends that can: {', '.join(b.name for b in able)}")
    return named[0]
