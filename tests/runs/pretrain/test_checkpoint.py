"""Checkpoints are whole or not there, hold no pickle, and bring everything back."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from yanma.errors import DataError
from yanma.loading.tokenizer import learn_tokenizer
from yanma.runs.checkpoint import Checkpoints, restore

TOKENIZER = learn_tokenizer(lambda: iter(["the card"]))


def trained(seed, width=4, steps=3):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Embedding(7, width), nn.Linear(width, 7))
    model[1].weight = model[0].weight  # shared, as heads share
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        model(torch.arange(7)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def test_model_optimizer_and_state_come_back(tmp_path):
    model, optimizer = trained(0)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, model, optimizer, {"step": 3}, {"losses": torch.tensor([1.5])}, TOKENIZER)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pt", ".bin", ".pkl", ".pth")]
    other, its = trained(1)
    state, tensors = restore(checkpoints.newest(), other, its)
    assert state == {"step": 3} and tensors["losses"].tolist() == [1.5]
    for one, two in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    for more in range(2):  # and what comes next is the same, moments included
        for net, mover in ((model, optimizer), (other, its)):
            (net(torch.arange(7)) * (more + 1)).square().mean().backward()
            mover.step()
            mover.zero_grad()
    assert torch.equal(model[0].weight, other[0].weight)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    Checkpoints(tmp_path).save(1, *trained(0), {}, {}, TOKENIZER)
    with pytest.raises(DataError, match="of another model"):
        restore(Checkpoints(tmp_path).newest(), *trained(0, width=6))


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("missing", [False, True])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken_without_it(tmp_path, name, missing):
    checkpoints = Checkpoints(tmp_path)
    for step, then in ((1, "begins again at step 0"), (2, "goes on from step-00000001, the one before")):
        checkpoints.save(step, *trained(0), {"step": step}, {}, TOKENIZER)
        newest = checkpoints.newest()
        kept = (newest / name).read_bytes()
        (newest / name).unlink() if missing else (newest / name).write_bytes(kept[:1])
        model, optimizer = trained(1)
        before = model[0].weight.clone()
        with pytest.raises(DataError) as caught:
            restore(newest, model, optimizer)
        said = str(caught.value)
        assert said.startswith(f"{newest}: this checkpoint is damaged (") and said.endswith(
            f"; delete this folder, and --resume {then}"
        )
        assert torch.equal(model[0].weight, before)
        (newest / name).write_bytes(kept)
    shutil.rmtree(newest)
    assert restore(checkpoints.newest(), *trained(1))[0] == {"step": 1}


def test_the_newest_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (9, 10, 100):
        checkpoints.save(step, *trained(0), {}, {}, TOKENIZER)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000100", "tokenizer"]
    assert checkpoints.newest().name == "step-00000100"


def test_wherever_saving_stops_the_checkpoint_before_is_whole(tmp_path, monkeypatch):
    genuine, calls = {"fsync": os.fsync, "replace": Path.replace}, []

    def stopping(name, at):
        def maybe(*args, **kwargs):
            calls.append(name)
            if len(calls) == at:
                raise KeyboardInterrupt
            return genuine[name](*args, **kwargs)

        return maybe

    checkpoints, at = Checkpoints(tmp_path), 0
    checkpoints.save(1, *trained(0), {"step": 1}, {}, TOKENIZER)
    checkpoints.save(2, *trained(0), {"step": 2}, {}, TOKENIZER)
    while True:
        at += 1
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", stopping("fsync", at))
            patch.setattr(Path, "replace", stopping("replace", at))
            try:
                checkpoints.save(3, *trained(1), {"step": 3}, {}, TOKENIZER)
            except KeyboardInterrupt:
                state, _ = restore(checkpoints.newest(), *trained(0))
                assert state["step"] in (2, 3)
                continue
        break
    assert at > 6, "saving flushes and renames several times"
    assert restore(checkpoints.newest(), *trained(0))[0]["step"] == 3
