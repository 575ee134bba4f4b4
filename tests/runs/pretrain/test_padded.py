"""Padded rows are learned and measured as packs are; the model with the lowest validation loss is kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from runs.ranks import gradient_norms
from yanma.errors import ConfigError
from yanma.runs.folder import RunFolder
from yanma.runs.language import LanguageJudge
from yanma.runs.pretrain import pretrain
from yanma.runs.pretrain_config import PretrainConfig

OBJECTIVES = ("mlm", "causal-lm")


def figures(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text("utf-8"))


def leaves(told, path=""):
    """The numbers of nested figures, by where they stand."""
    if isinstance(told, dict):
        return {k: v for name, inner in told.items() for k, v in leaves(inner, f"{path}/{name}").items()}
    return {path: told}


@pytest.mark.parametrize(
    ("objective", "flags"),
    [
        ("mlm", {"unit": "word", "hard_tokens": True, "pseudo_perplexity_tokens": 40}),
        ("mlm", {"blocks": "join", "streaming": True, "pseudo_perplexity_tokens": 10}),
        ("causal-lm", {}),
        ("causal-lm", {"from_scratch": "llama-tiny"}),
    ],
    ids=lambda given: given if isinstance(given, str) else "+".join(given) or "plain",
)
def test_padded_learns_and_measures_what_packed_does(config, corpus, tmp_path, objective, flags):
    how = {"steps": 6, "evaluate_every": 3, "dropout": 0, "validation": str(corpus), "vocab_size": 150}
    packed, padded = (
        pretrain(
            config(
                objective,
                **how | flags,
                batching=batching,
                max_batch_tokens=200,
                out=str(tmp_path / batching),
            )
        )
        for batching in ("packed", "padded")
    )
    one, other = figures(packed.folder), figures(padded.folder)
    losses = one["loss_per_step"]
    assert other["loss_per_step"] == pytest.approx(losses, abs=1e-4)
    assert len(losses) == 6 and max(losses) - min(losses) > 0.05, f"a flat curve shows nothing: {losses}"
    norms = [gradient_norms(run.folder) for run in (packed, padded)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4), (
        "AdamW forgives gradients of the wrong size; we do not"
    )
    computed = [each["padding_computed"] for each in other["validations"]]
    assert max(computed) > 0.01 and one["validations"][0]["padding_computed"] == 0
    measured = [leaves([each["validation"] for each in told["validations"]][-1]) for told in (one, other)]
    assert measured[1] == pytest.approx(measured[0], rel=1e-4) and len(measured[0]) > 3
    assert (packed.pseudo_perplexity is not None) == (objective == "mlm")
    if objective == "mlm":
        assert leaves(padded.pseudo_perplexity) == pytest.approx(leaves(packed.pseudo_perplexity), rel=1e-4)
        assert packed.pseudo_perplexity["tokens"] == flags["pseudo_perplexity_tokens"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_how_padded_rows_share_rectangles_moves_no_result(config, tmp_path, objective):
    how = {"batching": "padded", "steps": 4, "dropout": 0}
    few, many = (
        figures(pretrain(config(objective, **how, max_batch_tokens=n, out=str(tmp_path / str(n)))).folder)
        for n in (48, 1000)
    )
    assert few["loss_per_step"] == pytest.approx(many["loss_per_step"], abs=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_padded_run_goes_on_with_the_same_bits(config, tmp_path, objective):
    how = {"batching": "padded", "steps": 6, "dropout": 0.1, "save_every": 3}
    done = pretrain(config(objective, **how))
    checkpoints = RunFolder(done.folder, PretrainConfig).checkpoints
    last = checkpoints.newest()
    whole = load_file(last / "weights.safetensors")
    last.rename(tmp_path / "gone")
    assert checkpoints.newest().name == "step-00000003"
    pretrain(config(objective, **how), resume=True)
    again = load_file(last / "weights.safetensors")
    assert again.keys() == whole.keys() and all(torch.equal(again[name], whole[name]) for name in whole)


@pytest.mark.parametrize("objective", ["rtd", "span-corruption"])
def test_padded_is_refused_by_name_of_what_is_always_packed(config, objective):
    with pytest.raises(
        ConfigError,
        match=rf"`batching` padded goes with mlm and causal-lm; {objective} is packed",
    ):
        config(objective, batching="padded")


def kept_of(config, monkeypatch, objective, losses):
    """The run, and after which of four validations with these made-up losses the kept model was as it is."""
    seen, genuine = [], LanguageJudge.validate

    def made_up(self, accelerator):
        found = genuine(self, accelerator)
        model = getattr(self.compute.model, "discriminator", self.compute.model)
        seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return replace(found, loss=losses[len(seen) - 1])

    monkeypatch.setattr(LanguageJudge, "validate", made_up)
    more = {"vocab_size": 300} if objective == "span-corruption" else {}
    done = pretrain(config(objective, steps=4, evaluate_every=1, **more))
    assert len(seen) == 4
    kept = load_file(done.folder / "model" / "model.safetensors")
    same = [
        all(torch.equal(kept[name], tensor) for name, tensor in each.items() if name in kept) for each in seen
    ]
    assert sum(same) == 1, "weights moved between all of them"
    return done, same.index(True) + 1


@pytest.mark.parametrize("objective", ["mlm", "causal-lm", "span-corruption"])
def test_the_model_with_the_lowest_validation_loss_is_kept_and_of_equals_the_earlier(
    config, monkeypatch, objective
):
    done, kept = kept_of(config, monkeypatch, objective, [3.0, 1.0, 2.0, 1.0])
    assert kept == done.best_step == figures(done.folder)["best"]["step"] == 2


def test_of_replaced_tokens_the_last_model_is_kept(config, monkeypatch):
    """A better generator makes the discriminator's loss higher."""
    done, kept = kept_of(config, monkeypatch, "rtd", [1.0, 2.0, 3.0, 4.0])
    assert kept == done.best_step == 4 and figures(done.folder)["best"]["rank"] is None
