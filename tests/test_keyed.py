"""Keyed bits: a pure function of their keys, at the exact rate, and as good as independent.

The hash is our own, so it is tested as one tests a generator of random numbers. Nothing here is drawn: every figure
is the same on every run, and the bounds are those that truly random bits keep to.
"""

import itertools
import math

import pytest
import torch

from yanma.keyed import derived, document_keys, keep, keep_probability, mixed, only

RATES = [0.1, 0.5]


def standardised(bits, p):
    """Bits as numbers of mean 0 and variance 1 if their rate is what it should be."""
    kept = keep_probability(p)
    return (bits.float() - kept) / math.sqrt(kept * (1 - kept))


def assert_uncorrelated(bits, p, what):
    """(observations, variables): all pairs of variables correlate as little as independent bits do."""
    x = standardised(bits, p)
    sums = (x.T @ x / math.sqrt(len(x)))[torch.triu(torch.ones(x.shape[1], x.shape[1]), 1).bool()]
    # Of L independent standard normals the largest is about sqrt(2 ln 2L); the variance errs by sqrt(2 / L). Rare
    # bits make tails heavier.
    largest, count = sums.abs().max().item(), len(sums)
    assert largest < math.sqrt(2 * math.log(2 * count)) + 1.2, (
        f"{what}: some pair is {largest:.1f} deviations off"
    )
    assert abs(sums.var().item() - 1) < 5 * math.sqrt(2 / count) + 0.01, (
        f"{what}: pairs vary by {sums.var():.3f}"
    )
    assert abs(sums.mean().item()) < 5 / math.sqrt(count), f"{what}: pairs lean by {sums.mean():.4f}"


def assert_even(bits, p, what):
    """(observations, variables): chi-square of the variables' counts."""
    deviations = standardised(bits, p).sum(0) / math.sqrt(len(bits))
    chi_square, freedom = (deviations**2).sum().item(), bits.shape[1]
    assert abs(chi_square - freedom) < 4 * math.sqrt(2 * freedom), (
        f"{what}: chi-square {chi_square:.0f} of {freedom}"
    )


def token_rows(seed, document, count, site):
    """Row keys of one document's tokens, as models make them."""
    document_key = derived(document_keys(seed, [document]), 0)
    return derived(derived(document_key + torch.arange(count), 1), site)


def test_a_document_has_its_bits_alone_and_in_any_company():
    together = keep(document_keys(5, [3, 8, 1, 8, 2**40, -7]), 50, 0.3)
    for place, document in enumerate([3, 8, 1, 8, 2**40, -7]):
        assert torch.equal(keep(document_keys(5, [document]), 50, 0.3)[0], together[place])
    assert torch.equal(keep(document_keys(5, [8, 3]), 50, 0.3), together[[1, 0]])


