"""Nothing that a query may not read moves its output by one bit, and a document's bits are its own in any company."""

import random
from itertools import product

import pytest
import torch

from attention.packs import DTYPES, HEAD_DIM, MASKS, can, output_and_gradients, tensors
from yanma import attention
from yanma.keyed import document_keys
from yanma.masks import causal, documents, from_dense, full

BACKENDS = ("segments", "sdpa", "reference")
ABLE = [
    (backend, mask, dropout)
    for backend, mask, dropout in product(BACKENDS, MASKS, (0.0, 0.3))
    if can(backend, mask, dropout)
]


@pytest.mark.parametrize(("backend", "mask", "dropout"), ABLE)
def test_hidden_keys_cannot_move_the_output(backend, mask, dropout):
    checked = 0
    for lengths, dtype in product([(5, 1, 7, 3), (14, 20, 2)], DTYPES):
        total = sum(lengths)
        made = MASKS[mask](lengths)
        seen = made.dense(total)
        q, k, v, grad = tensors(total, total, heads=(4, 2), dtype=dtype)

        def run(q, k, v, made=made):
            return attention(q, k, v, made, dropout=dropout, seed=7, backend=backend)

        before = run(q, k, v)
        for key in range(0, total, 3):
            blind = ~seen[:, key]
            checked += int(blind.sum())
            moved_k, moved_v = k.clone(), v.clone()
            moved_k[key], moved_v[key] = 50.0, -1e4
            after = run(q, moved_k, moved_v)
            assert torch.equal(after[blind], before[blind]), f"key {key} moved a query that may not read it"
            assert torch.equal(after, before) == bool(blind.all()), (
                f"key {key} moves the queries that may read it"
            )
            _, _, grad_k, grad_v = output_and_gradients(
                run, q, k, v, torch.where(blind[:, None, None], grad, 0)
            )
            assert not grad_k[key].any() and not grad_v[key].any(), (
                f"key {key} has a gradient from what cannot read it"
            )
    assert checked or mask == "full", "nothing was hidden, so nothing was tested"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1.0, 1e30])
def test_a_query_that_may_read_nothing_gives_zero_and_takes_no_gradient(backend, dtype, size):
    across = documents([2, 3, 20, 1], kv_lengths=[2, 0, 20, 0])
    nothing = documents([3, 2], kv_lengths=[0, 0])
    holed = torch.ones(26, 22, dtype=torch.bool)
    holed[3:7] = False
    masks = (
        [across, nothing]
        if backend == "segments"
        else [across, nothing, from_dense(holed), across & ~across, ~full()]
    )
    for made in masks:
        num_q, num_kv = made.shape or (26, 22)
        empty = ~made.dense((num_q, num_kv)).any(1)
        assert empty.any()
        q, k, v, grad = tensors(num_q, num_kv, dtype=dtype)
        out, grad_q, grad_k, grad_v = output_and_gradients(
            attention, q, k, v, grad * size, made, backend=backend
        )
        assert not out[empty].any(), f"{made}: a query that reads nothing gave {out[empty].abs().max()}"
        assert not grad_q[empty].any(), f"{made}: a query that reads nothing has a gradient"
        assert out.isfinite().all() and all(g.isfinite().all() for g in (grad_q, grad_k, grad_v)), made
        if empty.all():
            assert not grad_k.any() and not grad_v.any()
        else:
            assert out[~empty].any() and grad_k.any() and grad_v.any()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_keys_that_nobody_may_read_take_no_gradient(dropout):
    made = documents([0, 3, 0], kv_lengths=[4, 3, 15])
    inputs = tensors(3, 22)
    for backend in ("segments", "reference"):
        *_, grad_k, grad_v = output_and_gradients(
            attention, *inputs, made, dropout=dropout, seed=0, backend=backend
        )
        unread = torch.tensor([True] * 4 + [False] * 3 + [True] * 15)
        assert not grad_k[unread].any() and not grad_v[unread].any()
        assert grad_k[~unread].any() and grad_v[~unread].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_tokens_at_all_give_no_output(backend):
    for made in (documents([]), documents([0, 0]), full()):
        out, *gradients = output_and_gradients(attention, *tensors(0, 0), made, backend=backend)
        assert out.shape == (0, 2, HEAD_DIM) and all(g.shape[0] == 0 for g in gradients)


