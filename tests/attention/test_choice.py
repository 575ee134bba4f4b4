"""Which backend serves a call; what is asked for and cannot be done exactly is refused, and says who can."""

from dataclasses import replace

import pytest
import torch
import torch.nn.attention.varlen

import yanma
from attention.packs import LENGTHS, MASKS, can, tensors
from yanma import Unsupported, attention
from yanma.attention import BACKENDS, Problem, explain, flex, plans, reference, sdpa, varlen
from yanma.masks import RandomDrop, causal, documents, from_dense, full, random_drop, window

GRID = from_dense(torch.ones(5, 5, dtype=torch.bool))


MANY = from_dense(torch.arange(25).view(5, 5) % 2 == 0)  # 3 intervals a row at most


def test_segments_refuses_more_intervals_than_its_bound_and_names_who_can(monkeypatch):
    q, k, v, _ = tensors(5, 5)
    monkeypatch.setattr(plans, "MAX_INTERVALS", 14)
    why = "segments needs up to 3 intervals for each of 5 queries; the bound is 14 in all"
    with pytest.raises(Unsupported, match=rf"^{why}; backends that can: sdpa, reference, flex$"):
        attention(q, k, v, MANY, backend="segments")
    choice = explain(q, k, v, MANY)
    assert choice.backend == "sdpa" and choice.refusals["segments"] == why.removeprefix("segments ")


def test_segments_refuses_many_intervals_before_it_has_them_all(monkeypatch):
    """As many as there are pairs: random masks would fill the memory first."""
    rows = []
    look = RandomDrop._runs
    monkeypatch.setattr(RandomDrop, "_runs", lambda self, part: rows.append(part.end) or look(self, part))
    monkeypatch.setattr(plans, "MAX_INTERVALS", 2**20)
    assert plans.make((random_drop(0.5, 3), 3000, 3000)).refusal.startswith("needs up to ")
    assert rows and max(rows) < 1000


def test_segments_refuses_a_plan_larger_than_what_is_kept(monkeypatch):
    q, k, v, _ = tensors(5, 5)
    monkeypatch.setattr(plans, "PLANS", plans.Plans(max_bytes=1100))
    with pytest.raises(
        Unsupported,
        match=r"^segments needs a plan of \d+ bytes for window\(2, 0\); the bound is 1100; backends that can: sdpa",
    ):
        attention(q, k, v, window(2, 0), backend="segments")
    held = from_dense(torch.zeros(40, 40, dtype=torch.bool))
    assert explain(*tensors(40, 40)[:3], held).refusals["segments"].startswith("needs a plan of 2624 bytes")


def test_flex_refuses_by_reason():
    q, k, v, _ = tensors(5, 5)
    for why, arguments, options in (
        ("has no gradients on a CPU", (q.clone().requires_grad_(), k, v), {}),
        ("has no dropout", (q, k, v), {"dropout": 0.1, "seed": 0}),
        (
            "computes in float32, bfloat16 or float16, and this is torch.float64",
            (q.double(), k.double(), v.double()),
            {},
        ),
        ("needs a query and a key", (q[:0], k, v), {}),
    ):
        mask = full() if len(arguments[0]) else documents([0], kv_lengths=[5])
        with pytest.raises(Unsupported, match=rf"^flex {why}; backends that can: segments"):
            attention(*arguments, mask, backend="flex", **options)
    far = torch.zeros(5, 2, 8, device="meta")
    assert explain(far, far, far, full()).refusals["flex"].startswith("runs on CUDA, or forward on a CPU")


def test_flex_refuses_narrow_heads_on_cuda():
    q, k, v, _ = tensors(5, 5)
    on_cuda = replace(Problem.of(q, k, v, full(), 0.0), device=torch.device("cuda"), head_dim=8)
    assert flex.refusal(on_cuda) == "needs heads of at least 16 on CUDA; these are 8 wide"
    assert flex.refusal(replace(on_cuda, head_dim=16)) is None


