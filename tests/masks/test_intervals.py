"""Intervals say what the definition says, pair by pair, and so do each document's own masks."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from masks.expressions import cases, leaves, packs
from yanma.masks import Intervals, documents


def assert_tidy(runs: Intervals):
    starts, ends = runs.starts, runs.ends
    assert starts.dtype == ends.dtype == torch.int32
    used = starts < ends
    assert torch.all(used | ((starts == runs.num_kv) & (ends == runs.num_kv))), "unused columns say num_kv"
    assert not (~used[:, :-1] & used[:, 1:]).any(), "unused columns come last"
    assert torch.all((ends[:, :-1] < starts[:, 1:]) | ~used[:, 1:]), "runs ascend and do not touch"
    assert not used.shape[1] or used[:, -1].any(), "no column is unused by all rows"


@given(st.data())
def test_the_intervals_of_each_kind_are_its_definition(data):
    lengths, kv_lengths = data.draw(packs())
    mask = data.draw(leaves(lengths, kv_lengths))
    case = mask if mask.frame or len(lengths) == 1 else documents(lengths, kv_lengths) & mask
    size = (sum(lengths), sum(kv_lengths))
    runs = case.intervals(size)
    assert torch.equal(runs.dense(), case.dense(size)), case
    assert_tidy(runs)


@given(cases())
def test_the_intervals_of_an_expression_are_its_definition(case):
    runs = case.mask.intervals(case.size)
    seen = case.mask.dense(case.size)
    assert torch.equal(runs.dense(), seen), case
    assert torch.equal(runs.counts(), seen.sum(1)), case
    assert_tidy(runs)


@given(cases())
def test_documents_own_masks_are_the_diagonal_blocks(case):
    seen = case.mask.dense(case.size)
    if case.mask.frame is None:
        lengths, kv_lengths = (case.size[0],), (case.size[1],)
    else:
        lengths, kv_lengths = case.lengths, case.kv_lengths
    parts = case.mask.per_document(case.size)
    inside = torch.block_diag(*[torch.ones(size) for size in zip(lengths, kv_lengths, strict=True)]) > 0
    across = bool((seen & ~inside).any())
    assert (parts is None) == across, f"{case}: a query reads another document: {across}"
    if parts is None:
        return
    blocks = [part.mask.dense((part.num_q, part.num_kv)).float() for part in parts]
    assert torch.equal(torch.block_diag(*blocks) > 0, seen), case
    assert [(part.num_q, part.num_kv) for part in parts] == list(zip(lengths, kv_lengths, strict=True))
    assert all(part.mask.frame is None for part in parts)
    again = case.mask.per_document(case.size)
    assert again is not None
    known = {part: number for number, part in enumerate(parts)}
    assert all(parts[known[twin]] == part for part, twin in zip(parts, again, strict=True)), case


@given(st.integers(0, 999), st.integers(0, 6), st.integers(1, 30))
def test_the_algebra_of_intervals_is_that_of_the_grid(seed, num_q, num_kv):
    draw = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(num_q, num_kv, generator=draw) < torch.rand((), generator=draw) for _ in range(2))
    one, other = Intervals.from_bool(a), Intervals.from_bool(b)
    for runs, expected in ((one | other, a | b), (one & other, a & b), (~one, ~a), (one, a)):
        assert torch.equal(runs.dense(), expected)
        assert_tidy(runs)
