"""Learning rates, and which weights decay."""

import math

import pytest
import torch
from torch import nn

from yanma.runs.optimizer import adamw, scale


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 100])
def test_the_rate_rises_to_the_top_and_falls_without_a_step_of_0(schedule, warmup, num_steps):
    rates = [scale(step, num_steps, warmup=warmup, schedule=schedule) for step in range(num_steps)]
    rising = round(warmup * num_steps)
    assert max(rates) == 1.0, f"the highest rate is reached: {rates}"
    assert min(rates) > 0, f"no step is wasted: {rates}"
    assert rates[:rising] == sorted(rates[:rising]), f"rises in {rising} steps: {rates}"
    assert rates[rising:] == sorted(rates[rising:], reverse=True), f"falls afterwards: {rates}"


def test_the_two_schedules_are_what_their_names_say():
    linear = [scale(step, 10, warmup=0.0, schedule="linear") for step in range(10)]
    assert linear == pytest.approx([1 - step / 10 for step in range(10)])
    cosine = [scale(step, 10, warmup=0.0, schedule="cosine") for step in range(10)]
    assert cosine == pytest.approx([(1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)])


def test_biases_and_layer_norms_do_not_decay_and_frozen_weights_are_left_out():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    optimizer = adamw(model, learning_rate=0.1, weight_decay=0.5)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {name: 0.5 if p.dim() == 2 else 0.0 for name, p in model.named_parameters() if p.requires_grad}
    assert {name: decays.get(id(p)) for name, p in model.named_parameters() if p.requires_grad} == expected
    assert len(decays) == len(expected), "nothing frozen is in the optimizer"


def test_only_decay_moves_a_weight_without_gradient():
    model = nn.Linear(3, 3)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    adamw(model, learning_rate=0.1, weight_decay=0.5).step()
    assert torch.allclose(model.weight, before[0] * (1 - 0.1 * 0.5)), "the matrix decays"
    assert torch.equal(model.bias, before[1]), "the bias does not"
