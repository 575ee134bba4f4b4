"""Whoever computes something else is found out, by outputs and by gradients."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from yanma import unpad
from yanma.bench import hf, ours, parity
from yanma.bench.outputs import mean_of_pack, mean_of_rows
from yanma.bench.parity import Gradient, ParityError, gradients, outputs
from yanma.bench.workloads import drawn, sample
from yanma.errors import DataError

from .conftest import MAX_LENGTH


@pytest.fixture
def workload(models):
    return drawn(models.tokenizer, 20, MAX_LENGTH)


@pytest.fixture
def classifiers(models):
    """Contestants of training, with models of their own."""
    stock = deepcopy(models.classifier)
    return stock, [*hf.training(stock, MAX_LENGTH), *ours.training(unpad(deepcopy(stock)))]


def ignore(name):
    pass


def longest(model):
    return hf.training(model, MAX_LENGTH)[1]


def altered(contestant, change, **other):
    """The same contestant, its outputs changed."""
    return replace(
        contestant, run=lambda workload, size: change(workload, contestant.run(workload, size)), **other
    )


def test_all_ways_agree_with_float64_one_text_at_a_time(models, workload):
    everyone = [
        *hf.inference(models.base, "embedding", MAX_LENGTH),
        *ours.inference(models.unpadded, "embedding"),
        ours.bf16(models.unpadded_bf16, "embedding"),
    ]
    verdicts = outputs(models.base, "embedding", everyone, workload, ignore)
    assert [verdicts[each.name].limit is None for each in everyone] == [False] * 5 + [True]
    assert all(0 < verdicts[each.name].difference < 1e-5 for each in everyone[:-1])
    assert 0.9999 < verdicts[ours.BF16].cosine < 1


@pytest.mark.parametrize(
    "fault",
    [lambda out: out + 2e-5, lambda out: out.roll(1), lambda out: out * float("nan"), lambda out: out[:-1]],
    ids=["slightly off", "shifted", "not a number", "too short"],
)
def test_one_wrong_output_is_enough(models, workload, fault):
    packs, _ = ours.inference(models.unpadded, "embedding")
    place = max(range(20), key=workload.lengths.__getitem__)

    def change(workload, found):
        return [fault(out) if index == place else out for index, out in enumerate(found)]

    with pytest.raises(ParityError, match="yanma"):
        outputs(models.base, "embedding", [altered(packs, change)], workload, ignore)


def test_a_batching_that_swaps_texts_is_found_out(models, workload):
    compute = hf.padded(models.base, "embedding")
    swapped = hf.batched(hf.SORTED, lambda pack: compute(pack)[::-1], hf.SIZES, hf.BY_LENGTH)
    with pytest.raises(ParityError, match="length-sorted"):
        outputs(models.base, "embedding", [swapped], workload, ignore)


def test_an_answer_that_fails_is_raised_and_not_timed(models, workload):
    """The engine answers who is not at fault; here everyone must be answered."""
    packs, _ = ours.inference(models.unpadded, "embedding")
    broken = replace(workload, sequences=(*workload.sequences, (10**6,)))
    with pytest.raises(DataError, match="request 20"):
        packs.run(broken, 4096)


def test_a_stock_model_in_train_mode_is_no_yardstick(models, workload, monkeypatch):
    """Its dropout is an error of its own, twice of which would let anything pass."""
    models.classifier.train()
    try:
        with pytest.raises(ParityError, match="stock transformers itself"):
            outputs(models.classifier, "logits", [], workload, ignore)
    finally:
        models.classifier.eval()


def test_bf16_of_ours_must_be_close_to_its_fp32(models, workload):
    packs, _ = ours.inference(models.unpadded, "embedding")
    coarse = altered(
        packs,
        lambda workload, found: [out + 0.05 * out.abs() for out in found],
        name=ours.BF16,
        precision="bf16",
    )
    with pytest.raises(ParityError, match="cosine"):
        outputs(models.base, "embedding", [packs, coarse], workload, ignore)


def test_gradients_agree_with_float64_one_text_at_a_time(classifiers, workload):
    stock, everyone = classifiers
    verdicts = gradients(longest, stock, everyone, workload, ignore)
    assert len(verdicts) == 5
    assert all(0 < verdict.difference < 1e-5 for verdict in verdicts.values())


@pytest.mark.parametrize("place", ["bert.embeddings.word_embeddings.weight", "classifier.bias"])
@pytest.mark.parametrize("fault", [1.001, float("nan")])
def test_a_gradient_that_is_off_in_one_parameter_is_found_out(classifiers, workload, place, fault):
    stock, everyone = classifiers
    packs = everyone[3]
    packs.model.get_parameter(place).register_hook(lambda grad: grad * fault)
    with pytest.raises(ParityError, match="yanma: loss is off float64"):
        gradients(longest, stock, [packs], workload, ignore)


def test_a_loss_of_other_labels_is_found_out(classifiers, workload):
    stock, everyone = classifiers
    packs = everyone[3]
    zeros = replace(workload, labels=(0,) * 20)
    others = replace(packs, run=lambda workload, size: packs.run(zeros, size))
    with pytest.raises(ParityError):
        gradients(longest, stock, [others], workload, ignore)


def test_dropout_is_off_for_parity_only(classifiers, workload):
    _, everyone = classifiers
    for contestant in everyone:
        size = contestant.sizes[0]
        with parity.without_dropout(contestant.model):
            (first,), (second,) = (contestant.run(workload, size) for _ in range(2))
        assert first == second, f"{contestant.name}: dropout is off"
        (timed,) = contestant.run(workload, size)
        assert first != timed, f"{contestant.name}: what is timed has the model's own dropout"


def test_every_contestant_computes_the_gradient_of_the_mean_loss(classifiers, workload):
    """Batch sizes change nothing: parts are divided by the number of all texts."""
    _, everyone = classifiers
    for contestant in everyone:
        small, large = (Gradient.of(contestant, workload, size) for size in (8, 4096))
        assert small.verdict(contestant.name, large).difference < 1e-5


def test_packs_in_the_order_of_arrival_hold_the_texts_of_the_padded_batches(classifiers, workload):
    """The step may not sort its texts first."""
    _, everyone = classifiers
    arrival, seen = everyone[-1], []
    forward = arrival.model.forward
    arrival.model.forward = lambda batch, **named: seen.append(batch.lengths) or forward(batch, **named)
    arrival.run(workload, 8)
    assert seen == [workload.lengths[:8], workload.lengths[8:16], workload.lengths[16:]]


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
