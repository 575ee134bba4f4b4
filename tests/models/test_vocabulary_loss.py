"""The loss over a vocabulary by itself: chunks and blocks change no number, and stay within their bound."""

from __future__ import annotations

from weakref import finalize

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from models.builders import relative
from yanma.models import vocabulary_loss
from yanma.models.linear import MIN_ROWS


def inputs(rows: int = 5, words: int = 23, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(s, generator=draw, dtype=dtype) for s in ((rows, 6), (words, 6), (words,)))
    return *(t.requires_grad_() for t in (x, weight, bias)), torch.randint(words, (rows,), generator=draw)


@pytest.mark.parametrize("cap", [None, 1.5])
@pytest.mark.parametrize("columns", [1, 7, 23, 4096])
def test_the_loss_passes_gradcheck_with_any_chunks(monkeypatch, cap, columns):
    monkeypatch.setattr(vocabulary_loss, "COLUMNS", columns)
    x, weight, bias, labels = inputs()

    def losses(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return vocabulary_loss.cross_entropy(x, weight, bias, labels, cap=cap)[0]

    assert torch.autograd.gradcheck(losses, (x, weight, bias))


@pytest.mark.parametrize("mib", [4, 64])
def test_many_rows_in_blocks_that_are_kept_in_part(mib):
    """400 rows of 10,000 words are 30 MiB in float64: blocks of 64 rows, of which few are kept, or all are."""
    x, weight, bias, labels = inputs(400, 10_000)
    logits = x @ weight.t() + bias
    expected = F.cross_entropy(logits, labels, reduction="none")
    wanted = torch.autograd.grad(expected.square().sum(), (x, weight, bias))
    losses, likeliest = vocabulary_loss.cross_entropy(x, weight, bias, labels, max_logits_mib=mib)
    assert relative(losses, expected) < 1e-12 and likeliest.equal(logits.argmax(1))
    again = torch.autograd.grad(losses.square().sum(), (x, weight, bias), retain_graph=True)
    twice = torch.autograd.grad(losses.square().sum(), (x, weight, bias))
    for got, same, want in zip(again, twice, wanted, strict=True):
        assert relative(got, want) < 1e-12 and got.equal(same), (
            "a second backward finds what was kept unchanged"
        )


@pytest.mark.parametrize("mib", [4, 16])
def test_blocks_follow_each_other_and_none_is_too_thin_for_its_products(mib):
    for num_rows in range(300):
        blocks = list(vocabulary_loss._blocks(num_rows, mib * 2**20, torch.float64))
        assert [row for b in blocks for row in range(b.start, b.stop)] == list(range(num_rows))
        assert min(b.stop - b.start for b in blocks) >= min(num_rows, MIN_ROWS), (num_rows, blocks)


def test_of_equal_logits_the_first_is_the_likeliest():
    x, weight = torch.ones(2, 3), torch.ones(9000, 3)
    assert vocabulary_loss.cross_entropy(x, weight, None, torch.tensor([1, 2]))[1].tolist() == [0, 0]


def test_words_that_are_ruled_out_and_extreme_logits_give_no_nan():
    bias = torch.zeros(9000)
    bias[:5000], bias[7000] = -torch.inf, 1e4
    losses, likeliest = vocabulary_loss.cross_entropy(
        torch.zeros(2, 3), torch.ones(9000, 3), bias, torch.tensor([7000, 8000])
    )
    assert losses.tolist() == [0, 1e4] and likeliest.tolist() == [7000, 7000]


@pytest.mark.parametrize("mib", [4, 16])
def test_logits_and_their_gradient_stay_within_the_bound(mib):
    """All tensors with as many numbers a row as a chunk has columns, or more, that are alive at one time."""
    x, weight, _, labels = inputs(300, 40_000, torch.float32)
    peak = _peak_bytes(
        lambda: vocabulary_loss.cross_entropy(x, weight, None, labels, max_logits_mib=mib), weight
    )
    assert 2**20 < peak <= mib * 2**20, f"{peak / 2**20:.1f} MiB of {mib}; whole they are 46 MiB, and twice"


def _peak_bytes(run, weight: Tensor) -> int:
    """The most bytes of new tensors (R, C) with C over 1,000 that lived at once, forward and backward."""
    alive, peak, given = {}, [0], weight.untyped_storage().data_ptr()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, Tensor) and tensor.dim() == 2 and tensor.shape[1] > 1000:
                    storage = tensor.untyped_storage()
                    if storage.data_ptr() not in {given, *alive}:
                        alive[storage.data_ptr()] = storage.nbytes()
                        finalize(storage, alive.pop, storage.data_ptr(), None)
                        peak[0] = max(peak[0], sum(alive.values()))
            return out

    with Watch():
        run()[0].sum().backward()
    return peak[0]
