"""Attention in tiles: any mask, exact, the same bits in any company, and plans that stay within their bound."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import flex_attention

from attention.packs import by_hand, error, fused, output_and_gradients, tensors, textbook
from masks.expressions import cases
from yanma import attention
from yanma.attention import explain, flex, plans, tiles
from yanma.attention.lru_cache import LRUCache
from yanma.attention.plans import Plan, Plans
from yanma.keyed import document_keys, keep, keep_at
from yanma.masks import (
    Intervals,
    block_mask,
    causal,
    chunked,
    documents,
    from_mask_mod,
    full,
    global_tokens,
    random_drop,
    strided,
    window,
)


@settings(max_examples=60)
@given(
    case=cases(depth=4),
    heads=st.sampled_from([(2, 2), (4, 2), (1, 1), (3, 1)]),
    dim=st.sampled_from([8, 16, 32]),
    backend=st.sampled_from(["segments", "sdpa", "auto"]),
    dropout=st.sampled_from([0.0, 0.3]),
)
def test_any_mask_is_as_exact_as_plain_torch_or_refused_by_name(case, heads, dim, backend, dropout):
    num_q, num_kv = case.size
    assume(num_q and num_kv)
    inputs = tensors(num_q, num_kv, heads, dim=dim, seed=num_q)
    if backend == "sdpa" and dropout:
        assert "sdpa" in explain(*inputs[:3], case.mask, dropout=dropout).refusals
        return
    options = {"dropout": dropout, "seed": 5}
    doubled = [x.double() for x in inputs]
    exact = output_and_gradients(attention, *doubled, case.mask, backend="reference", **options)
    got = output_and_gradients(attention, *inputs, case.mask, backend=backend, **options)
    budgets = budget(inputs, case.mask.dense(case.size), dropout)
    for name, a, b, allowed in zip("oqkv", got, exact, budgets, strict=True):
        assert error(a, b) <= allowed, f"{name} of {case.mask}: {error(a, b):.1e} > {allowed:.1e}"
    blind = ~case.mask.dense(case.size).any(1)
    unread = ~case.mask.dense(case.size).any(0)
    assert not got[0][blind].any() and not got[1][blind].any(), "a blind query is not 0"
    assert not got[2][unread].any() and not got[3][unread].any(), "a key that nobody reads has a gradient"


def budget(inputs, seen, dropout):
    """Twice what plain torch is off by without dropout, times what dropout multiplies by, and two rounding steps."""
    kept = torch.ones(())
    exact = output_and_gradients(textbook, *(x.double() for x in inputs), seen, kept.double())
    ways = [output_and_gradients(way, *inputs, seen, kept) for way in (by_hand, textbook, fused)]
    for place in range(4):
        errors = [error(way[place].nan_to_num(), exact[place]) for way in ways]
        yield (2 * max(errors) + 2 * 1.2e-7 * max(1, exact[place].abs().max().item())) / (1 - dropout) ** 2


LENGTHS = [1, 2, 3, 63, 64, 65, 127, 128, 129, 5, 66, 130, 700]
CONFINED = {
    "window": lambda lengths: documents(lengths) & window(20, 31),
    "after": lambda lengths: documents(lengths) & ~causal(),
    "wide window": lambda lengths: documents(lengths) & window(300, 100),
    "global": lambda lengths: documents(lengths) & (window(9, 9) | global_tokens(first=1)),
    "strided": lambda lengths: documents(lengths) & strided(7),
}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [(4, 2), (1, 1)])
@pytest.mark.parametrize("mask", CONFINED)
def test_documents_have_the_same_bits_packed_and_alone(mask, heads, dtype, dropout):
    """Odd lengths around the size of a tile, shuffled and sorted; outputs and gradients."""
    inputs = [tensors(length, length, heads, dtype, seed=place) for place, length in enumerate(LENGTHS)]
    keys = document_keys(3, range(len(LENGTHS)))

    def run(q, k, v, order):
        made = CONFINED[mask]([LENGTHS[place] for place in order])
        return attention(q, k, v, made, dropout=dropout, seed=keys[order], backend="segments")

    alone = [output_and_gradients(run, *own, [place]) for place, own in enumerate(inputs)]
    shuffled = random.Random(1).sample(range(len(LENGTHS)), len(LENGTHS))
    for order in (shuffled, sorted(shuffled, key=LENGTHS.__getitem__)):
        joined = (torch.cat(parts) for parts in zip(*(inputs[place] for place in order), strict=True))
        packed = output_and_gradients(run, *joined, order)
        cut = zip(*(result.split([LENGTHS[place] for place in order]) for result in packed), strict=True)
        for place, whole in zip(order, cut, strict=True):
            for name, a, b in zip("oqkv", whole, alone[place], strict=True):
                assert torch.equal(a, b), f"document of {LENGTHS[place]} tokens differs in {name}"


@pytest.mark.parametrize("num_q", [1, 2, 3, 4])
def test_few_queries_of_many_keys_have_the_same_bits_in_any_company(num_q):
    """Products of so few rows take kernels whose bits depend on where the rows lie in memory."""
    alone = [tensors(num_q, 129, (4, 4), seed=seed) for seed in range(8)]
    joined = [torch.cat(parts) for parts in zip(*alone, strict=True)]
    packed = output_and_gradients(attention, *joined, documents([num_q] * 8, kv_lengths=[129] * 8))
    for place, own in enumerate(alone):
        by_itself = output_and_gradients(attention, *own, full())
        for whole, a in zip(packed, by_itself, strict=True):
            assert torch.equal(whole.split(len(a))[place], a)


def test_a_neighbour_of_nans_changes_nothing():
    lengths = (65, 70, 64)
    q, k, v, grad = tensors(199, 199)
    mask = documents(lengths) & window(10, 10)
    before = output_and_gradients(attention, q, k, v, grad, mask)
    for x in (q, k, v, grad):
        x[65:135] = torch.nan
    after = output_and_gradients(attention, q, k, v, grad, mask)
    rest = torch.tensor([True] * 65 + [False] * 70 + [True] * 64)
    assert all(torch.equal(a[rest], b[rest]) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("mask", [window(64, 64), causal() & window(9, 0), chunked(64), ~causal()])
def test_few_pairs_are_computed_that_nobody_may_read(mask):
    found = tiles.tile(*ends_of(mask, 2048), [(2048, 2048)])
    visible = int(mask.intervals(2048).counts().sum())
    computed = sum(same.pairs for same in found)
    assert visible <= computed <= visible * 1.1 + 2048 * 80


def ends_of(mask, n):
    found = mask.intervals(n)
    return found.starts, found.ends


def test_queries_that_read_everything_do_not_widen_the_tiles_of_others():
    mask = window(8, 8) | global_tokens(range(0, 4096, 64))
    found = tiles.tile(*ends_of(mask, 4096), [(4096, 4096)])
    assert sum(same.pairs for same in found) < 4096 * 200 + 64 * 4096


def test_pictures_that_repeat_are_drawn_once():
    found = tiles.tile(*ends_of(window(64, 64), 8192), [(8192, 8192)])
    assert max(len(same) for same in found) == 126
    assert all(same.seen is None or len(same.seen) <= 2 for same in found)


@given(seed=st.integers(0, 2**32), p=st.floats(0.0, 0.99), width=st.integers(1, 70))
def test_chosen_columns_keep_what_all_columns_keep(seed, p, width):
    rows = document_keys(seed, range(6)).view(2, 3)
    columns = torch.randint(width, (2, 9), generator=torch.Generator().manual_seed(seed))
    whole = keep(rows, width, p)
    chosen = keep_at(rows[..., None], columns[:, None], p)
    assert torch.equal(chosen, whole.gather(2, columns[:, None].expand(2, 3, 9)))


def test_plans_stay_within_their_bound_and_the_oldest_go_first():
    plans = Plans(max_bytes=100)
    made = []

    def make(key):
        made.append(key)
        return Plan((), None, 0, 40)

    for name in "ababcab":
        plans.get(name, make)
        assert plans.num_bytes <= 100 and plans.num_bytes == 40 * len(plans)
    assert made == ["a", "b", "c", "a", "b"], "c threw a out, which threw b out"


def test_random_masks_do_not_fill_the_plans(monkeypatch):
    monkeypatch.setattr(plans, "PLANS", Plans(max_bytes=2**20))
    q, k, v, _ = tensors(300, 300)
    for seed in range(40):
        attention(q, k, v, random_drop(0.5, seed), backend="segments")
        assert 0 < plans.PLANS.num_bytes <= 2**20
    assert 1 < len(plans.PLANS) < 40


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
)  # the compiler's own
@pytest.mark.parametrize("mask", [window(9, 3), documents([70, 130]) & causal(), global_tokens(first=2)])
def test_flex_on_a_cpu_agrees_with_the_oracle(mask):
    q, k, v, _ = tensors(200, 200)
    out = attention(q, k, v, mask, backend="flex")
    exact = attention(q.double(), k.double(), v.double(), mask, backend="reference")
    assert error(out, exact) < 2e-6


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_block_mask_is_made_once_for_layers_and_batches_alike(monkeypatch):
    """Also where the first call was in inference, whose tensors training could not use."""
    monkeypatch.setattr(flex, "BLOCKS", LRUCache(max_bytes=2**18))
    monkeypatch.setattr(flex, "_kernel", lambda device: flex_attention)
    made = []
    monkeypatch.setattr(flex, "block_mask", lambda *args: made.append(args) or block_mask(*args))
    q, k, v, _ = tensors(300, 300, dim=16)
    with torch.inference_mode():
        first = attention(q, k, v, documents([200, 100]) & window(9, 3), backend="flex")
    again = attention(q, k, v, documents([200, 100]) & window(9, 3), backend="flex")
    assert torch.equal(first, again) and len(made) == 1
    (kept,) = flex.BLOCKS._values.values()
    tables = [x for x in kept.mask.as_tuple() if isinstance(x, torch.Tensor)]
    assert tables and not any(x.is_inference() for x in tables)
    assert kept.num_bytes > sum(x.nbytes for x in tables) + 2 * 4 * 300 * 4, (
        "the tables of intervals count too"
    )
    for left in range(40):
        attention(q, k, v, documents([200, 100]) & window(left, 3), backend="flex")
    assert flex.BLOCKS.num_bytes <= 2**18 and 1 < len(flex.BLOCKS) < 40


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["varlen", "flex", "sdpa", "reference"])
@pytest.mark.parametrize("mask", [documents([70, 1, 129]), documents([70, 1, 129]) & window(9, 0)])
def test_cuda_agrees_with_the_oracle(backend, mask):
    inputs = [x.half().cuda() for x in tensors(200, 200)]
    got = output_and_gradients(attention, *inputs, mask, backend=backend)
    exact = output_and_gradients(attention, *(x.double() for x in inputs), mask, backend="reference")
    for a, b in zip(got, exact, strict=True):
        assert error(a, b) <= 1e-2


@pytest.mark.parametrize(
    "mask", [window(3, 9), causal() & global_tokens(first=2), random_drop(0.3, 5), chunked(7)]
)
def test_plans_put_together_from_documents_have_the_bits_of_whole_ones(mask, monkeypatch):
    """Also where queries are blind, where lengths recur, and for tiles of one shape from documents of two lengths."""
    lengths = [70, 5, 200, 70, 1, 129, 200, 5, 64]
    packed = documents(lengths) & mask & ~window(0, 0)
    key = (packed, sum(lengths), sum(lengths))
    inputs = tensors(sum(lengths), sum(lengths), (2, 2), dim=16, seed=1)
    monkeypatch.setattr(plans, "DOCUMENTS", Plans(max_bytes=2**26))
    found = {}
    for way in (plans.make_whole, plans.make):
        monkeypatch.setattr(plans, "PLANS", Plans(max_bytes=2**28))
        plans.PLANS.get(key, way)
        found[way] = output_and_gradients(attention, *inputs, packed)
    assert len(plans.DOCUMENTS) == len(set(lengths)), "documents of one length were planned more than once"
    for name, one, other in zip("oqkv", *found.values(), strict=True):
        assert one.any() and torch.equal(one, other), name


@pytest.mark.parametrize("more", [full(), window(9, 9) & documents([4000, 96])], ids=str)
def test_no_plan_forms_all_pairs_of_a_document(more, monkeypatch):
    """Kinds without a closed form are looked at a chunk of rows at a time, also where documents are told apart."""
    shapes = []
    from_bool = Intervals.from_bool
    monkeypatch.setattr(Intervals, "from_bool", lambda seen: shapes.append(seen.shape) or from_bool(seen))
    near = from_mask_mod(lambda b, h, q_idx, kv_idx: (q_idx - kv_idx).abs() < 9)
    for mask in (documents([4000, 96]) & near, documents([4000, 96]) & near | more & documents([4000, 96])):
        assert plans.make((mask, 4096, 4096)).refusal is None
        assert mask.per_document() is not None
    assert shapes and max(shape.numel() for shape in shapes) <= 2**20
