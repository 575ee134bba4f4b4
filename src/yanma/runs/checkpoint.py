"""Checkpoints: all that a run needs to go on as if it had never stopped, whole or not at all, and no pickle.

checkpoints/step-00000120/weights.safetensors     parameters and buffers by name
                          optimizer.safetensors   AdamW's state by parameter and name
                          state.json              where the run is, and its figures so far
checkpoints/tokenizer/                            where the run learned or took one

A checkpoint is written under another name, flushed to the disk and renamed: a process that is killed at any moment
leaves the one before. The newest two are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from ..errors import DataError
from ..files import flush_to_disk, full_disk_is_an_os_error, remove, write
from ..loading.pretrained import quiet

_KEPT = 2
_NEW = ".new"


class Checkpoints:
    """Of one run, in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer = folder / "tokenizer"

    def newest(self) -> Path | None:
        """The checkpoint of the latest step; None where there is none."""
        return max(self.whole(), default=None)

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        """Write what a run is after `step` steps; `tensors` are kept beside the optimiser's state."""
        if not self.tokenizer.is_dir():
            self._save_tokenizer(tokenizer)
        place = self.folder / f"step-{step:08}"
        fresh = place.with_name(place.name + _NEW)
        for left in self.folder.glob(f"*{_NEW}"):  # by a process that was killed
            remove(left)
        fresh.mkdir(parents=True)
        try:
            with full_disk_is_an_os_error():
                save_file(_weights(model), fresh / "weights.safetensors")
                moments = _moments(model, optimizer)
                save_file({**moments, **_named("run", tensors)}, fresh / "optimizer.safetensors")
            for path in fresh.iterdir():
                flush_to_disk(path)
            write(fresh / "state.json", json.dumps(dict(state)))
            remove(place)  # the same step, written again
            fresh.replace(place)
        finally:
            remove(fresh)
        flush_to_disk(self.folder)
        for old in sorted(self.whole())[:-_KEPT]:
            gone = old.with_name(old.name + _NEW)  # what is half removed is no checkpoint
            old.replace(gone)
            remove(gone)

    def _save_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Once, before the first checkpoint."""
        fresh = self.tokenizer.with_name(self.tokenizer.name + _NEW)
        remove(fresh)
        with quiet():
            tokenizer.save_pretrained(fresh)
        for path in fresh.iterdir():
            flush_to_disk(path)
        remove(self.tokenizer)
        fresh.replace(self.tokenizer)
        flush_to_disk(self.folder)

    def whole(self) -> list[Path]:
        """All that are kept, in no order."""
        return [path for path in self.folder.glob("step-*") if not path.name.endswith(_NEW)]


def restore(
    place: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Bring model and optimiser to where they were; returns the state and the run's own tensors.

    Raises DataError where the checkpoint is damaged, or not of this model; nothing is moved then.
    """
    try:
        weights, stored = (load_file(place / f"{name}.safetensors") for name in ("weights", "optimizer"))
        state: dict[str, Any] = json.loads((place / "state.json").read_text("utf-8"))
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(_damaged(place, error)) from None
    own = _weights(model)
    if {name: x.shape for name, x in own.items()} != {name: x.shape for name, x in weights.items()}:
        raise DataError(f"{place}: is of another model than these settings make; resume with the run's own")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            prefix = f"optimizer/{names[parameter]}/"
            found = {key.removeprefix(prefix): x for key, x in stored.items() if key.startswith(prefix)}
            # AdamW counts steps in a tensor on the host unless its kernel is fused. Clones, for what safetensors gives
            # are views into one file.
            optimizer.state[parameter] = {
                key: x.clone().to(parameter.device if x.dim() or group.get("fused") else "cpu")
                for key, x in found.items()
            }
    run = {key.removeprefix("run/"): x for key, x in stored.items() if key.startswith("run/")}
    return state, run


def _damaged(place: Path, error: Exception) -> str:
    others = [path.name for path in Checkpoints(place.parent).whole() if path != place]
    then = f"goes on from {max(others)}, the one before" if others else "begins again at step 0"
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{place}: this checkpoint is damaged ({reason}); delete this folder, and --resume {then}"


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Each parameter once, under its first name, and buffers."""
    kept = set(model.state_dict())
    named = [*model.named_parameters(), *((n, b) for n, b in model.named_buffers() if n in kept)]
    return {name: tensor.detach() for name, tensor in named}


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    moments: dict[str, Tensor] = {}
    for parameter, state in optimizer.state.items():
        moments |= _named(f"optimizer/{names[parameter]}", state)
    return moments


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor.detach().contiguous() for name, tensor in tensors.items()}
