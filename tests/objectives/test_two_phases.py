"""A loss over all examples of a step has the gradient of plain autograd, however the step is cut."""

import copy
import json

import pytest
import torch

from objectives.contrastive import Contrastive, examples, model, plain_gradient, step_gradient
from runs.ranks import launch
from yanma.data.examples import Example, Tokens
from yanma.objectives import Packed, Padded, TwoPhase
from yanma.runs.stepper import dropout_seed

ON_RANKS = """
import json, sys
import torch
from torch import nn
from objectives.contrastive import Contrastive, examples, model, step_gradient
from yanma.objectives import Packed
folder, *cases = json.loads(sys.argv[1])
for name, lengths, dropout in cases:
    whole = nn.ModuleDict({"texts": model(dropout)})
    whole.temperature = nn.Parameter(torch.tensor(0.1))
    objective = Contrastive(whole.temperature)
    objective.outputs = lambda compute, pack: compute.batching.logits(whole["texts"], pack, seed=compute.seed)
    loss, gradient = step_gradient(objective, whole, examples(lengths), batching=Packed(16))
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else "alone"
    torch.save((loss, gradient), f"{folder}/{name}.{rank}.pt")
"""


def differ(one: dict, other: dict) -> float:
    """Length of the difference of two gradients, relative to the first one's."""
    assert one.keys() == other.keys()
    difference = sum(float((other[name] - grad).double().square().sum()) for name, grad in one.items())
    size = sum(float(grad.double().square().sum()) for grad in one.values())
    assert size > 1e-6, "there is a gradient"
    return (difference / size) ** 0.5


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("max_batch_tokens", [1, 30, 4096])
def test_a_step_has_the_gradient_of_plain_autograd_over_all_its_examples_in_one_pack(
    dropout, max_batch_tokens
):
    step, own = examples(), model(dropout)
    objective = Contrastive()
    assert isinstance(objective, TwoPhase)
    expected, theirs = plain_gradient(objective, own, step, dropout_seed(3, 1))
    theirs = {name: grad.clone() for name, grad in theirs.items()}
    loss, ours = step_gradient(objective, own, step, batching=Packed(max_batch_tokens))
    assert loss == pytest.approx(expected, rel=1e-5)
    assert differ(theirs, ours) < 1e-5
    packs = objective.told[: len(objective.told) // 2]
    assert objective.told == packs * 2 and sum(packs) == len(step), "every pack twice"
    assert {1: 10, 30: 4, 4096: 1}[max_batch_tokens] == len(packs)
    if dropout:
        _, other = plain_gradient(objective, own, step, dropout_seed(3, 2))
        assert differ(theirs, other) > 0.1, "dropout was at work"


def test_it_is_the_gradient_of_float64():
    """Of the stock model, one text at a time."""
    step, own = examples(), model()
    _, ours = step_gradient(Contrastive(), own, step, batching=Packed(30))
    double = copy.deepcopy(own).double()
    double.zero_grad()
    ordered = sorted(step, key=lambda example: example.key)
    rows = [double(input_ids=example.tokens.input_ids[None]).logits for example in ordered]
    (Contrastive().step_loss(torch.cat(rows), ordered) * 2 / len(step)).backward()
    assert differ({name: p.grad for name, p in double.named_parameters()}, ours) < 1e-5


def test_padded_rows_give_the_gradient_of_packs():
    step, own = examples(), model()
    _, by_packs = step_gradient(Contrastive(), own, step)
    by_packs = {name: grad.clone() for name, grad in by_packs.items()}
    _, by_rows = step_gradient(Contrastive(), own, step, batching=Padded(64, 32, 0))
    assert differ(by_packs, by_rows) < 1e-5


def test_bfloat16_is_near_float32():
    step, own = examples(), model()
    _, exact = step_gradient(Contrastive(), own, step, batching=Packed(30))
    exact = {name: grad.clone() for name, grad in exact.items()}
    _, rough = step_gradient(Contrastive(), own, step, batching=Packed(30), bf16=True)
    assert 1e-4 < differ(exact, rough) < 0.1


def test_the_loss_is_no_sum_over_packs():
    """Else every test here would pass without the first phase."""
    step, own = examples(), model()
    loss, _ = step_gradient(Contrastive(), own, step)
    halves = [step_gradient(Contrastive(), own, some)[0] for some in (step[:5], step[5:])]
    assert abs(sum(halves) / 2 - loss) > 0.1


def test_examples_that_share_a_key_are_refused():
    step = [*examples(), Example(4, (Tokens([7, 8]),), 1)]
    with pytest.raises(ValueError, match="each of the examples of a step needs a key of its own"):
        step_gradient(Contrastive(), model(), step)


def test_more_weights_than_losses_are_refused():
    objective = Contrastive()
    objective.weights = (1.0, 2.0)
    with pytest.raises(ValueError, match="Contrastive makes one loss of a step, and has 2 weights"):
        step_gradient(objective, model(), examples())


def test_two_ranks_have_the_gradient_of_one(tmp_path):
    """Also where a rank has no example, and of what the loss of the whole step learns itself."""
    cases = [("even", [5, 9, 3, 3], 0.0), ("odd", [5, 12, 3, 3, 9], 0.3), ("one", [6], 0.0)]
    argument = json.dumps([str(tmp_path), *cases])
    for num_processes in (2, 1):
        launch(ON_RANKS, [argument], num_processes, tmp_path / "log")
    for name, lengths, _ in cases:
        files = [tmp_path / f"{name}.{rank}.pt" for rank in ("alone", 0, 1)]
        (loss, alone), *ranks = (torch.load(file, weights_only=True) for file in files)
        learned = float(alone.pop("temperature"))
        for its, gradient in ranks:
            assert its == pytest.approx(loss, rel=1e-5)
            found = float(gradient.pop("temperature"))
            if len(lengths) == 1:  # there is nobody to tell it from
                assert found == 0 and all(float(grad.abs().max()) < 1e-6 for grad in gradient.values())
                continue
            assert found == pytest.approx(learned, rel=1e-4) and abs(learned) > 0.1
            assert differ(alone, gradient) < 1e-5, name
        assert all(torch.equal(grad, ranks[1][1][key]) for key, grad in ranks[0][1].items()), "ranks agree"
