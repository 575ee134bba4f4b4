"""A plan is a pure function of (seed, epoch, example), with the rates, shares and places that it states."""

import itertools
import math

import pytest
import torch

from corruption.packs import BEGIN, END, LENGTHS, flat, same, texts, words_of
from yanma.corruption import (
    ALL_MASK,
    ALL_RANDOM,
    IGNORE,
    Between,
    Decay,
    Plan,
    Replacement,
    RunningLoss,
    Spans,
    Vocabulary,
)

UNITS = ["token", "word", Spans.geometric(), Spans.ngrams(of="token")]
KINDS = {
    "token": {},
    "word": {"unit": "word"},
    "span": {"unit": Spans.geometric(), "replacement": Replacement(per="unit")},
    "ngram": {"unit": Spans.ngrams(of="token"), "rate": 0.3},
    "drawn": {"rate": Between(0.1, 0.5), "replacement": ALL_MASK},
    "decay": {"rate": Decay(0.4, 0.1, "cosine"), "replacement": ALL_RANDOM},
    "copies": {"resampling": 3},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_the_same_alone_in_any_company_and_padded_on_either_side(kind, vocabulary):
    plan, some = Plan(vocabulary, **KINDS[kind]), texts()
    losses = RunningLoss.start(1000).updated(torch.arange(50, 900), torch.arange(50.0, 900.0))
    for more in ({"progress": 0.3}, {"progress": 0.3, "losses": losses}):
        together = flat(plan, some, range(9), epoch=4, **more)
        backwards = flat(plan, some[::-1], range(8, -1, -1), epoch=4, **more)[::-1]
        alone = [
            plan(text, seed=0, epoch=4, example=number, words=words_of(text), **more)
            for number, text in enumerate(some)
        ]
        width = max(map(len, some)) + 3
        for side in ("left", "right"):
            rows, words, valid = (torch.full((9, width), fill) for fill in (0, -1, 0))
            for row, text in enumerate(some):
                where = slice(width - len(text), width) if side == "left" else slice(0, len(text))
                rows[row, where], words[row, where] = torch.tensor(text), torch.tensor(words_of(text))
                valid[row, where] = 1
            padded = plan.padded(rows, valid, seed=0, epoch=4, examples=range(9), words=words, **more)
            assert (padded.labels[valid == 0] == IGNORE).all() and (padded.input_ids[valid == 0] == 0).all()
            for row, pair in enumerate(together):
                assert padded.labels[row][valid[row] == 1].equal(pair.labels), (
                    f"row {row}, padded on the {side}"
                )
                assert padded.input_ids[row][valid[row] == 1].equal(pair.input_ids)
        assert all(map(same, together, alone)) and all(map(same, together, backwards))


def test_every_key_counts(vocabulary):
    plan, (text,) = Plan(vocabulary), texts([300])
    first = plan(text, seed=0, epoch=0, example=0)
    for other in ({"seed": 1}, {"epoch": 1}, {"example": 1}, {"seed": 2**64 - 1}, {"example": 2**62}):
        pair = plan(text, **{"seed": 0, "epoch": 0, "example": 0, **other})
        assert not pair.labels.equal(first.labels), f"{other} draws anew"
    swapped = plan(text, seed=0, epoch=3, example=5).labels, plan(text, seed=0, epoch=5, example=3).labels
    assert not swapped[0].equal(swapped[1]), "epoch and example are not added up"


def test_a_corruption_is_the_same_for_ever(vocabulary):
    # A run that goes on after an upgrade must see what it saw before: change these only knowingly.
    (text,) = texts([20])
    plans = [Plan(vocabulary, unit, 0.5) for unit in UNITS]
    seen = [plan(text, seed=1, epoch=2, example=3, words=words_of(text)) for plan in plans]
    hidden = [(pair.labels >= 0).nonzero().flatten().tolist() for pair in seen]
    assert hidden == [
        [1, 2, 5, 6, 7, 10, 12, 13, 17, 19],
        [6, 7, 11, 12, 13, 17, 18, 19, 20],
        [1, 2],
        [1, 2, 6, 7, 8, 10, 11, 12, 13, 17],
    ]
    assert [pair.input_ids[pair.labels >= 0].tolist() for pair in seen] == [
        [4, 4, 338, 4, 4, 4, 4, 4, 4, 4],
        [4, 4, 4, 4, 4, 4, 4, 4, 4],
        [4, 4],
        [4, 4, 4, 4, 4, 4, 4, 4, 4, 4],
    ]


def test_a_thousand_epochs_repeat_no_more_than_chance(vocabulary):
    (text,) = texts([100])
    seen = [tuple(Plan(vocabulary)(text, seed=0, epoch=e, example=0).labels.tolist()) for e in range(1000)]
    assert len(set(seen)) == 1000, "15 of 100 tokens can be chosen in 2.5e17 ways"
    (short,) = texts([20])
    hits = [tuple(Plan(vocabulary)(short, seed=0, epoch=e, example=0).labels.tolist()) for e in range(1000)]
    ways, expected = math.comb(20, 3), math.comb(1000, 2) / math.comb(20, 3)
    pairs = sum(math.comb(hits.count(one), 2) for one in set(hits))
    assert abs(pairs - expected) < 5 * math.sqrt(expected), f"{pairs} pairs of epochs agree, of {ways} ways"


@pytest.mark.parametrize("unit", UNITS, ids=str)
@pytest.mark.parametrize("rate", [0.15, 0.3, 0.4])
def test_the_rate_is_met_on_average_and_nearly_in_every_text(unit, rate, vocabulary):
    plan, some = Plan(vocabulary, unit, rate), texts([200] * 200)
    hidden = torch.tensor([(pair.labels >= 0).sum() for pair in flat(plan, some, range(200))]).double()
    longest = 1 if unit == "token" else 3 if unit == "word" else 30
    assert bool(((hidden - 200 * rate).abs() <= longest).all()), "each text is within a unit of its budget"
    # A unit of n tokens that crosses the budget varies a text's count by n / 2 at most.
    assert abs(hidden.mean().item() - 200 * rate) < 4 * longest / 2 / math.sqrt(200), f"{hidden.mean():.2f}"


def test_80_10_10_and_random_tokens_are_spread_over_the_vocabulary_without_specials(vocabulary):
    plan, some = Plan(vocabulary, rate=0.5), texts([2000] * 20)
    pairs = flat(plan, some, range(20))
    ids, labels = (torch.cat([pair[half] for pair in pairs]) for half in (0, 1))
    at = labels >= 0
    n = int(at.sum())
    mask, kept = (ids[at] == 4).double().mean().item(), (ids[at] == labels[at]).double().mean().item()
    for share, wanted in ((mask, 0.8), (kept, 0.1 + 0.1 / 995)):
        assert abs(share - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / n), f"{share:.4f}, not {wanted}"
    every = flat(Plan(vocabulary, rate=0.5, replacement=ALL_RANDOM), some, range(20))
    drawn = torch.cat([pair.input_ids[pair.labels >= 0] for pair in every])
    counts = torch.bincount(drawn, minlength=1000)
    assert not counts[:5].any(), "no special token is drawn"
    expected = len(drawn) / 995
    chi_square = ((counts[5:] - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - 994) < 4 * math.sqrt(2 * 994), f"chi-square {chi_square:.0f} of 994"
    assert bool((ids[~at] == torch.cat([torch.tensor(t) for t in some])[~at]).all()), "others stay"


def test_units_are_replaced_alike_if_asked(vocabulary):
    plan = Plan(vocabulary, "word", 0.5, Replacement(0.5, 0.5, per="unit"))
    (text,) = texts([2000])
    words = words_of(text)
    pair = plan(text, seed=0, epoch=0, example=0, words=words)
    kinds: dict[int, set[bool]] = {}
    for word, token, label in zip(words, pair.input_ids.tolist(), pair.labels.tolist(), strict=True):
        if label >= 0:
            kinds.setdefault(word, set()).add(token == 4)
    assert len(kinds) > 100 and all(len(kind) == 1 for kind in kinds.values())
    assert {True} in kinds.values() and {False} in kinds.values()


@pytest.mark.parametrize("unit", UNITS, ids=str)
def test_every_position_is_equally_likely(unit, vocabulary):
    plan, some = Plan(vocabulary, unit, 0.2), texts([60] * 4000)
    words = [[-1, *(n // 2 for n in range(60)), -1]] * 4000
    made = plan.flat(
        [t for text in some for t in text], [62] * 4000, seed=0, epoch=0, examples=range(4000),
        words=[w for row in words for w in row],
    )  # fmt: skip
    counts = (made.labels.view(4000, 62)[:, 1:-1] >= 0).double().sum(0)
    expected = counts.mean()
    # Neighbours go together, which widens the sum's spread by the length of what is hidden as one.
    together = 1 if unit == "token" else 2 if unit == "word" or unit.of == "token" else 8
    chi_square = ((counts - expected) ** 2 / (expected * 0.8)).sum().item()
    assert chi_square < 60 * together + 4 * math.sqrt(2 * 60) * together, f"chi-square {chi_square:.0f} of 60"
    ends = counts[[0, -1]].mean() / expected
    assert abs(ends - 1) < 0.1, f"the ends of a text are hidden {ends:.2f} times as often as the rest"


@pytest.mark.parametrize("length", [6, 12])
@pytest.mark.parametrize("unit", [Spans.geometric(), Spans.ngrams()], ids=["geometric", "ngrams"])
def test_short_texts_of_spans_too_long_to_be_hidden_have_no_favourite_word(unit, length, vocabulary):
    some, words = texts([length] * 4000), [-1, *range(length), -1] * 4000
    made = Plan(vocabulary, unit).flat(
        [t for text in some for t in text], [length + 2] * 4000, seed=0, epoch=0, examples=range(4000),
        words=words,
    )  # fmt: skip
    rates = (made.labels.view(4000, length + 2)[:, 1:-1] >= 0).double().mean(0)
    assert rates.max() / rates.mean() < 1.25, f"hidden by position: {rates.tolist()}"


@pytest.mark.parametrize("unit", UNITS, ids=str)
@pytest.mark.parametrize("rate", [0.01, 0.15, 0.8])
def test_at_least_one_token_and_at_most_the_stated_share(unit, rate, vocabulary):
    plan = Plan(vocabulary, unit, rate)
    for epoch in range(20):
        for length, pair in zip(LENGTHS, flat(plan, texts(), range(9), epoch=epoch), strict=True):
            hidden = int((pair.labels >= 0).sum())
            assert 1 <= hidden <= max(1, int(0.8 * length)), f"{hidden} of {length} tokens"
            assert pair.labels[0] == pair.labels[-1] == IGNORE, "special tokens are never hidden"
            assert pair.input_ids[0] == BEGIN and pair.input_ids[-1] == END


def test_texts_of_0_to_3_tokens_have_something_to_score_if_they_have_a_token(vocabulary):
    for length in range(4):
        (text,) = texts([length])
        pair = Plan(vocabulary)(text, seed=0, epoch=0, example=0)
        assert int((pair.labels >= 0).sum()) == min(length, 1)
    nothing = Plan(vocabulary).flat([], [0, 0], seed=0, epoch=0, examples=[1, 2])
    assert nothing.input_ids.shape == (0,), "texts without any token are let through"


def test_a_rate_drawn_for_each_text_fills_its_range(vocabulary):
    pairs = flat(Plan(vocabulary, rate=Between(0.1, 0.5)), texts([500] * 400), range(400))
    shares = torch.tensor([(pair.labels >= 0).double().mean() for pair in pairs]) * 502 / 500
    assert 0.098 <= shares.min() < 0.11 and 0.49 < shares.max() <= 0.502
    assert abs(shares.mean() - 0.3) < 4 * 0.4 / math.sqrt(12 * 400)


@pytest.mark.parametrize("kind", ["linear", "cosine", "step"])
def test_a_rate_decays_from_start_to_end(kind, vocabulary):
    decay = Decay(0.4, 0.1, kind)
    rates = [decay.at(step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.4) and rates[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates))
    assert len({round(rate, 9) for rate in rates}) == (4 if kind == "step" else 101)
    (text,) = texts([1000])
    for progress in (0.0, 0.5, 1.0):
        pair = Plan(vocabulary, rate=decay)(text, seed=0, epoch=0, example=0, progress=progress)
        assert abs(int((pair.labels >= 0).sum()) - 1000 * decay.at(progress)) <= 1
    with pytest.raises(ValueError, match="say progress"):
        Plan(vocabulary, rate=decay)(text, seed=0, epoch=0, example=0)


def test_copies_take_turns_and_never_is_one_copy(vocabulary):
    (text,) = texts([200])

    def labels(resampling, epoch):
        return tuple(
            Plan(vocabulary, resampling=resampling)(text, seed=0, epoch=epoch, example=0).labels.tolist()
        )

    for resampling, copies in (("never", 1), (1, 1), (10, 10), ("every epoch", 40)):
        seen = [labels(resampling, epoch) for epoch in range(40)]
        assert len(set(seen)) == copies and seen[:copies] * (40 // copies) == seen


def test_hard_tokens_are_hidden_more_often(vocabulary):
    easy, hard = 50, 51
    losses = RunningLoss.start(1000).updated(torch.tensor([easy, hard]), torch.tensor([1.0, 3.0]))
    text = [easy, hard] * 100
    counts = {easy: 0, hard: 0}
    for epoch in range(200):
        labels = Plan(vocabulary)(text, seed=0, epoch=epoch, example=0, losses=losses).labels
        for token in counts:
            counts[token] += int((labels == token).sum())
    assert counts[easy] + counts[hard] == 200 * 30, "the rate is not changed"
    assert 2.5 < counts[hard] / counts[easy] < 3.5, counts


def test_a_running_loss_is_a_value():
    start = RunningLoss.start(3, decay=0.5)
    once = start.updated(torch.tensor([1]), torch.tensor([4.0]))
    twice = once.updated(torch.tensor([1, 1]), torch.tensor([1.0, 3.0]))
    assert start.values.tolist() == [0, 0, 0] and once.values.tolist() == [0, 4, 0]
    assert twice.values.tolist() == [0, 3, 0], "half of 4 and half of the mean of 1 and 3"
    assert len(set(start.weights.tolist())) == 1, "nothing is known: all alike"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": 0.0}, "rate is 0.0"),
        ({"rate": 0.9}, "a rate of 0.9 is more than may be hidden of a text, 0.8"),
        ({"unit": "words"}, "unit is 'words'"),
        ({"max_share": 1.5}, r"max_share is 1\.5"),
        ({"resampling": 0}, "resampling is 0"),
        ({"resampling": "sometimes"}, "resampling is 'sometimes'"),
        ({"resampling": 2, "rate": Decay(0.3, 0.1)}, "needs resampling='every epoch'"),
        ({"vocabulary": Vocabulary(10)}, "no mask_id"),
        ({"vocabulary": Vocabulary(2, (0,), 1)}, "all tokens of the vocabulary are special"),
    ],
)
def test_an_impossible_plan_is_refused(wrong, message, vocabulary):
    with pytest.raises(ValueError, match=message):
        Plan(**{"vocabulary": vocabulary, **wrong})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ids": [50, 1000]}, "token 1000; the vocabulary has 0 to 999"),
        ({"ids": [50, -1]}, "token -1"),
        ({"lengths": [3]}, "lengths add up to 3, ids has 2 tokens"),
        ({"lengths": [3, -1]}, "give the number of tokens"),
        ({"examples": [1, 2]}, "2 numbers of examples for 1 lengths"),
        ({"words": [1]}, "give one word a token"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message, vocabulary):
    call = {"ids": [50, 51], "lengths": [2], "examples": [0], "words": [0, 1], **wrong}
    with pytest.raises(ValueError, match=message):
        Plan(vocabulary, "word").flat(**call, seed=0, epoch=0)


def test_words_are_asked_for_where_they_are_needed(vocabulary):
    for unit in ("word", Spans.geometric()):
        with pytest.raises(ValueError, match="say which word each token is of"):
            Plan(vocabulary, unit)([50], seed=0, epoch=0, example=0)


def test_the_special_tokens_are_those_of_the_tokenizer(tokenizer):
    vocabulary = Vocabulary.of(tokenizer)
    assert vocabulary.size == len(tokenizer) and vocabulary.mask_id == tokenizer.mask_token_id
    special = tokenizer.convert_ids_to_tokens(vocabulary.special_ids)
    assert special == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.mark.parametrize("make", [lambda: Replacement(0.9, 0.2), lambda: Replacement(-0.1, 0.1)])
def test_shares_that_are_none_are_refused(make):
    with pytest.raises(ValueError, match="shares of 0 or more, together at most 1"):
        make()


def test_random_tokens_need_no_mask():
    ids, labels = Plan(Vocabulary(10), replacement=ALL_RANDOM)([5, 6, 7], seed=0, epoch=0, example=0)
    assert int((labels != IGNORE).sum()) == 1 and len(ids) == 3


def test_a_token_that_is_not_scored_keeps_its_loss():
    once = RunningLoss.start(4, 0.5).updated(torch.tensor([1]), torch.tensor([4.0]))
    twice = once.updated(torch.tensor([2]), torch.tensor([1.0]))
    assert twice.values.tolist() == [0, 4, 1, 0], "what is not in a step does not decay"
    assert twice.seen.tolist() == [False, True, True, False], "nor does it count as seen"


def test_weights_know_no_unit_of_loss_and_span_a_factor_of_16():
    start, some = RunningLoss.start(2), torch.arange(2)
    small, large = (start.updated(some, torch.tensor(each)).weights for each in ([0.1, 0.3], [1.0, 3.0]))
    assert torch.equal(small, large), "only relative losses count"
    losses = torch.zeros(100).index_fill(0, torch.tensor([7]), 100.0)
    wide = RunningLoss.start(100).updated(torch.arange(100), losses).weights
    assert wide.max() == 16 * wide.min()


def test_each_token_of_a_unit_that_is_cut_is_hidden_as_often(vocabulary):
    plan, text = Plan(vocabulary, "word"), list(range(50, 60))
    epochs = 2000
    times = torch.zeros(10)
    for epoch in range(epochs):
        hidden = plan(text, seed=0, epoch=epoch, example=0, words=[0] * 10).labels != IGNORE
        assert int(hidden.sum()) == 8, "max_share of it"
        times += hidden
    bound = 4 * math.sqrt(0.8 * 0.2 * epochs)
    assert bool(((times - 0.8 * epochs).abs() < bound).all()), times
