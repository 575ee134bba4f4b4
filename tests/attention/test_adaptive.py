"""Masks by content and learned spans against their formulas in float64, with the whole matrix in memory."""

from __future__ import annotations

import pytest
import torch

from attention.packs import DTYPES, LENGTHS, MASKS, case, error, output_and_gradients, tensors
from yanma import Unsupported, attention
from yanma.attention import AdaptiveSpan, adaptive_attention, threshold, topk_keys
from yanma.masks import causal, documents, from_dense, full, window

SELECTIONS = {"topk 1": topk_keys(1), "topk 5": topk_keys(5), "topk all": topk_keys(10**6)}
SELECTIONS |= {
    "threshold 0.02": threshold(0.02),
    "threshold 0.4": threshold(0.4),
    "threshold 0": threshold(0.0),
}
SPANS = (0.0, 2.5, 11.25, 40.0)


def scores_of(q, k, v, seen, scale=None):
    """Scores (H, Tq, Tk), -inf where hidden, and values with as many heads."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * (q.shape[2] ** -0.5 if scale is None else scale)
    return scores.masked_fill(~seen, -torch.inf), v


def normed(shares, v):
    """Values under shares (H, Tq, Tk) made to sum to 1; 0 where there are none."""
    total = shares.sum(-1, keepdim=True)
    return torch.einsum("hqk,khd->qhd", shares / total.masked_fill(total == 0, 1), v)


def selected(q, k, v, seen, select, scale=None):
    """The definition: sort each row, stably, and keep from the top."""
    scores, v = scores_of(q, k, v, seen, scale)
    top = scores.amax(-1, keepdim=True).clamp(min=-1e300)
    powers = torch.exp(scores - top)
    with torch.no_grad():
        if hasattr(select, "k"):
            rank = scores.argsort(dim=-1, descending=True, stable=True).argsort(-1)
            kept = rank < select.k
        else:
            kept = powers >= select.p * powers.sum(-1, keepdim=True)
    return normed(powers * (kept & seen), v)


def spanned(q, k, v, seen, spans, ramp, places, scale=None):
    """Equations 3 and 4, `places` (Tq,) being positions in documents."""
    scores, v = scores_of(q, k, v, seen, scale)
    distance = (places[:, None] - places).abs()
    room = (ramp + spans[:, None, None] - distance) / ramp
    soft = room.where(room > 0, 0.0).where(room < 1, 1.0)  # with a gradient of 0 on the bounds
    top = scores.masked_fill(soft == 0, -torch.inf).amax(-1, keepdim=True).clamp(min=-1e300)
    powers = torch.exp((scores - top).masked_fill((soft == 0) | ~seen, -torch.inf))
    return normed(soft * powers, v)


def places_of(lengths):
    return torch.cat([torch.arange(n) for n in lengths])


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("lengths", [n for n in LENGTHS if sum(n) < 500], ids=str)
def test_selected_keys_are_those_of_the_definition(mask: str, select: str, lengths):
    total, made, chosen = sum(lengths), MASKS[mask](lengths), SELECTIONS[select]
    for heads in ((4, 2), (3, 1)):
        inputs = tensors(total, total, heads, torch.float64)
        exact = output_and_gradients(selected, *inputs, made.dense(total), chosen)
        got = output_and_gradients(adaptive_attention, *inputs, made, chosen)
        for name, a, b in zip(("output", "q", "k", "v"), got, exact, strict=True):
            assert error(a, b) < 1e-11, f"{name}, {heads} heads: {error(a, b):.1e}"


def test_a_selection_of_everything_is_attention_and_of_less_is_not():
    inputs = tensors(264, 264, (4, 2), torch.float64)
    mask = documents([264]) & causal()
    exact = output_and_gradients(attention, *inputs, mask, backend="reference")
    for select in (topk_keys(264), threshold(0.0)):
        got = output_and_gradients(adaptive_attention, *inputs, mask, select)
        assert all(error(a, b) < 1e-12 for a, b in zip(got, exact, strict=True))
    for select in (topk_keys(9), threshold(0.02)):
        assert error(adaptive_attention(*inputs[:3], mask, select), exact[0]) > 1e-3


def test_of_equal_scores_the_first_are_kept():
    """All scores are 0 and values one-hot, so weights can be read off the output."""
    q, k, v = torch.zeros(6, 1, 16), torch.zeros(6, 1, 16), torch.eye(6, 16)[:, None]
    weights = adaptive_attention(q, k, v, window(3, 3), topk_keys(2))[:, 0, :6]
    expected = torch.zeros(6, 6)
    for query, first in enumerate((0, 0, 0, 0, 1, 2)):
        expected[query, first : first + 2] = 0.5
    assert torch.equal(weights, expected)


def test_where_no_weight_reaches_the_threshold_the_output_is_zero():
    q, k, v = (x.requires_grad_() for x in tensors(30, 30)[:3])
    out = adaptive_attention(q * 0, k, v, documents([25, 5]), threshold(0.1))
    out.sum().backward()
    assert not out[:25].any() and out[25:].abs().min() > 0
    assert not v.grad[:25].any() and bool(v.grad[25:].any())
    assert all(bool(x.grad.isfinite().all()) for x in (q, k, v))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("select", ["topk 5", "threshold 0.02", "span"])
def test_bits_do_not_depend_on_company(select: str, dtype: torch.dtype):
    lengths = (1, 129, 2, 64, 3, 127, 5, 128, 1, 65)
    q, k, v, _ = tensors(sum(lengths), sum(lengths), (4, 2), dtype)
    span = spans_module()

    def run(q, k, v, mask):
        return (
            span(q, k, v, mask) if select == "span" else adaptive_attention(q, k, v, mask, SELECTIONS[select])
        )

    for added in (full(), window(9, 2)):
        together = run(q, k, v, documents(lengths) & added)
        assert together.dtype == dtype
        for number, rows in enumerate(torch.arange(sum(lengths)).split(lengths)):
            alone = run(q[rows], k[rows], v[rows], documents([len(rows)]) & added)
            assert torch.equal(alone, together[rows]), f"document {number} of {len(rows)} tokens"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_errors_are_those_of_plain_torch(dtype: torch.dtype):
    """Where every key is kept and every span is wide, rounding decides on nothing but the last digits."""
    made = case("documents", (127, 128, 129), (4, 2), dtype, 0.0)
    wide = AdaptiveSpan(4, 1000, ramp=4, init=1000, causal=False)
    for run in (lambda q, k, v, mask: adaptive_attention(q, k, v, mask, topk_keys(200)), wide):
        got = output_and_gradients(run, *made.inputs, made.mask)
        for a, b, budget in zip(got, made.exact, made.budgets("segments"), strict=True):
            assert a.dtype == dtype and error(a, b) <= budget


def test_memory_follows_the_keys_of_a_block_and_not_the_square(monkeypatch):
    """No block has more than 64 queries, forward and backward."""
    seen = []
    keeps = type(topk_keys(1)).keeps
    monkeypatch.setattr(type(topk_keys(1)), "keeps", lambda self, s: seen.append(s.shape) or keeps(self, s))
    inputs = tensors(3000, 3000, (2, 2), dim=8)
    output_and_gradients(adaptive_attention, *inputs, causal(), topk_keys(4))
    assert len(seen) >= 2 * 3000 // 64
    assert max(shape.numel() for shape in seen) <= 2 * 64 * 3008


@pytest.mark.parametrize("select", [topk_keys(3), threshold(0.15)])
def test_the_gradient_is_the_derivative(select):
    """By finite differences: kept keys stay the same under small steps."""
    inputs = [x.requires_grad_() for x in tensors(9, 9, (2, 1), torch.float64, dim=3)[:3]]
    mask = documents([6, 1, 2]) - window(0, 0)
    assert torch.autograd.gradcheck(lambda *qkv: adaptive_attention(*qkv, mask, select, scale=0.7), inputs)


def spans_module(num_heads: int = 4, causal: bool = True, ramp: int = 6) -> AdaptiveSpan:
    found = AdaptiveSpan(num_heads, 50, ramp=ramp, causal=causal)
    with torch.no_grad():
        found.share.copy_(torch.tensor(SPANS[:num_heads]) / 50)
    return found


@pytest.mark.parametrize(
    "mask", ["documents", "documents & causal", "full", "documents & window", "from_dense"]
)
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_a_learned_span_is_the_papers_formula(mask: str, is_causal: bool, lengths):
    total, made, module = sum(lengths), MASKS[mask](lengths), spans_module(causal=is_causal, ramp=7).double()
    seen = made.dense(total) & causal().dense(total) if is_causal else made.dense(total)
    places = torch.arange(total) if mask in ("full", "from_dense") else places_of(lengths)
    for heads in ((4, 2), (4, 4)):
        *inputs, grad = tensors(total, total, heads, torch.float64)
        inputs = [x.requires_grad_() for x in inputs]
        got = module(*inputs, made)
        grads = torch.autograd.grad(got, (*inputs, module.share), grad)
        spans = module.spans.detach().requires_grad_()
        exact = spanned(*inputs, seen, spans, 7, places)
        exact_grads = torch.autograd.grad(exact, (*inputs, spans), grad)
        assert error(got, exact) < 1e-11
        for name, a, b in zip("qkv", grads, exact_grads, strict=False):
            assert error(a, b) < 1e-11, f"gradient of {name}, {heads} heads: {error(a, b):.1e}"
        assert error(grads[3] / 50, exact_grads[3]) < 1e-10, "gradient of z"


@pytest.mark.parametrize("is_causal", [True, False])
def test_the_gradient_of_q_k_v_and_z_is_the_derivative(is_causal: bool):
    """Spans are between whole numbers, where the soft window has no kinks."""
    module = AdaptiveSpan(2, 8, ramp=3, causal=is_causal).double()
    inputs = [x.requires_grad_() for x in tensors(12, 12, (2, 1), torch.float64, dim=3)[:3]]
    share = torch.tensor([0.3, 2.6], dtype=torch.float64).div(8).requires_grad_()

    def run(q, k, v, share):
        return torch.func.functional_call(module, {"share": share}, (q, k, v, documents([9, 1, 2])))

    assert torch.autograd.gradcheck(run, (*inputs, share))


def test_a_wide_span_is_attention_and_a_mask_that_shuts_a_span_gives_zero():
    q, k, v, _ = tensors(40, 40, dtype=torch.float64)
    wide = AdaptiveSpan(2, 100, ramp=4, init=100).double()
    exact = attention(q, k, v, documents([30, 10]) & causal(), backend="reference")
    assert error(wide(q, k, v, documents([30, 10])), exact) < 1e-12
    narrow, far = AdaptiveSpan(2, 100, ramp=4, init=0).double(), causal() - window(9, 0)
    out = narrow(q.requires_grad_(), k, v, far)
    out.sum().backward()
    assert not out.any() and not q.grad.any() and not narrow.share.grad.any()


def test_nothing_beyond_the_longest_span_is_computed():
    module = AdaptiveSpan(2, 100, ramp=8, init=3)
    assert module.window() == window(10, 0), "the key at distance 3 + 8 has weight 0"
    assert AdaptiveSpan(2, 100, ramp=8, init=3, causal=False).window() == window(10, 10)
    with torch.no_grad():
        module.share[1] = 0.055
    assert module.window() == window(13, 0), "5.5 + 8: 13 is the last inside"
    q, k, v, _ = tensors(300, 300)
    moved = k.clone()
    moved[:100], moved[150:] = torch.nan, torch.nan
    assert torch.equal(module(q, k, v, full())[113:150], module(q, moved, v, full())[113:150])


@pytest.mark.parametrize("init", [0, 64])
def test_a_span_on_its_bound_has_the_gradient_of_one_beside_it(init: int):
    """Of a value of torch's own clamp it would be 0 or 1, by version."""
    q, k, v, grad = tensors(40, 40, (1, 1), torch.float64)
    found = []
    for moved in (0.0, 1e-9 if init == 0 else -1e-9):
        module = AdaptiveSpan(1, 64, ramp=80, init=init).double()
        with torch.no_grad():
            module.share += moved
        (module(q, k, v, full()) * grad).sum().backward()
        module.loss().backward()
        found.append(float(module.share.grad))
    assert found[0] == pytest.approx(found[1], rel=1e-6) and abs(found[0]) > 1


