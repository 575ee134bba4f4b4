"""Which backend serves a call; what is asked for and cannot be done exactly is refused, and says who can."""

import pytest
import torch

import yanma
from attention.packs import LENGTHS, MASKS, can, tensors
from yanma import Unsupported, attention
from yanma.attention import BACKENDS, explain, sdpa
from yanma.masks import causal, documents, from_dense, full, padding, window

GRID = from_dense(torch.ones(5, 5, dtype=torch.bool))


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (window(2, 0), r"window\(2, 0\)"),
        (documents([3, 2]) & window(2, 0), r"window\(2, 0\)"),
        (window(0, None), r"window\(0, None\)"),
        (~causal(), r"~causal\(\)"),
        (documents([3, 2]) & ~causal(), r"~causal\(\)"),
        (documents([3, 2]) | causal(), r"documents\(\[3, 2\]\) \| causal\(\)"),
        (padding([1] * 5, 1), r"padding\(\[1, 1, 1, 1, 1\], 1\)"),
        (GRID, r"from_dense\(5 x 5\)"),
    ],
)
def test_segments_refuses_what_it_cannot_express_and_names_who_can(mask, why):
    q, k, v, _ = tensors(5, 5)
    with pytest.raises(
        Unsupported, match=rf"^segments cannot express {why}.*; backends that can: sdpa, reference$"
    ):
        attention(q, k, v, mask, backend="segments")


def test_segments_refuses_causal_across():
    q, k, v, _ = tensors(5, 5)
    with pytest.raises(
        Unsupported, match="segments cannot express causal where queries and keys differ in number; backends"
    ):
        attention(q, k, v, documents([3, 2], kv_lengths=[2, 3]) & causal(), backend="segments")
    q, k, v, _ = tensors(3, 5)
    with pytest.raises(
        Unsupported, match="segments cannot express causal where queries and keys differ in number"
    ):
        attention(q, k, v, causal(), backend="segments")


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
    assert explain(q, k, v, GRID).backend == "reference"


def test_an_unknown_backend_is_refused_with_those_there_are():
    q, k, v, _ = tensors(5, 5)
    with pytest.raises(ValueError, match="no backend 'flash'; there are auto, segments, sdpa, reference"):
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


def test_explain_says_what_attention_does():
    q, k, v, _ = tensors(5, 5)
    assert str(explain(q, k, v, documents([3, 2]))) == "segments: chosen"
    assert str(explain(q, k, v, window(1, 1), dropout=0.1)).splitlines() == [
        "reference: chosen",
        "segments: cannot express window(1, 1); only documents and causal",
        "sdpa: draws dropout from torch's stream, so it would depend on what shares the batch",
    ]
    assert explain(q, k, v, full(), backend="reference").backend == "reference"
    with pytest.raises(Unsupported, match="segments cannot express"):
        explain(q, k, v, GRID, backend="segments")
    assert yanma.explain(q, k, v, GRID).backend == "sdpa"


def test_segments_refuses_other_devices():
    q = torch.zeros(5, 2, 8, device="meta")
    choice = explain(q, q, q, documents([3, 2]))
    assert choice.backend == "sdpa" and choice.refusals == {"segments": "runs on a CPU, and this is meta"}


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
    with pytest.raises(ValueError, match=r"k is torch.float32 on meta, q is torch.float32 on cpu"):
        attention(q, k.to("meta"), v, full())


def test_a_mask_must_be_a_mask():
    q, k, v, _ = tensors(5, 5)
    with pytest.raises(TypeError, match="mask is a Tensor, not a mask; wrap a bool tensor in from_dense"):
        attention(q, k, v, torch.ones(5, 5, dtype=torch.bool))
    with pytest.raises(TypeError, match="mask is a NoneType, not a mask"):
        attention(q, k, v, None)
