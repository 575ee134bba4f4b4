"""Dropout of attention weights: keyed by (seed, document, head, query, key), and by nothing else."""

import math

import pytest
import torch

from attention.packs import kept_weights, tensors
from yanma import attention
from yanma.keyed import document_keys, keep_probability
from yanma.masks import causal, documents, full, window

BACKENDS = ("segments", "reference")


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_without_a_seed_is_refused(backend):
    q, k, v, _ = tensors(3, 3)
    with pytest.raises(ValueError, match=r"dropout=0.1 needs a seed: one number, or one key a document"):
        attention(q, k, v, documents([3]), dropout=0.1, backend=backend)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 2.0, float("nan")])
def test_an_impossible_rate_is_refused(dropout):
    q, k, v, _ = tensors(3, 3)
    with pytest.raises(ValueError, match=f"dropout is {dropout}; it must be at least 0 and less than 1"):
        attention(q, k, v, documents([3]), dropout=dropout, seed=0)


@pytest.mark.parametrize("seed", [[1], [1, 2, 3], torch.tensor([[1, 2]])])
def test_keys_that_do_not_fit_the_documents_are_refused(seed):
    q, k, v, _ = tensors(3, 3)
    with pytest.raises(ValueError, match=r"seed has shape .*; the mask has 2 documents"):
        attention(q, k, v, documents([2, 1]), dropout=0.1, seed=seed)


def test_a_seed_without_dropout_changes_nothing():
    q, k, v, _ = tensors(20, 20)
    mask = documents([5, 15])
    assert torch.equal(attention(q, k, v, mask, seed=3), attention(q, k, v, mask))


@pytest.mark.parametrize("is_causal", [False, True])
def test_all_backends_keep_the_same_weights(is_causal):
    lengths = (3, 20, 20, 1)
    mask = documents(lengths) & causal() if is_causal else documents(lengths)
    kept = [kept_weights(mask, 44, 44, 3, 0.3, 9, backend) for backend in BACKENDS]
    assert torch.equal(*kept)
    assert 0.55 < (kept[0] & mask.dense()).sum() / (3 * mask.dense().sum()) < 0.85


def test_the_drawn_weights_are_a_function_of_the_documents_key_alone():
    keys = document_keys(1, [10, 20, 30])
    together = kept_weights(documents([4, 6, 5]), 15, 15, 2, 0.5, keys)
    alone = kept_weights(documents([6]), 6, 6, 2, 0.5, keys[1:2])
    assert torch.equal(together[:, 4:10, 4:10], alone)
    moved = kept_weights(documents([6, 1]), 7, 7, 2, 0.5, torch.cat([keys[1:2], keys[:1]]))
    assert torch.equal(moved[:, :6, :6], alone)


def test_an_int_seed_knows_documents_by_their_place():
    for lengths in [(4, 6, 5), (15,)]:
        mask = documents(lengths)
        by_number = kept_weights(mask, 15, 15, 2, 0.5, 3)
        for keys in (document_keys(3, range(len(lengths))), document_keys(3, range(len(lengths))).tolist()):
            assert torch.equal(by_number, kept_weights(mask, 15, 15, 2, 0.5, keys))
    assert torch.equal(
        kept_weights(full(), 15, 15, 2, 0.5, 3), kept_weights(documents([15]), 15, 15, 2, 0.5, 3)
    )


def test_a_longer_document_draws_the_same_for_the_pairs_it_shares():
    shorter, longer = (kept_weights(documents([n]), n, n, 2, 0.5, 3) for n in (9, 30))
    assert torch.equal(longer[:, :9, :9], shorter)


def test_heads_queries_keys_documents_and_seeds_draw_apart():
    """No two rows of 64 weights are the same, of 2 seeds x 4 documents x 3 heads x 16 queries."""
    lengths = (16,) * 4
    mask = documents(lengths, kv_lengths=(64,) * 4)
    rows = []
    for seed in (0, 1):
        kept = kept_weights(mask, 64, 256, 3, 0.5, seed)
        rows += [kept[:, 16 * d : 16 * d + 16, 64 * d : 64 * d + 64].reshape(-1, 64) for d in range(4)]
    everything = torch.cat(rows)
    assert len(everything.unique(dim=0)) == len(everything) == 2 * 4 * 3 * 16


def test_neighbouring_keys_of_a_callers_own_draw_apart():
    kept = kept_weights(documents([32, 32]), 64, 64, 4, 0.5, [4, 5])
    first, second = kept[:, :32, :32].reshape(-1, 32), kept[:, 32:, 32:].reshape(-1, 32)
    assert len(torch.cat([first, second]).unique(dim=0)) == 2 * 4 * 32


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_the_share_dropped_is_the_rate(dropout):
    kept = kept_weights(documents([200]), 200, 200, 4, dropout, 1)
    expected = keep_probability(dropout)
    deviation = math.sqrt(expected * (1 - expected) / kept.numel())
    assert abs(kept.float().mean().item() - expected) < 4 * deviation


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_mean_over_seeds_is_the_output_without_dropout(backend):
    q, k, v, _ = tensors(6, 6, dtype=torch.float64)
    mask = documents([4, 2])
    draws = torch.stack(
        [attention(q, k, v, mask, dropout=0.3, seed=seed, backend=backend) for seed in range(500)]
    )
    deviations = (draws.mean(0) - attention(q, k, v, mask)) / (draws.std(0) / math.sqrt(len(draws)))
    # 384 numbers, each a standard normal.
    assert deviations.abs().max() < 5


def test_torchs_generator_is_neither_read_nor_advanced():
    q, k, v, _ = tensors(20, 20)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = attention(q, k, v, documents([5, 15]), dropout=0.5, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(attention(q, k, v, documents([5, 15]), dropout=0.5, seed=1), first)


def test_dropout_goes_with_any_mask_through_the_reference():
    q, k, v, _ = tensors(12, 12)
    mask = documents([5, 7]) & window(2, 2)
    out = attention(q, k, v, mask, dropout=0.5, seed=1)
    assert not torch.equal(out, attention(q, k, v, mask))
    kept = kept_weights(mask, 12, 12, 2, 0.5, 1)
    assert torch.equal(kept, kept_weights(documents([5, 7]), 12, 12, 2, 0.5, 1) & mask.dense()), (
        "which weights are dropped does not depend on what else is hidden"
    )