def test_flex_refuses_tables_above_its_bound(monkeypatch):
    q, k, v, _ = tensors(257, 129)
    monkeypatch.setattr(flex, "MAX_TABLE_BYTES", 95)
    with pytest.raises(
        Unsupported, match=r"^flex needs tables of 96 bytes, of all blocks; the bound is 95; backends"
    ):
        attention(q, k, v, causal(), backend="flex")
    monkeypatch.setattr(flex, "MAX_TABLE_BYTES", 96)
    assert "flex" in explain(q, k, v, causal()).costs


def test_varlen_refuses_by_reason(monkeypatch):
    q, k, v, _ = tensors(5, 5)
    with pytest.raises(
        Unsupported, match=r"^varlen runs on CUDA, and this is cpu; backends that can: segments"
    ):
        attention(q, k, v, full(), backend="varlen")
    at = Problem.of(q, k, v, full(), 0.0)
    on_cuda = replace(at, device=torch.device("cuda"), dtype=torch.float16)
    assert varlen.refusal(on_cuda) is None
    for change, why in (
        ({"dtype": torch.float32}, "computes in bfloat16 or float16, and this is torch.float32"),
        ({"dropout": 0.1}, "has no dropout"),
        ({"head_dim": 20}, "needs heads of a multiple of 8, up to 256; these are 20 wide"),
        (
            {"mask": ~causal()},
            "cannot express it: varlen kernels know documents and one window, not ~causal()",
        ),
    ):
        assert varlen.refusal(replace(on_cuda, **change)).startswith(why)


def test_lengths_for_varlen_are_made_once_and_serve_training_after_inference():
    mask, at = documents([3, 2]) & window(1, 0), (5, 5, torch.device("cpu"))
    with torch.inference_mode():
        first = varlen._moved(mask, *at)
    again = varlen._moved(documents([3, 2]) & window(1, 0), *at)
    assert first is again and first.cu_seqlens_q.tolist() == [0, 3, 5] and first.window == (1, 0)
    assert not first.cu_seqlens_q.is_inference() and not first.cu_seqlens_k.is_inference()


@pytest.mark.parametrize(
    "mask",
    [
        documents([5, 0, 9]),
        documents([5, 0, 9]) & causal(),
        documents([5, 0, 9]) & window(2, 1),
        documents([4, 0, 10], kv_lengths=[1, 3, 10]),
        window(None, 2),
    ],
    ids=str,
)
def test_varlen_hands_its_kernel_the_whole_mask_and_asks_for_batch_invariance(mask, monkeypatch):
    """A kernel for a CPU, as torch documents `varlen_attn`, stands in for it."""
    asked = []

    def kernel(q, k, v, cu_q, cu_k, max_q, max_k, *, scale=None, window_size=(-1, -1), num_splits=None):
        asked.append(num_splits)
        assert cu_q.dtype == cu_k.dtype == torch.int32
        assert max_q == int(cu_q.diff().max()) and max_k == int(cu_k.diff().max())
        parts = []
        for place in range(len(cu_q) - 1):
            rows, columns = (slice(*cu[place : place + 2].tolist()) for cu in (cu_q, cu_k))
            left, right = (None if reach < 0 else reach for reach in window_size)
            own = q[rows], k[columns], v[columns], window(left, right)
            parts.append(attention(*own, scale=scale, backend="reference"))
        return torch.cat(parts)

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", kernel)
    q, k, v, _ = tensors(14, 14, dtype=torch.float64)
    found = varlen.run(q, k, v, Problem.of(q, k, v, mask, 0.0), 0.3, None)
    exact = attention(q, k, v, mask, scale=0.3, backend="reference")
    assert torch.allclose(found, exact, rtol=0, atol=1e-12) and asked == [1]


def test_the_reference_refuses_scores_above_its_bound(monkeypatch):
    q, k, v, _ = tensors(5, 5)
    monkeypatch.setattr(reference, "MAX_SCORE_BYTES", 199)
    with pytest.raises(
        Unsupported,
        match=r"^reference needs several tensors of 200 bytes, a score for each pair; the bound is 199; "
        r"backends that can: segments, sdpa, flex$",
    ):
        attention(q, k, v, full(), backend="reference")
    far = torch.zeros(5, 2, 8, device="meta")
    with pytest.raises(
        Unsupported, match=r"^no backend can compute full\(\): segments runs on a CPU.*; reference needs"
    ):
        attention(far, far, far, full(), dropout=0.1, seed=0)


