"""Every backend against float64: outputs and gradients as exact as plain torch, for every mask that it can express."""

import math
from itertools import product

import pytest
import torch

from attention.packs import (
    DTYPES,
    HEAD_DIM,
    HEADS,
    LENGTHS,
    MASKS,
    can,
    case,
    error,
    kept_weights,
    output_and_gradients,
    tensors,
)
from yanma import attention
from yanma.keyed import keep_probability
from yanma.masks import causal, documents, full

CASES = [
    (backend, mask, lengths, dropout)
    for backend, mask, lengths, dropout in product(
        ("segments", "sdpa", "reference"), MASKS, LENGTHS, (0.0, 0.3)
    )
    if can(backend, mask, dropout)
    and (sum(lengths) < 100 or mask in ("documents", "documents & causal", "from_dense"))
]


@pytest.mark.parametrize(("backend", "mask", "lengths", "dropout"), CASES)
def test_outputs_and_gradients_are_as_exact_as_plain_torchs(backend, mask, lengths, dropout):
    """Budget: twice the error of plain torch in the same dtype against float64, and one rounding step."""
    for dtype, heads in product(DTYPES, HEADS if sum(lengths) < 100 else [(4, 2)]):
        made = case(mask, lengths, heads, dtype, dropout)

        results = output_and_gradients(
            attention, *made.inputs, made.mask, dropout=dropout, seed=7, backend=backend
        )
        for name, got, exact, budget in zip(
            ("output", "gradient of q", "gradient of k", "gradient of v"),
            results,
            made.exact,
            made.budgets(backend),
            strict=True,
        ):
            assert got.dtype == dtype and got.shape == exact.shape
            assert error(got, exact) <= budget, (
                f"{name}, {dtype}, {heads} heads: {error(got, exact):.1e} > {budget:.1e}"
            )


