"""Denoisers: input and target together are the text, at the stated rates, the same in any company."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import T5Tokenizer

from yanma.corruption import Continuation, Infilling, Mixture, SpanCorruption, Vocabulary, sentinels_of
from yanma.corruption.command import lines
from yanma.corruption.config import CorruptConfig

END, PREFIX = 1, (996, 997, 998)
SENTINELS = tuple(range(999 - 4, 700, -1))
VOCABULARY = Vocabulary(1000, special_ids=(0, END, *PREFIX, *SENTINELS), mask_id=999)
DENOISERS = {
    "t5": SpanCorruption(VOCABULARY, SENTINELS),
    "much": SpanCorruption(VOCABULARY, SENTINELS, 0.5, 3.0),
    "long": SpanCorruption(VOCABULARY, SENTINELS, 0.5, 64.0),
    "end": Continuation(VOCABULARY, SENTINELS),
    "ul2": Mixture.ul2(VOCABULARY, SENTINELS, [(mode,) for mode in PREFIX]),
    "bart": Infilling(VOCABULARY),
}


def joined(inputs: list[int], target: list[int]) -> list[int]:
    """The text: each sentinel of the input replaced by what the target says after it."""
    spans: dict[int, list[int]] = {}
    for token in target:
        if token in SENTINELS:
            spans[sentinel := token] = []
        else:
            spans[sentinel].append(token)
    text: list[int] = []
    for token in inputs:
        text += spans[token] if token in SENTINELS else [token]
    return [token for token in text if token not in PREFIX]


texts = st.lists(st.lists(st.one_of(st.integers(2, 600), st.just(0)), max_size=90), min_size=1, max_size=6)


@settings(max_examples=60)
@given(texts, st.sampled_from(["t5", "much", "long", "end", "ul2"]), st.integers(0, 9))
def test_input_and_target_are_the_text(some, name, epoch):
    some = [[*text, END] for text in some]
    ids = [token for text in some for token in text]
    made = DENOISERS[name](ids, list(map(len, some)), seed=0, epoch=epoch, examples=range(len(some)))
    for text, (inputs, target) in zip(some, made.pairs(), strict=True):
        assert target[0] in SENTINELS and target[-1] == END
        used = [token for token in target.tolist() if token in SENTINELS]
        assert used == list(SENTINELS[: len(used)]), "sentinels in their order, one more than spans"
        in_text = [token for token in inputs.tolist() if token in SENTINELS]
        assert in_text == used[:-1]
        assert joined(inputs.tolist(), target.tolist()) == text
    missing = [token for _, target in made.pairs() for token in target.tolist() if END < token <= 600]
    assert sorted(torch.tensor(ids)[made.hidden].tolist()) == sorted(missing), "hidden is what targets have"


@pytest.mark.parametrize("name", DENOISERS)
def test_a_text_is_the_same_alone_and_in_any_company(name):
    some = [[(n * 7 + i) % 600 + 2 for i in range(n)] + [END] for n in (1, 2, 3, 60, 127, 128, 129)]
    denoise = DENOISERS[name]

    def made(order):
        ids = [token for number in order for token in some[number]]
        lengths = [len(some[number]) for number in order]
        pairs = denoise(ids, lengths, seed=5, epoch=2, examples=list(order)).pairs()
        return {number: [half.tolist() for half in pair] for number, pair in zip(order, pairs, strict=True)}

    together = made(range(7))
    assert made(range(6, -1, -1)) == together
    assert {number: made([number])[number] for number in range(7)} == together
    other = denoise(some[5], [len(some[5])], seed=5, epoch=3, examples=[5]).pairs()[0]
    assert [half.tolist() for half in other] != together[5], "another epoch hides other spans"


@pytest.mark.parametrize(("rate", "mean_span"), [(0.15, 3.0), (0.5, 3.0), (0.15, 8.0)])
def test_t5_hides_what_it_states_everywhere_in_a_text(rate, mean_span):
    n, count = 100, 3000
    ids = torch.arange(2, 2 + n).repeat(count)
    made = SpanCorruption(VOCABULARY, SENTINELS, rate, mean_span)(
        ids, [n] * count, seed=0, epoch=0, examples=range(count)
    )
    hidden = round(rate * n)
    spans = max(1, round(hidden / mean_span))
    assert set(made.lengths) == {n - hidden + spans} and set(made.label_lengths) == {hidden + spans + 1}
    counts = torch.bincount(made.labels[made.labels < 2 + n], minlength=2 + n)[2:].double()
    assert abs(counts.mean().item() - rate * count) < 1e-6
    assert counts.min() > 0, "no place is left out"
    inner = counts[20:-20]
    assert bool(((inner / inner.mean() - 1).abs() < 0.25).all()), (
        "away from the ends all places are as likely"
    )


def test_t5_needs_enough_sentinels():
    denoise = SpanCorruption(VOCABULARY, SENTINELS[:5])
    with pytest.raises(ValueError, match="a text of 300 tokens needs 16 sentinels and there are 5"):
        denoise([5] * 300, [300], seed=0, epoch=0, examples=[0])


def test_sentinels_are_those_of_the_tokenizer_in_their_order(tokenizer):
    pieces = ["<pad>", "</s>", "<unk>", *(f"▁{word}" for word in "the cat sat on a mat".split())]
    t5 = T5Tokenizer(vocab=[(piece, -float(rank)) for rank, piece in enumerate(pieces)], extra_ids=3)
    sentinels = sentinels_of(t5)
    assert t5.convert_ids_to_tokens(sentinels) == ["<extra_id_0>", "<extra_id_1>", "<extra_id_2>"]
    assert set(sentinels) <= set(Vocabulary.of(t5).special_ids), "a sentinel is never hidden"
    (shown,) = lines(
        ["the cat sat on a mat"], t5, CorruptConfig(tokenizer="t5", unit="t5", epochs=1), color=False
    )
    assert shown.count("<extra_id_0>") == 2 and shown.count("<extra_id_1>") == 1 and shown.endswith("</s>")
    with pytest.raises(ValueError, match="has no <extra_id_0>"):
        sentinels_of(tokenizer)


def test_bart_hides_its_share_in_poisson_spans_and_keeps_the_rest_in_order():
    n = 200_000
    ids = torch.arange(n) % 600 + 2
    made = Infilling(VOCABULARY)(ids, [n], seed=0, epoch=0, examples=[0])
    assert torch.equal(made.labels, ids), "the target is the whole text"
    masks = int((made.input_ids == 999).sum())
    hidden = n - (len(made.input_ids) - masks)
    assert abs(hidden / n - 0.3) < 0.01 and abs(hidden / masks - 3.0) < 0.05, (
        f"{hidden} hidden by {masks} masks"
    )
    kept = made.input_ids[made.input_ids != 999].tolist()
    rest = iter(ids.tolist())
    assert all(token in rest for token in kept), "what is left is in the text's order"


def test_bart_hides_no_special_token_and_marks_what_is_missing_on_either_side_of_one():
    text = [0, 2, 3, 0, *range(40, 60), END]
    for epoch in range(200):
        made = Infilling(VOCABULARY, rate=0.7)(text, [len(text)], seed=0, epoch=epoch, examples=[0])
        ids = made.input_ids.tolist()
        assert [t for t in ids if t in (0, END)] == [0, 0, END] and ids[0] == 0 and ids[-1] == END
        middle = ids.index(0, 1)
        for part, whole in ((ids[1:middle], text[1:3]), (ids[middle + 1 : -1], text[4:-1])):
            assert part[0] in (999, whole[0]), f"the first of {whole} is gone and no mask says so: {ids}"
            assert part[-1] in (999, whole[-1]), f"the last of {whole} is gone and no mask says so: {ids}"


def test_the_end_is_a_quarter_on_average():
    made = Continuation(VOCABULARY, SENTINELS)(
        [5] * 100 * 2000, [100] * 2000, seed=0, epoch=0, examples=range(2000)
    )
    hidden = torch.tensor(made.label_lengths).double() - 2
    assert 1 == hidden.min() and hidden.max() == 50
    assert abs(hidden.mean().item() - 25.5) < 4 * 50 / math.sqrt(12 * 2000)


def test_a_mixture_takes_each_denoiser_as_often_as_it_says():
    mixture = Mixture(
        (Infilling(VOCABULARY), Continuation(VOCABULARY, SENTINELS)), (0.25, 0.75), ((996,), (997,))
    )
    made = mixture([5] * 20 * 4000, [20] * 4000, seed=0, epoch=0, examples=range(4000))
    share = sum(int(inputs[0] == 996) for inputs, _ in made.pairs()) / 4000
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize("name", DENOISERS)
def test_a_denoiser_makes_in_a_mixture_what_it_makes_alone(name):
    one = DENOISERS[name]
    both = Mixture((Infilling(VOCABULARY, 0.5), one), (1.0, 1.0), ((996,), (997,)))
    call = {"seed": 3, "epoch": 4, "examples": range(20)}
    alone, mixed = (make([*range(2, 42)] * 20, [40] * 20, **call).pairs() for make in (one, both))
    taken = [number for number, (inputs, _) in enumerate(mixed) if inputs[0] == 997]
    assert 0 < len(taken) < 20
    for number in taken:
        assert all(map(torch.equal, (mixed[number][0][1:], mixed[number][1]), alone[number]))


def test_a_denoiser_wants_a_number_of_each_text():
    with pytest.raises(ValueError, match="1 numbers of examples for 2 lengths"):
        DENOISERS["t5"]([5, 6], [1, 1], seed=0, epoch=0, examples=[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpanCorruption(VOCABULARY, SENTINELS, 1.0), "rate is 1.0"),
        (lambda: SpanCorruption(VOCABULARY, (5,)), "1 sentinels"),
        (lambda: Infilling(VOCABULARY, 0.9), "leaves nothing between them; at most 0.75"),
        (lambda: Infilling(Vocabulary(9)), "no mask_id"),
        (lambda: Continuation(VOCABULARY, SENTINELS, 0.6), "rate is 0.6"),
        (lambda: Mixture((), (), ()), "0 denoisers"),
        (lambda: Mixture.ul2(VOCABULARY, SENTINELS, [(996,)]), "1 modes; give the tokens of R, X and S"),
        (lambda: Mixture.ul2(VOCABULARY, SENTINELS, [(1,)] * 3), "modes of the same tokens"),
    ],
)
def test_an_impossible_denoiser_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
