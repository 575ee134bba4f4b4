"""Attention to a cache's rows: against the formula in float64; with the same bits wherever a document's keys lie."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from yanma.attention.cached import MOST_QUERIES, Reading, Readings, Scores, attend_cached

QUERIES = (1, 1, 1, 5, 1, MOST_QUERIES + 6, 1, 1)
KEYS = (1, 7, 64, 9, 130, 90, 33, 12)
COLUMNS = 150
EACH = pytest.mark.parametrize(
    ("heads", "width", "way"),
    [
        ((2, 2), 16, {}),
        ((4, 2), 20, {"reach": 5}),
        ((3, 1), 8, {"cap": 1.5}),
        ((4, 2), 16, {"cap": 1.5, "reach": 20}),
        ((2, 2), 8, {"table": True}),
        ((4, 2), 32, {"causal": False}),
        ((1, 1), 16, {"scale": 1.0}),
    ],
    ids=str,
)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def readings(causal: bool = True, torn: bool = True) -> Readings:
    """Padded on the left, on the right, on both sides; the last two with hidden columns between tokens."""
    draw, documents = torch.Generator().manual_seed(3), []
    for row, (queries, keys) in enumerate(zip(QUERIES, KEYS, strict=True)):
        first = (COLUMNS - keys) * (row % 3) // 2
        held = None
        if torn and row > 5:
            held = torch.randperm(COLUMNS, generator=draw)[:keys].sort().values
            first = int(held[0])
        documents.append(Reading(queries, keys, row, first, held))
    return Readings(tuple(documents), COLUMNS, causal)


def columns_of(own: Reading) -> Tensor:
    return torch.arange(own.first, own.first + own.keys) if own.held is None else own.held


def inputs(heads: tuple[int, int], width: int, dtype: torch.dtype, way: dict) -> tuple[list[Tensor], Scores]:
    """Queries, keys and values; NaN stands where no document reads."""
    draw = torch.Generator().manual_seed(0)
    q = 2 * torch.randn(sum(QUERIES), heads[0], width, generator=draw)
    k, v = (2 * torch.randn(len(KEYS), heads[1], COLUMNS, width, generator=draw) for _ in range(2))
    for own in readings().documents:
        unread = torch.ones(COLUMNS, dtype=torch.bool).index_fill(0, columns_of(own), False)
        k[own.row, :, unread] = v[own.row, :, unread] = torch.nan
    table = torch.randn(2 * COLUMNS - 1, heads[0], generator=draw).to(dtype) if "table" in way else None
    scores = Scores(way.get("scale", width**-0.5), way.get("cap"), table)
    return [x.to(dtype) for x in (q, k, v)], scores


def by_the_formula(tensors: list[Tensor], given: Readings, scores: Scores, reach: int | None) -> Tensor:
    q, k, v = (x.double() for x in tensors)
    found, token = [], 0
    for own in given.documents:
        keys, values = (x[own.row][:, columns_of(own)] for x in (k, v))
        asks = q[token : token + own.queries].transpose(0, 1)
        shared = len(asks) // len(keys)
        keys, values = (x.repeat_interleave(shared, 0) for x in (keys, values))
        weights = asks @ keys.mT * scores.scale
        distance = torch.arange(own.keys) - torch.arange(own.keys - own.queries, own.keys)[:, None]
        if scores.cap is not None:
            weights = scores.cap * torch.tanh(weights / scores.cap)
        if scores.table is not None:
            weights = weights + scores.table.double()[distance + COLUMNS - 1].permute(2, 0, 1)
        if given.causal:
            seen = (distance <= 0) if reach is None else (distance <= 0) & (distance >= -reach)
            weights = weights.masked_fill(~seen, -torch.inf)
        found.append((weights.softmax(-1) @ values).transpose(0, 1))
        token += own.queries
    return torch.cat(found)


@EACH
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["fp64", "fp32", "bf16"]
)
def test_output_is_the_formulas(heads, width: int, way: dict, dtype: torch.dtype):
    tensors, scores = inputs(heads, width, dtype, way)
    given, reach = readings(way.get("causal", True)), way.get("reach")
    found, truth = (
        attend_cached(*tensors, given, scores, reach),
        by_the_formula(tensors, given, scores, reach),
    )
    bound = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 4e-3}[dtype]
    assert bool(truth.isfinite().all()) and (found.double() - truth).norm() <= bound * truth.norm()


@EACH
def test_gradients_are_the_formulas(heads, width: int, way: dict):
    tensors, scores = inputs(heads, width, torch.float64, way)
    tensors = [x.nan_to_num(0) for x in tensors]
    given, reach = readings(way.get("causal", True)), way.get("reach")
    own, exact = ([x.clone().requires_grad_() for x in tensors] for _ in range(2))
    grad = torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    attend_cached(*own, given, scores, reach).backward(grad)
    by_the_formula(exact, given, scores, reach).backward(grad)
    for found, truth in zip(own, exact, strict=True):
        assert (found.grad - truth.grad).norm() <= 1e-12 * truth.grad.norm()


@DTYPES
@EACH
def test_a_documents_bits_are_its_own_in_any_company_and_at_any_place(heads, width: int, way: dict, dtype):
    (q, k, v), scores = inputs(heads, width, dtype, way)
    given, reach = readings(way.get("causal", True)), way.get("reach")
    together = attend_cached(q, k, v, given, scores, reach).split(QUERIES)
    for own, asks, found in zip(given.documents, q.split(QUERIES), together, strict=True):
        for before in (0, 1, 3):  # hidden columns
            keys, values = (
                torch.cat(
                    [x.new_zeros(1, len(x[0]), before, width), x[own.row, None][:, :, columns_of(own)]], 2
                )
                for x in (k, v)
            )
            alone = replace(
                given, documents=(Reading(own.queries, own.keys, 0, before),), columns=keys.shape[2]
            )
            assert torch.equal(attend_cached(asks.clone(), keys, values, alone, scores, reach), found)


@EACH
def test_a_cache_may_keep_the_last_columns_alone(heads, width: int, way: dict):
    (q, k, v), scores = inputs(heads, width, torch.float32, way)
    given, reach = readings(way.get("causal", True), torn=False), way.get("reach")
    documents = [own for own in given.documents if own.first + own.keys == COLUMNS]
    tokens = torch.cat([q.split(QUERIES)[own.row] for own in documents])
    last = 100 if reach is None else max(own.queries for own in documents) + reach
    documents = [
        replace(own, keys=min(own.keys, last), first=max(own.first, COLUMNS - last)) for own in documents
    ]
    kept = replace(given, documents=tuple(documents))
    whole, part = (
        attend_cached(tokens, k[:, :, n:], v[:, :, n:], kept, scores, reach) for n in (0, COLUMNS - last)
    )
    assert len(documents) > 1 and torch.equal(whole, part)
