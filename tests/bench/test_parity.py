"""Whoever computes something else is found out, by outputs and by gradients."""

from dataclasses import replace

import pytest
import torch

from yanma.bench import ParityError, contestants_hf, contestants_training, contestants_yanma, parity
from yanma.bench.outputs import mean_of_pack, mean_of_rows
from yanma.bench.parts import Gradients, Outputs
from yanma.bench.workloads import drawn, sample

from .conftest import MAX_LENGTH


@pytest.fixture
def workload(models):
    return drawn(models.tokenizer, 20, MAX_LENGTH)


@pytest.fixture
def classifiers(models):
    """Contestants of training, with models of their own."""
    from copy import deepcopy

    from yanma import unpad

    stock = deepcopy(models.classifier)
    return stock, contestants_training.contestants(stock, unpad(deepcopy(stock)), MAX_LENGTH)


def ignore(name):
    pass


def test_all_ways_agree_with_float64_one_text_at_a_time(models, workload):
    everyone = [
        *contestants_hf.contestants(models.base, "embedding", MAX_LENGTH),
        *contestants_yanma.contestants(models.unpadded, "embedding"),
        *contestants_yanma.contestants(models.unpadded_bf16, "embedding", precision="bf16"),
    ]
    verdicts = Outputs(models.base, "embedding")(everyone, workload, ignore)
    assert [verdicts[each.name].limit is None for each in everyone] == [False] * 5 + [True]
    assert all(0 < verdicts[each.name].difference < 1e-5 for each in everyone[:-1])
    assert 0.9999 < verdicts[contestants_yanma.BF16].cosine < 1


@pytest.mark.parametrize(
    "fault",
    [lambda out: out + 2e-5, lambda out: out.roll(1), lambda out: out * float("nan"), lambda out: out[:-1]],
    ids=["slightly off", "shifted", "not a number", "too short"],
)
def test_one_wrong_output_is_enough(models, workload, fault):
    packs, _ = contestants_yanma.contestants(models.unpadded, "embedding")
    longest = max(range(20), key=workload.lengths.__getitem__)
    ids = workload.sequences[longest]

    def compute(sequences):
        return [
            fault(out) if tuple(s) == ids else out
            for s, out in zip(sequences, packs.compute(sequences), strict=True)
        ]

    with pytest.raises(ParityError, match="yanma"):
        Outputs(models.base, "embedding")([replace(packs, compute=compute)], workload, ignore)


def test_a_batching_that_swaps_texts_is_found_out(models, workload):
    _, _, by_length = contestants_hf.contestants(models.base, "embedding", MAX_LENGTH)

    def compute(sequences):
        return by_length.compute(sequences)[::-1]

    with pytest.raises(ParityError, match="length-sorted"):
        Outputs(models.base, "embedding")([replace(by_length, compute=compute)], workload, ignore)


def test_a_stock_model_in_train_mode_is_no_yardstick(models, workload):
    """Its dropout is an error of its own, twice of which would let anything pass."""
    models.classifier.train()
    try:
        with pytest.raises(ParityError, match="stock transformers itself"):
            Outputs(models.classifier, "logits")([], workload, ignore)
    finally:
        models.classifier.eval()


def test_bf16_of_ours_must_be_close_to_its_fp32(models, workload):
    packs, _ = contestants_yanma.contestants(models.unpadded, "embedding")
    coarse = replace(
        packs,
        name=contestants_yanma.BF16,
        precision="bf16",
        compute=lambda sequences: [out + 0.05 * out.abs() for out in packs.compute(sequences)],
    )
    with pytest.raises(ParityError, match="cosine"):
        Outputs(models.base, "embedding")([packs, coarse], workload, ignore)


def test_gradients_agree_with_float64_one_text_at_a_time(classifiers, workload):
    stock, everyone = classifiers
    verdicts = Gradients(stock)(everyone, workload, ignore)
    assert len(verdicts) == 5
    assert all(0 < verdict.difference < 1e-5 for verdict in verdicts.values())


@pytest.mark.parametrize("place", ["bert.embeddings.word_embeddings.weight", "classifier.bias"])
def test_a_gradient_that_is_off_in_one_parameter_is_found_out(classifiers, workload, place):
    stock, everyone = classifiers
    packs = everyone[3]
    packs.model.get_parameter(place).register_hook(lambda grad: grad * 1.001)
    with pytest.raises(ParityError, match="yanma"):
        Gradients(stock)([packs], workload, ignore)


def test_a_loss_of_other_labels_is_found_out(classifiers, workload, monkeypatch):
    stock, everyone = classifiers
    expected = parity.Gradient.reference(stock, workload)
    monkeypatch.setattr(
        contestants_training, "labels_of", lambda workload: torch.zeros(20, dtype=torch.int64)
    )
    with pytest.raises(ParityError):
        parity.judge_gradient(everyone[3], workload, expected)


def test_dropout_is_off_for_parity_only(classifiers, workload):
    _, everyone = classifiers
    for contestant in everyone:
        with parity.without_dropout(contestant.model):
            (first,), (second,) = (contestant.run(workload, contestant.sizes[0]) for _ in range(2))
        assert first == second, f"{contestant.name}: dropout is off"
        (first,), (second,) = (contestant.run(workload, contestant.sizes[0]) for _ in range(2))
        assert first != second, f"{contestant.name}: what is timed has the model's own dropout"


def test_every_contestant_computes_the_gradient_of_the_mean_loss(classifiers, workload):
    """Batch sizes change nothing: parts are divided by the number of all texts."""
    _, everyone = classifiers
    gradients = []
    for size in (3, 20):
        with parity.without_dropout(everyone[1].model):
            gradients.append(parity.Gradient.of(everyone[1], workload, size))
    assert gradients[0].relative_difference(gradients[1]) < 1e-5


def test_a_sample_has_the_shortest_and_the_longest(workload):
    chosen = sample(workload, 5)
    lengths = [workload.lengths[index] for index in chosen]
    assert len(chosen) == len(set(chosen)) == 5
    assert (min(lengths), max(lengths)) == (min(workload.lengths), max(workload.lengths))
    assert sample(workload, 100) == list(range(20))


def test_means_are_over_a_texts_own_tokens():
    hidden = torch.randn(5, 3)
    packed = mean_of_pack(hidden, (4, 1))
    rows = torch.full((2, 4, 3), 7.0)
    rows[0], rows[1, 0] = hidden[:4], hidden[4]
    padded = mean_of_rows(rows, torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]))
    torch.testing.assert_close(packed, torch.stack([hidden[:4].mean(0), hidden[4]]))
    torch.testing.assert_close(padded, packed)
