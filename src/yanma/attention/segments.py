"""The backend for a CPU: attention on any mask, forward and backward, in the memory that visible pairs need."""

from __future__ import annotations

import torch
from torch import Tensor

from ..masks import Documents, Full, Window
from .documents import attend_documents
from .dropout import Dropout, document_lengths
from .plans import plan
from .problem import Cost, Problem
from .tiled import attend_tiles


def refusal(problem: Problem) -> str | None:
    """Why this backend cannot do it; None = it can."""
    if problem.device.type != "cpu":
        return f"runs on a CPU, and this is {problem.device.type}"
    return None if _is_plain(problem) else plan(problem).refusal


def cost(problem: Problem) -> Cost:
    """Whole documents, or tiles and their plan."""
    if _is_plain(problem):
        return Cost(sum(num_q * num_kv for num_q, num_kv in _lengths(problem)), 0)
    return Cost(plan(problem).pairs, plan(problem).num_bytes)


def run(q: Tensor, k: Tensor, v: Tensor, problem: Problem, scale: float, dropout: Dropout | None) -> Tensor:
    """(Tq, H, D)."""
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    with torch.autocast("cpu", enabled=False):  # it would compute products in less than float32
        if _is_plain(problem):
            causal = Window(None, 0) in problem.mask.terms()
            return attend_documents(q, k, v, _lengths(problem), causal, scale, dropout)
        return attend_tiles(q, k, v, plan(problem).tiles, scale, dropout)


def _is_plain(problem: Problem) -> bool:
    """Whether the mask is documents or all tokens, whole or causal: then documents need no tiles."""
    terms = problem.mask.terms()
    others = [term for term in terms if not isinstance(term, Documents)]
    if any(not isinstance(term, Full) and term != Window(None, 0) for term in others):
        return False
    return Window(None, 0) not in others or all(num_q == num_kv for num_q, num_kv in _lengths(problem))


def _lengths(problem: Problem) -> list[tuple[int, int]]:
    """(queries, keys) of each document; all tokens are one where the mask names none."""
    return document_lengths(problem.mask) or [(problem.num_q, problem.num_kv)]
