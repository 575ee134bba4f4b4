"""Every other form of a mask says what its definition says, pair by pair."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from masks.expressions import cases
from yanma import Unsupported, attention
from yanma.masks import (
    additive,
    block_mask,
    block_structure,
    causal,
    chunked,
    column_intervals,
    count,
    documents,
    full,
    global_tokens,
    mask_mod,
    random_blocks,
    varlen,
    window,
)

SIZES = st.sampled_from([1, 2, 3, 8, 64])


def of_lists(lists, width):
    """Bool (query blocks, key blocks)."""
    table = torch.zeros(len(lists.offsets) - 1, width, dtype=torch.bool)
    for block, (start, end) in enumerate(zip(lists.offsets[:-1], lists.offsets[1:], strict=True)):
        table[block, lists.indices[start:end].long()] = True
    return table


@given(cases(), SIZES, SIZES)
def test_blocks_are_full_or_partial_where_all_or_some_pairs_are_visible(case, q_size, kv_size):
    seen = case.mask.dense(case.size).double()
    found = block_structure(case.mask, q_size, kv_size, case.size)
    num_q, num_kv = (-(-n // size) for n, size in zip(case.size, (q_size, kv_size), strict=True))
    padded = torch.zeros(num_q * q_size, num_kv * kv_size, dtype=torch.double)
    padded[: case.size[0], : case.size[1]] = seen
    share = padded.view(num_q, q_size, num_kv, kv_size).sum((1, 3)) / (q_size * kv_size)
    assert torch.equal(of_lists(found.full, num_kv), share == 1), case
    assert torch.equal(of_lists(found.partial, num_kv), (share > 0) & (share < 1)), case
    assert found.full.indices.dtype == found.partial.offsets.dtype == torch.int32


@given(cases())
def test_a_mask_mod_allows_what_the_mask_allows(case):
    allowed = mask_mod(case.mask, case.size)
    q_idx, kv_idx = torch.arange(case.size[0])[:, None], torch.arange(case.size[1])
    zero = torch.zeros((), dtype=torch.int64)
    seen = (
        allowed(zero, zero, q_idx, kv_idx).expand(case.size) if 0 not in case.size else torch.zeros(case.size)
    )
    assert torch.equal(seen.bool(), case.mask.dense(case.size)), case


MASKS = {
    "documents & window": lambda lengths: documents(lengths) & window(64, 3),
    "documents & causal": lambda lengths: documents(lengths) & causal(),
    "global | window": lambda lengths: documents(lengths) & (window(9, 9) | global_tokens([0, 5, 77])),
    "random blocks": lambda lengths: documents(lengths) & (random_blocks(1, 32, 3) | chunked(64)),
    "~causal": lambda lengths: documents(lengths) - window(3, 0) | causal(),
}
LENGTHS = [(1,), (127, 128, 129), (5, 600, 1), (256, 128)]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("name", MASKS)
def test_a_block_mask_is_the_one_that_torch_makes(name, lengths):
    mask, total = MASKS[name](lengths), sum(lengths)
    ours = block_mask(mask)
    theirs = create_block_mask(mask_mod(mask), None, None, total, total, device="cpu")
    assert ours.shape == theirs.shape and ours.BLOCK_SIZE == theirs.BLOCK_SIZE
    for field in ("kv", "full_kv", "q", "full_q"):
        counts, indices = (getattr(theirs, f"{field}_{what}") for what in ("num_blocks", "indices"))
        assert torch.equal(getattr(ours, f"{field}_num_blocks"), counts), field
        used = torch.arange(indices.shape[-1]) < counts[..., None]
        assert torch.equal(getattr(ours, f"{field}_indices")[used], indices[used]), field


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_with_our_block_mask_is_attention():
    for make in MASKS.values():
        mask = make((5, 130, 33))
        draw = torch.Generator().manual_seed(0)
        q, k, v = (torch.randn(168, 2, 16, generator=draw, dtype=torch.double) for _ in range(3))
        exact = attention(q, k, v, mask, backend="reference")
        heads_first = (x.transpose(0, 1)[None] for x in (q, k, v))
        got = flex_attention(*heads_first, block_mask=block_mask(mask))[0].transpose(0, 1)
        assert torch.allclose(got, exact, rtol=0, atol=1e-12), mask


def test_what_is_compiled_for_one_batch_serves_the_next_and_other_masks():
    """torch compiles 8 kinds of calls at most, and would then form every score."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(flex_attention, backend=counter, dynamic=True, fullgraph=True)
    kinds = window(9, 3), window(9, 3) | global_tokens(first=1), causal() | global_tokens([9, 30])
    for number, lengths in enumerate([(100, 228), (150, 60, 70), (300,), (5, 300, 1), (217, 470)]):
        for kind in kinds:
            q = torch.randn(1, 2, sum(lengths), 16, generator=torch.Generator().manual_seed(number))
            compiled(q, q, q, block_mask=block_mask(documents(lengths) & kind))
    assert counter.frame_count == 1
    torch._dynamo.reset()


