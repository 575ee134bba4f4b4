"""Two processes learn what one learns, from the same hidden tokens."""

import json

import pytest

from runs.ranks import gradient_norms, launch
from yanma.runs.pretrain import pretrain
from yanma.runs.pretrain_config import load

OBJECTIVES = ("mlm", "rtd", "span-corruption")
PRETRAIN_ALL = """
import json, sys
from yanma.runs.pretrain_config import load
from yanma.runs.pretrain import pretrain
for flags in json.loads(sys.argv[1]):
    pretrain(load(flags=flags))
"""


def test_one_and_two_processes_learn_the_same(settings, tmp_path):
    """Steps of 60 tokens: some have one block, so a rank has none."""
    short = {"steps": 6, "batch_tokens": 60, "max_batch_tokens": 60, "vocab_size": 300, "dropout": 0.1}
    own = {"mlm": {"hard_tokens": True, "pseudo_perplexity_tokens": 0}}
    runs = {
        n: [
            settings(goal, **short, **own.get(goal, {}), out=str(tmp_path / f"{goal}-{n}"))
            for goal in OBJECTIVES
        ]
        for n in (1, 2)
    }
    for flags in runs[1]:
        pretrain(load(flags=flags))
    printed = launch(PRETRAIN_ALL, [json.dumps(runs[2])], 2, tmp_path / "log")
    assert "validation" in printed[0] and "validation" not in printed[1], "only the first rank speaks"
    for goal in OBJECTIVES:
        one, two = (json.loads((tmp_path / f"{goal}-{n}" / "metrics.json").read_text()) for n in (1, 2))
        assert (one["processes"], two["processes"]) == (1, 2)
        assert two["loss_per_step"] == pytest.approx(one["loss_per_step"], rel=1e-4)
        norms = [gradient_norms(tmp_path / f"{goal}-{n}") for n in (1, 2)]
        assert norms[1] == pytest.approx(norms[0], rel=1e-3), (
            "AdamW forgives gradients of the wrong size; we do not"
        )
