"""The floor counts the model's own products and nothing else."""

import torch

from yanma.bench import floor
from yanma.bench.floor import Floor, linear_shapes, peak
from yanma.bench.workloads import drawn

from .conftest import MAX_LENGTH


def test_shapes_are_those_of_layers_that_every_token_goes_through(models):
    per_layer = {(32, 32): 4, (32, 64): 1, (64, 32): 1}
    assert linear_shapes(models.base) == {shape: 2 * count for shape, count in per_layer.items()}
    assert linear_shapes(models.classifier) == linear_shapes(models.base), (
        "pooler and classifier see one token a text"
    )


def test_a_floor_is_the_work_over_the_fastest_speed(models, monkeypatch):
    monkeypatch.setattr(floor, "peak", lambda shapes, dtype: 1e6)
    workload = drawn(models.tokenizer, 5, MAX_LENGTH)
    per_token = 2 * 2 * (4 * 32 * 32 + 2 * 32 * 64)
    shapes = linear_shapes(models.base)
    assert Floor(shapes, torch.float32).turn(workload)() == workload.num_tokens * per_token / 1e6
    assert (
        Floor(shapes, torch.float32, passes=3).turn(workload)() == 3 * workload.num_tokens * per_token / 1e6
    )


def test_a_peak_is_measured(models):
    assert peak({(64, 64): 1}, torch.float32) > 1e6