def test_the_penalty_shortens_spans_and_a_task_lengthens_them():
    """The value that counts stands 10 tokens before: a head that reads 4 must learn to read farther."""
    module = AdaptiveSpan(1, 64, ramp=16, init=0)
    q = k = torch.ones(60, 1, 16)
    v = torch.randn(60, 1, 16, generator=torch.Generator().manual_seed(0))
    wanted = v.roll(10, 0)

    def trained(steps: int, penalty: float, task: float) -> float:
        optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
        for _ in range(steps):
            optimizer.zero_grad()
            gap = (module(q, k, v, full())[12:] - wanted[12:]).square().mean()
            (task * gap + penalty * module.loss()).backward()
            optimizer.step()
            module.clamp_()
        return float(module.loss().detach())

    assert trained(30, penalty=0.0, task=1.0) > 5
    assert trained(60, penalty=1.0, task=0.0) == 0
    assert trained(5, penalty=0.0, task=1.0) > 0, "at the edge there is no gradient"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: topk_keys(0), "topk_keys: k is 0; it must be 1 or more"),
        (lambda: threshold(1.5), "threshold: p is 1.5; an attention weight lies between 0 and 1"),
        (lambda: AdaptiveSpan(2, 0), "max_span is 0"),
        (lambda: AdaptiveSpan(2, 9, ramp=0), "ramp 0; both must be 1 or more"),
        (lambda: AdaptiveSpan(2, 9, init=10), "init is 10; it must lie between 0 and max_span, 9"),
        (lambda: AdaptiveSpan(3, 9)(*tensors(4, 4)[:3], full()), "q has 2 heads and this AdaptiveSpan 3"),
        (lambda: AdaptiveSpan(2, 9)(*tensors(4, 5)[:3], documents([4], [5])), "distances within one text"),
        (
            lambda: adaptive_attention(*tensors(4, 5)[:3], documents([4]), topk_keys(1)),
            "there are 4 queries and 5 keys",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, words: str):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_number_is_no_selection():
    with pytest.raises(TypeError, match=r"select is a int; give topk_keys\(k\) or threshold\(p\)"):
        adaptive_attention(*tensors(4, 4)[:3], full(), 8)


def test_other_devices_are_refused():
    q = torch.zeros(4, 2, 8, device="meta")
    with pytest.raises(Unsupported, match="adaptive attention runs on a CPU, and this is meta"):
        adaptive_attention(q, q, q, from_dense(torch.ones(4, 4, dtype=torch.bool)), topk_keys(1))