def test_sdpa_refuses_dropout_and_masks_that_are_too_large(monkeypatch):
    q, k, v, _ = tensors(5, 5)
    with pytest.raises(
        Unsupported,
        match=r"^sdpa draws dropout from torch's stream.*; backends that can: segments, reference$",
    ):
        attention(q, k, v, documents([3, 2]), dropout=0.1, seed=0, backend="sdpa")
    monkeypatch.setattr(sdpa, "MAX_MASK_BYTES", 24)
    with pytest.raises(
        Unsupported, match=r"^sdpa needs a dense mask of 5 x 5 bytes; the bound is 24; backends that can: "
    ):
        attention(q, k, v, documents([3, 2]), backend="sdpa")
    assert explain(q, k, v, GRID).refusals["sdpa"].startswith("needs a dense mask of 5 x 5 bytes")


def test_an_unknown_backend_is_refused_with_those_there_are():
    q, k, v, _ = tensors(5, 5)
    with pytest.raises(
        ValueError, match="no backend 'flash'; there are auto, segments, varlen, flex, sdpa, reference"
    ):
        attention(q, k, v, full(), backend="flash")
    with pytest.raises(ValueError, match="no backend ''; there are auto"):
        explain(q, k, v, full(), backend="")


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("lengths", LENGTHS[:3])
@pytest.mark.parametrize("mask", MASKS)
def test_auto_takes_the_first_that_can_and_gives_its_very_bits(mask, lengths, dropout):
    total = sum(lengths)
    q, k, v, _ = tensors(total, total)
    made = MASKS[mask](lengths)
    choice = explain(q, k, v, made, dropout=dropout)
    able = [backend.name for backend in BACKENDS if can(backend.name, mask, dropout)]
    if len(set(lengths)) > 1:  # one document, or halves of equal ones, may be simpler than its name says
        assert choice.backend == able[0]
    out = attention(q, k, v, made, dropout=dropout, seed=1)
    assert torch.equal(out, attention(q, k, v, made, dropout=dropout, seed=1, backend=choice.backend))
    assert choice.backend not in choice.refusals
    assert {*choice.costs, *choice.refusals} == {backend.name for backend in BACKENDS}


def test_explain_is_a_table_of_all_backends():
    q, k, v, _ = tensors(5, 5)
    assert str(explain(q, k, v, documents([3, 2]))).splitlines() == [
        "segments   chosen  13 pairs a head, 0 bytes of mask",
        "sdpa       can     25 pairs a head, 25 bytes of mask",
        "reference  can     25 pairs a head, 25 bytes of mask",
        "flex       can     16,384 pairs a head, 16 bytes of mask",
        "varlen     cannot  runs on CUDA, and this is cpu",
    ]
    named = explain(q, k, v, full(), backend="reference")
    assert named.backend == "reference" and "reference  chosen" in str(named)
    assert "sdpa       cannot  draws dropout" in str(explain(q, k, v, full(), dropout=0.1))
    with pytest.raises(Unsupported, match="sdpa draws dropout"):
        explain(q, k, v, GRID, dropout=0.1, backend="sdpa")
    assert yanma.explain(q, k, v, GRID).backend == "segments"


def test_explain_counts_what_tiles_compute():
    q = torch.zeros(640, 1, 8)
    choice = explain(q, q, q, window(64, 64))
    assert 640 * 129 < choice.costs["segments"].pairs <= 640 * 192
    assert choice.costs["flex"].pairs == 13 * 128**2, "5 blocks on the diagonal, 8 beside it"


def test_segments_refuses_other_devices():
    q = torch.zeros(5, 2, 8, device="meta")
    choice = explain(q, q, q, documents([3, 2]))
    assert choice.backend == "sdpa" and choice.refusals["segments"] == "runs on a CPU, and this is meta"