def random_lengths(count, seed):
    draw = random.Random(seed)
    return [draw.choice([1, 2, 3, 5, 8, 12, 13, 14, 31, draw.randint(1, 60)]) for _ in range(count)] + [
        257,
        300,
    ]


@pytest.mark.parametrize("heads", [(4, 2), (1, 1)])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_random_documents_have_the_same_bits_packed_and_alone(dtype, dropout, is_causal, heads):
    """Shuffled, and sorted so that equal lengths share a kernel call; outputs and gradients."""
    lengths = random_lengths(200, seed=heads[0])
    inputs = [tensors(length, length, heads, dtype, seed=place) for place, length in enumerate(lengths)]
    keys = document_keys(11, range(100, 100 + len(lengths)))

    def run(q, k, v, order):
        mask = documents([lengths[place] for place in order])
        mask = mask & causal() if is_causal else mask
        return attention(q, k, v, mask, dropout=dropout, seed=keys[order])

    alone = [output_and_gradients(run, *own, [place]) for place, own in enumerate(inputs)]
    for order in (range(len(lengths)), sorted(range(len(lengths)), key=lengths.__getitem__)):
        joined = (torch.cat(parts) for parts in zip(*(inputs[place] for place in order), strict=True))
        packed = output_and_gradients(run, *joined, list(order))
        cut = zip(*(result.split([lengths[place] for place in order]) for result in packed), strict=True)
        for place, whole in zip(order, cut, strict=True):
            for name, a, b in zip("oqkv", whole, alone[place], strict=True):
                assert torch.equal(a, b), f"document {place} of {lengths[place]} tokens differs in {name}"


@pytest.fixture(params=[2, 4])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(("heads", "dim"), [((4, 4), 8), ((2, 2), 10), ((1, 1), 32), ((3, 3), 16)])
def test_bits_depend_neither_on_company_nor_on_which_thread_computes(heads, dim, threads):
    """Heads narrower than 16 and single heads, which kernels treat apart, with odd lengths that misalign buffers."""
    lengths = [17, 17, 13, 17, 31, 25, 25, 9, 7, 6] * 3
    inputs = [tensors(length, length, heads, seed=place, dim=dim) for place, length in enumerate(lengths)]
    alone = [output_and_gradients(attention, *own, full()) for own in inputs]
    joined = (torch.cat(parts) for parts in zip(*inputs, strict=True))
    packed = output_and_gradients(attention, *joined, documents(lengths))
    for place, whole in enumerate(zip(*(result.split(lengths) for result in packed), strict=True)):
        for name, a, b in zip("oqkv", whole, alone[place], strict=True):
            assert torch.equal(a, b), f"document {place} of {lengths[place]} tokens differs in {name}"


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_changing_one_document_changes_no_bit_of_another(dropout):
    lengths = (5, 14, 1, 14, 40, 5)
    q, k, v, grad = tensors(79, 79)
    run = lambda *x: attention(*x, documents(lengths), dropout=dropout, seed=2)  # noqa: E731
    before = [result.split(lengths) for result in output_and_gradients(run, q, k, v, grad)]
    for changed in range(len(lengths)):
        inputs = [list(x.clone().split(lengths)) for x in (q, k, v, grad)]
        for parts in inputs:
            parts[changed] = parts[changed] * -3 + 1
        after = [r.split(lengths) for r in output_and_gradients(run, *(torch.cat(parts) for parts in inputs))]
        for document in range(len(lengths)):
            same = all(torch.equal(a[document], b[document]) for a, b in zip(after, before, strict=True))
            assert same == (document != changed), f"changed document {changed}, looked at {document}"