def test_a_block_mask_of_nothing_is_refused():
    with pytest.raises(ValueError, match="block_mask: torch's BlockMask needs a query and a key; documents"):
        block_mask(documents([0, 0], kv_lengths=[2, 1]))


@given(cases())
def test_columns_hide_what_the_mask_hides(case):
    hidden = column_intervals(case.mask, case.size)
    assert torch.equal(hidden.dense().T, ~case.mask.dense(case.size)), case


@given(cases())
def test_counts_are_those_of_the_grid(case):
    seen, found = case.mask.dense(case.size), count(case.mask, case.size)
    assert found.visible == int(seen.sum()) and (found.num_q, found.num_kv) == case.size
    assert found.flops(8, 2) == 2 * 2 * 8 * 2 * found.visible
    if seen.numel():
        assert found.density == pytest.approx(seen.double().mean().item()) == pytest.approx(1 - found.saved)
    if case.mask.frame:
        rows = seen.sum(1).split(list(case.lengths))
        assert found.documents == tuple(int(row.sum()) for row in rows)


@given(cases())
def test_an_additive_mask_is_0_where_visible_and_never_has_a_blind_row(case):
    seen = case.mask.dense(case.size)
    if seen.any(1).all():
        added = additive(case.mask, torch.float32, case.size)
        assert added.shape == (1, 1, *case.size)
        assert torch.equal(added[0, 0] == 0, seen) and torch.equal(added[0, 0] == -torch.inf, ~seen)
    else:
        first = int((~seen.any(1)).nonzero()[0])
        with pytest.raises(ValueError, match=f"additive: query {first} may read nothing"):
            additive(case.mask, torch.float32, case.size)


@pytest.mark.parametrize(
    ("mask", "n", "limits"),
    [
        (documents([3, 0, 2]), None, (-1, -1)),
        (documents([3, 0, 2]) & causal(), None, (-1, 0)),
        (documents([3, 0, 2]) & window(2, None), None, (2, -1)),
        (window(2, 1), 5, (2, 1)),
        (full(), 5, (-1, -1)),
    ],
)
def test_varlen_says_documents_and_one_window(mask, n, limits):
    found = varlen(mask, n)
    assert found.window == limits
    ends = found.cu_seqlens_q.tolist()
    assert found.cu_seqlens_k.tolist() == ends and found.cu_seqlens_q.dtype == torch.int32
    left, right = (reach if reach >= 0 else None for reach in limits)
    said = torch.block_diag(*[window(left, right).dense(b - a) for a, b in pairwise(ends)])
    assert torch.equal(said, mask.dense(n)) and found.max_q == found.max_k == max(torch.tensor(ends).diff())


def test_varlen_takes_documents_with_other_numbers_of_keys():
    found = varlen(documents([1, 2], kv_lengths=[3, 1]))
    assert found.cu_seqlens_k.tolist() == [0, 3, 4] and (found.max_q, found.max_k) == (2, 3)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (documents([3]) & chunked(2), r"not chunked\(2\)"),
        (documents([3]) - causal(), r"not ~causal\(\)"),
        (documents([3]) | causal(), r"not documents\(\[3\]\) \| causal\(\)"),
        (documents([2, 3], kv_lengths=[2, 4]) & causal(), "document 1 has 3 queries and 4 keys"),
    ],
)
def test_varlen_refuses_what_its_kernels_cannot_say(mask, message):
    with pytest.raises(Unsupported, match=message):
        varlen(mask)


@pytest.mark.parametrize("size", [0, -1])
def test_blocks_without_size_are_refused(size):
    with pytest.raises(ValueError, match=f"block_structure: q_size is {size}"):
        block_structure(causal(), size, 4, n=4)
