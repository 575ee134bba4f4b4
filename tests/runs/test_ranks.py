"""What launchers ask for is done or refused, and ranks leave without a gradient what has none in a process alone."""

import json

import pytest
import torch

from runs.ranks import launch
from yanma.errors import ConfigError
from yanma.runs.loop import started

GRADIENTS = """
import json, sys
import torch
from torch import nn
from objectives.contrastive import examples, step_gradient
from objectives.test_several import OBJECTIVES, SHARES, mixed, models, names, topics
from yanma.objectives import Packed
from yanma.objectives.several import Several
folder, cases = json.loads(sys.argv[1])
for name, num_topics, num_names in cases:
    items = mixed(topics(num_topics), names(num_names))
    loss, gradient = step_gradient(Several(OBJECTIVES, SHARES), models(0.2), items, batching=Packed(20))
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else "alone"
    torch.save((loss, gradient), f"{folder}/{name}.{rank}.pt")
"""


def test_what_has_no_gradient_in_a_process_alone_has_none_on_two_ranks(tmp_path):
    """Of one item a rank has nothing; of one of each kind a rank has no gradient for the other's head."""
    cases = [("topics alone", 3, 0), ("one topic", 1, 0), ("one of each", 1, 1), ("many", 6, 4)]
    for num_processes in (1, 2):
        launch(GRADIENTS, [json.dumps([str(tmp_path), cases])], num_processes, tmp_path / "log")
    for name, _, num_names in cases:
        files = [tmp_path / f"{name}.{rank}.pt" for rank in ("alone", 0, 1)]
        (loss, alone), *ranks = (torch.load(file, weights_only=True) for file in files)
        without = {key for key, grad in alone.items() if grad is None}
        assert ("names.classifier.weight" in without) == (num_names == 0), f"{name}: {without}"
        assert without != set(alone)
        largest = max(float(grad.abs().max()) for grad in alone.values() if grad is not None)
        for its, gradient in ranks:
            assert its == pytest.approx(loss, rel=1e-5), name
            assert {key for key, grad in gradient.items() if grad is None} == without, name
            for key in alone.keys() - without:
                bound = {"rtol": 1e-4, "atol": 1e-6 * largest}
                torch.testing.assert_close(gradient[key], alone[key], **bound, msg=f"{name}: {key}")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ACCELERATE_USE_FSDP", "true", "asks for FSDP; each process holds the whole model here"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "asks for DeepSpeed; each process holds the whole model here"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "asks for Megatron-LM; each process holds"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", "asks for tensor or context parallelism; each process"),
        (
            "ACCELERATE_DYNAMO_BACKEND",
            "INDUCTOR",
            r"asks for torch.compile \(INDUCTOR\); nothing is compiled",
        ),
    ],
)
def test_what_a_launcher_asks_for_in_vain_is_refused(monkeypatch, own_accelerator, variable, value, message):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=message):
        started(bf16=False)


def test_what_a_launcher_sets_of_itself_is_no_wish(monkeypatch, own_accelerator):
    for variable in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"):
        monkeypatch.setenv(f"ACCELERATE_USE_{variable}", "false")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "NO")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert started(bf16=False).num_processes == 1