def by_definition(q, k, v, seen, scale):
    """softmax over the visible keys with Python's floats: nothing of torch but reading numbers."""
    num_heads, group = q.shape[1], q.shape[1] // k.shape[1]
    out = torch.zeros(q.shape, dtype=torch.float64)
    for i, h in product(range(len(q)), range(num_heads)):
        visible = [j for j in range(len(k)) if seen[i][j]]
        scores = [
            scale * math.fsum(a * b for a, b in zip(q[i, h].tolist(), k[j, h // group].tolist(), strict=True))
            for j in visible
        ]
        weights = [math.exp(score - max(scores)) for score in scores]
        for d in range(v.shape[2]):
            values = [v[j, h // group, d].item() for j in visible]
            if visible:
                out[i, h, d] = math.fsum(w * x for w, x in zip(weights, values, strict=True)) / math.fsum(
                    weights
                )
    return out


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("mask", MASKS)
def test_the_oracle_is_the_definition(mask, scale):
    lengths = (3, 1, 4)
    made = MASKS[mask](lengths)
    q, k, v, _ = (x.double() for x in tensors(8, 8, heads=(4, 2), dim=3))
    out = attention(q, k, v, made, scale=scale, backend="reference")
    expected = by_definition(q, k, v, made.dense(8).tolist(), 3**-0.5 if scale is None else scale)
    assert out.dtype == torch.float64
    assert error(out, expected) < 1e-14


def test_the_oracle_is_the_definition_across_documents():
    made = documents([2, 0, 3], kv_lengths=[1, 2, 4])
    q, k, v, _ = (x.double() for x in tensors(5, 7, dim=3))
    expected = by_definition(q, k, v, made.dense().tolist(), 3**-0.5)
    assert error(attention(q, k, v, made, backend="reference"), expected) < 1e-14


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    ("mask", "num_q", "num_kv"),
    [
        (documents([4, 2, 2], kv_lengths=[1, 3, 3]), 8, 7),
        (documents([1, 20], kv_lengths=[30, 2]), 21, 32),
        (documents([2, 0, 1, 1], kv_lengths=[3, 2, 0, 1]), 4, 6),
        (full(), 3, 14),
    ],
)
def test_segments_agree_with_the_oracle_across_documents(mask, num_q, num_kv, dropout):
    inputs = tensors(num_q, num_kv, heads=(4, 2), dtype=torch.float64)
    results = [
        output_and_gradients(attention, *inputs, mask, dropout=dropout, seed=3, backend=name)
        for name in ("segments", "reference")
    ]
    for got, exact in zip(*results, strict=True):
        assert error(got, exact) < 1e-12


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("mask", [documents([2, 3, 3]), documents([2, 13]) & causal()])
def test_the_backward_of_segments_is_the_derivative_of_its_forward(mask, dropout):
    """By finite differences, through the plain kernel and (13 keys) the flash kernel."""
    inputs = [x.requires_grad_() for x in tensors(*mask.shape, heads=(2, 1), dtype=torch.float64, dim=2)[:3]]
    assert torch.autograd.gradcheck(
        lambda q, k, v: attention(q, k, v, mask, dropout=dropout, seed=1, backend="segments"), inputs
    )


@pytest.mark.parametrize("backend", ["segments", "sdpa", "reference"])
def test_strides_do_not_matter(backend):
    lengths = (5, 1, 14)
    q, k, v, grad = tensors(20, 20)
    run = lambda q, k, v: attention(q, k, v, documents(lengths), backend=backend)  # noqa: E731
    plain = output_and_gradients(run, q, k, v, grad)
    # As models hand them over: heads outermost, and the three cut out of one tensor.
    strided = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in (q, k, v)]
    joined = torch.cat([q, k, v], dim=2).split(HEAD_DIM, dim=2)
    backwards = grad.expand(2, *grad.shape)[1].transpose(0, 2).contiguous().transpose(0, 2)
    for made in (strided, joined):
        again = torch.autograd.grad(
            run(*(leaves := [x.detach().requires_grad_() for x in made])), leaves, backwards
        )
        assert torch.equal(run(*made), plain[0])
        assert all(torch.equal(a, b) for a, b in zip(again, plain[1:], strict=True))


@pytest.mark.parametrize("backend", ["segments", "sdpa", "reference"])
@pytest.mark.parametrize("wanted", ["q", "k", "v"])
def test_a_gradient_is_the_same_whoever_else_wants_one(backend, wanted):
    q, k, v, grad = tensors(20, 20)
    run = lambda q, k, v: attention(q, k, v, documents((5, 1, 14)), backend=backend)  # noqa: E731
    everyone = dict(zip("qkv", output_and_gradients(run, q, k, v, grad)[1:], strict=True))
    inputs = {
        name: x.detach().requires_grad_(name == wanted) for name, x in zip("qkv", (q, k, v), strict=True)
    }
    run(*inputs.values()).backward(grad)
    assert torch.equal(inputs[wanted].grad, everyone[wanted])
    assert all(x.grad is None for name, x in inputs.items() if name != wanted)


def test_inputs_are_not_written_to():
    inputs = tensors(20, 20)
    before = [x.clone() for x in inputs]
    for backend, dropout in (("segments", 0.0), ("segments", 0.3), ("sdpa", 0.0), ("reference", 0.3)):
        options = {"dropout": dropout, "seed": 1, "backend": backend}
        output_and_gradients(attention, *inputs, documents((5, 1, 14)), **options)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


def test_backward_can_run_twice_and_has_no_second_derivative():
    q, k, v, grad = tensors(20, 20)
    q.requires_grad_()
    out = attention(q, k, v, documents((5, 1, 14)), dropout=0.3, seed=1, backend="segments")
    first = torch.autograd.grad(out, q, grad, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(out, q, grad, retain_graph=True)[0], first)
    (again,) = torch.autograd.grad(out, q, grad.requires_grad_(), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        again.sum().backward()


@pytest.mark.parametrize("backend", ["segments", "sdpa", "reference"])
def test_without_gradients_the_numbers_are_the_same(backend):
    q, k, v, _ = tensors(20, 20)
    mask = documents((5, 1, 14))
    with_graph = attention(q.requires_grad_(), k, v, mask, backend=backend).detach()
    with torch.no_grad():
        assert torch.equal(attention(q, k, v, mask, backend=backend), with_graph)
    with torch.inference_mode():
        assert torch.equal(attention(q, k, v, mask, backend=backend), with_graph)


@pytest.mark.parametrize("dropout", [0.1, 0.3])
def test_dropout_scales_what_it_keeps_by_the_exact_rate(dropout):
    q, k, v, _ = tensors(6, 6)
    mask, seed = documents([6]), 5
    kept = kept_weights(mask, 6, 6, 2, dropout, seed)
    scores = torch.einsum("qhd,khd->hqk", q, k) * HEAD_DIM**-0.5
    expected = torch.einsum("hqk,khd->qhd", scores.softmax(-1) * kept / keep_probability(dropout), v)
    for backend in ("segments", "reference"):
        assert error(attention(q, k, v, mask, dropout=dropout, seed=seed, backend=backend), expected) < 1e-6