def test_bits_owe_nothing_to_any_generator():
    torch.manual_seed(1)
    first = keep(document_keys(0, range(9)), 33, 0.5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(keep(document_keys(0, range(9)), 33, 0.5), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "the generator was not advanced either"


def test_bits_are_the_same_for_ever():
    # Runs that are repeated after an upgrade must drop what they dropped before: change these only knowingly.
    assert keep(document_keys(1, [2]), 16, 0.5).int().tolist()[0] == [
        0,
        1,
        1,
        0,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        1,
        0,
        0,
        1,
        0,
    ]


def test_a_column_does_not_depend_on_how_many_there_are():
    rows = document_keys(0, range(20))
    widest = keep(rows, 130, 0.5)
    for width in (0, 1, 2, 3, 4, 5, 7, 8, 64, 129):
        assert torch.equal(keep(rows, width, 0.5), widest[:, :width]), f"{width} columns"


def test_rows_may_have_any_shape_and_strides():
    keys = document_keys(0, range(24)).view(2, 3, 4)
    kept = keep(keys, 10, 0.5)
    assert kept.shape == (2, 3, 4, 10) and kept.dtype == torch.bool
    assert torch.equal(kept.view(24, 10), keep(keys.reshape(-1), 10, 0.5))
    assert torch.equal(keep(keys.transpose(0, 2), 10, 0.5), kept.transpose(0, 2))
    assert torch.equal(keep(keys[:, 1:2].expand(2, 5, 4), 10, 0.5), kept[:, 1:2].expand(2, 5, 4, 10))
    assert keep(keys[:0], 10, 0.5).shape == (0, 3, 4, 10)


def test_what_is_kept_with_less_dropout_contains_what_is_kept_with_more():
    rows = document_keys(0, range(50))
    assert bool((keep(rows, 64, 0.5) <= keep(rows, 64, 0.2)).all())


def test_mixing_is_a_bijection_that_spreads_every_bit():
    numbers = torch.arange(-50_000, 50_000)
    assert len(mixed(numbers).unique()) == len(numbers)
    # A flipped input bit flips each output bit in half of all cases: 64 x 64 rates, standard deviation 0.0035.
    inputs = mixed(torch.arange(20_000) + 12345)
    for bit in range(64):
        flipped = mixed(inputs) ^ mixed(inputs ^ (1 << bit if bit < 63 else -(2**63)))
        rates = torch.stack([(flipped >> out & 1).float().mean() for out in range(64)])
        assert bool((rates - 0.5).abs().max() < 0.02), (
            f"input bit {bit}: {rates.min():.3f} to {rates.max():.3f}"
        )


def test_no_two_pairs_of_seed_and_document_share_a_key():
    # Steps count their seeds up and data sets their documents: a sum of both would give the same bits again and again.
    keys = torch.stack([document_keys(seed, range(300)) for seed in range(-50, 250)])
    assert len(keys.unique()) == keys.numel()


def test_no_two_rows_of_a_model_share_a_key():
    rows = torch.cat(
        [
            token_rows(seed, document, 40, site)
            for seed in range(4)
            for document in range(8)
            for site in range(30)
        ]
        + [derived(document_keys(seed, range(8)), site) for seed in range(4) for site in range(30)]
    )
    assert len(rows.unique()) == len(rows)


@pytest.mark.parametrize("seed", [0, -1, 2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**30])
def test_any_whole_number_is_a_seed(seed):
    assert document_keys(seed, [1]).dtype == torch.int64


@pytest.mark.parametrize("p", [0.0, 1e-9, 0.1, 1 / 3, 0.5, 0.9, 1 - 1e-9])
def test_the_rate_is_what_keep_probability_says(p):
    assert abs(keep_probability(p) - (1 - p)) <= 0.5 / 65536 or p > 0.99999
    assert 0 < keep_probability(p) <= 1
    kept = keep(document_keys(0, range(2000)), 1000, p)
    expected, deviation = (
        keep_probability(p),
        math.sqrt(keep_probability(p) * (1 - keep_probability(p)) / kept.numel()),
    )
    assert abs(kept.float().mean().item() - expected) <= 4 * deviation
    if p < 1e-6:
        assert bool(kept.all()), "a rate of 0 drops nothing"


def test_the_rate_is_exact_over_all_lane_values():
    # One of 65,536 steps decides: among all values a lane may take, exactly round(65536 p) drop.
    for p in (0.1, 0.3, 1 / 3, 0.5):
        assert keep_probability(p) == 1 - round(p * 65536) / 65536


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_an_impossible_rate_is_refused(p):
    for refused in (keep_probability, lambda p: keep(document_keys(0, [1]), 4, p)):
        with pytest.raises(ValueError, match=f"dropout is {p}; it must be at least 0 and less than 1"):
            refused(p)


@pytest.mark.parametrize("p", RATES)
def test_columns_are_even_and_uncorrelated(p):
    for site in (0, 11):
        kept = keep(derived(document_keys(0, range(30_000)), site), 256, p)
        assert_even(kept, p, f"columns, site {site}")
        assert_uncorrelated(kept, p, f"columns, site {site}")


@pytest.mark.parametrize("p", RATES)
def test_rows_of_neighbouring_tokens_are_even_and_uncorrelated(p):
    kept = keep(token_rows(seed=3, document=5, count=256, site=9), 30_000, p).T
    assert_even(kept, p, "tokens")
    assert_uncorrelated(kept, p, "tokens")


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize(
    ("what", "rows"),
    [
        ("documents", lambda n: document_keys(0, range(n))),
        ("seeds", lambda n: torch.cat([document_keys(seed, [1]) for seed in range(n)])),
        ("sites", lambda n: torch.cat([derived(document_keys(0, [1]), site) for site in range(n)])),
        ("seeds with documents", lambda n: torch.cat([document_keys(i % 16, [i // 16]) for i in range(n)])),
        ("tokens of two sites", lambda n: torch.cat([token_rows(0, 1, n // 2, site) for site in (4, 5)])),
        ("tokens of two documents", lambda n: torch.cat([token_rows(0, d, n // 2, 4) for d in (0, 1)])),
        ("tokens of two seeds", lambda n: torch.cat([token_rows(seed, 0, n // 2, 4) for seed in (0, 1)])),
    ],
)
def test_rows_with_neighbouring_keys_are_even_and_uncorrelated(what, rows, p):
    kept = keep(rows(256), 20_000, p).T
    assert_even(kept, p, what)
    assert_uncorrelated(kept, p, what)


@pytest.mark.parametrize("p", RATES)
def test_a_bit_and_its_neighbours_to_the_right_below_and_aside_are_uncorrelated(p):
    # As a picture: tokens x columns, then the same bits moved by a few places. 4 million pairs each, so 1 deviation is
    # a correlation of 0.0005.
    kept = standardised(keep(token_rows(seed=0, document=0, count=2048, site=3), 2048, p), p)
    for down, right in itertools.product(range(4), (-64, -8, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 8, 64)):
        if (down, right) <= (0, 0):
            continue
        moved = kept.roll((down, right), (0, 1))
        deviations = (kept * moved).mean().item() * kept.numel() ** 0.5
        assert abs(deviations) < 5, f"{down} tokens down, {right} columns right: {deviations:.1f} deviations"


def test_three_and_four_columns_have_no_parity_in_common():
    signs = keep(derived(document_keys(0, range(60_000)), 2), 12, 0.5).float() * 2 - 1
    for count in (3, 4):
        for columns in itertools.combinations(range(12), count):
            deviations = signs[:, columns].prod(1).sum().item() / math.sqrt(len(signs))
            assert abs(deviations) < 5, f"columns {columns}: {deviations:.1f} deviations"


def test_the_lanes_of_a_word_are_uniform():
    # 16 equal steps of p count how many lanes fall into each sixteenth; chi-square with 15 degrees of freedom per lane.
    rows = derived(document_keys(0, range(20_000)), 1)
    above = torch.stack(
        [keep(rows, 8, step / 16).sum(0) for step in range(16)] + [torch.zeros(8, dtype=torch.int64)]
    )
    counts = -above.diff(dim=0).float()
    expected = len(rows) / 16
    chi_square = ((counts - expected) ** 2 / expected).sum(0)
    assert bool((chi_square < 45).all()), f"chi-square of each lane, 15 expected: {chi_square.tolist()}"


def test_only_is_the_kept_and_zero():
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        kept = keep(document_keys(0, range(3)), 5, 0.5)
        assert torch.equal(only(x.to(dtype), kept), torch.where(kept, x.to(dtype), 0))
        assert only(x.to(dtype), kept).dtype == dtype