def test_auto_says_once_what_it_chose_and_why_not_the_others(caplog, monkeypatch):
    monkeypatch.setattr(sdpa, "MAX_MASK_BYTES", 23)  # a reason that no other test has given
    monkeypatch.setattr(plans, "MAX_INTERVALS", 13)
    q, k, v, _ = tensors(5, 5)
    with caplog.at_level("INFO", logger="yanma"):
        for _ in range(3):
            attention(q, k, v, from_dense(MANY.tensor.clone()))
        attention(q, k, v, full(), backend="reference")
    (said,) = caplog.messages
    assert said.startswith("attention: reference is chosen; segments needs up to 3 intervals")
    assert "; varlen runs on CUDA, and this is cpu; sdpa needs a dense mask of 5 x 5 bytes" in said


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((5, 8), (5, 2, 8), (5, 2, 8)), r"q must be \(tokens, heads, head width\); got \(5, 8\)"),
        (
            ((5, 2, 8), (1, 5, 2, 8), (5, 2, 8)),
            r"k must be \(tokens, heads, head width\); got \(1, 5, 2, 8\)",
        ),
        (((5, 2, 8), (5, 2, 8), (4, 2, 8)), r"k \(5, 2, 8\) and v \(4, 2, 8\) must agree"),
        (((5, 2, 8), (5, 2, 4), (5, 2, 4)), r"with q \(5, 2, 8\) in width"),
        (((5, 2, 8), (5, 0, 8), (5, 0, 8)), r"q \(5, 2, 8\) and k \(5, 0, 8\) need a head"),
        (
            ((5, 2, 0), (5, 2, 0), (5, 2, 0)),
            r"q \(5, 2, 0\) and k \(5, 2, 0\) need a head, and a number in it",
        ),
        (((5, 3, 8), (5, 2, 8), (5, 2, 8)), r"3 query heads cannot share 2 key heads evenly"),
        (((5, 2, 8), (5, 4, 8), (5, 4, 8)), r"2 query heads cannot share 4 key heads evenly"),
        (
            ((4, 2, 8), (5, 2, 8), (5, 2, 8)),
            r"documents\(\[5\]\) is \(5, 5\), but there are 4 queries and 5 keys",
        ),
        (
            ((5, 2, 8), (6, 2, 8), (6, 2, 8)),
            r"documents\(\[5\]\) is \(5, 5\), but there are 5 queries and 6 keys",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_name(shapes, message):
    tensors_ = [torch.zeros(shape) for shape in shapes]
    for call in (attention, explain):
        with pytest.raises(ValueError, match=message):
            call(*tensors_, documents([5]))


def test_dtypes_must_agree():
    q, k, v, _ = tensors(5, 5)
    with pytest.raises(ValueError, match=r"v is torch.bfloat16 on cpu, q is torch.float32 on cpu"):
        attention(q, k, v.bfloat16(), full())
    with pytest.raises(ValueError, match=r"q, k and v are torch.int64; attention is computed in floats"):
        attention(q.long(), k.long(), v.long(), full())
    with pytest.raises(ValueError, match=r"k is torch.float32 on meta, q is torch.float32 on cpu"):
        attention(q, k.to("meta"), v, full())


def test_a_mask_must_be_a_mask():
    q, k, v, _ = tensors(5, 5)
    with pytest.raises(TypeError, match="mask is a Tensor, not a mask; wrap a bool tensor in from_dense"):
        attention(q, k, v, torch.ones(5, 5, dtype=torch.bool))
    with pytest.raises(TypeError, match="mask is a NoneType, not a mask"):
        attention(q, k, v, None)


@pytest.mark.parametrize("mask", [documents() & causal(), causal() | ~documents()], ids=str)
def test_documents_without_lengths_do_not_pass_for_one_document(mask):
    q, k, v, _ = tensors(5, 5)
    for call in (attention, explain):
        with pytest.raises(
            ValueError, match=r"documents without lengths, .*; say where .* with mask.bind\(lengths\)$"
        ):
            call(q, k, v, mask)
    assert attention(q, k, v, mask.bind([3, 2])).shape == q.shape
