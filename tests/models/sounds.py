"""Random recordings, and what models that hear make of them, cut into recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from yanma.models.family import Head

SAMPLES = (100, 11, 61, 61, 17, 200)
"""16, 1, 9, 9, 2 and 32 frames of small models; of the last sample of the first, second and fifth none."""
FRAMES = tuple((samples - 11) // 6 + 1 for samples in SAMPLES)


def recordings(samples: Sequence[int] = SAMPLES) -> list[Tensor]:
    """Random ones, of numbers that bfloat16 has."""
    draw = torch.Generator().manual_seed(7)
    return [torch.randn(count, generator=draw).bfloat16().float() for count in samples]


def padded(sounds: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Arguments of a forward of all of them."""
    ones = [torch.ones(len(sound), dtype=torch.long) for sound in sounds]
    values = pad_sequence([sound.to(dtype) for sound in sounds], batch_first=True)
    return {"input_values": values, "attention_mask": pad_sequence(ones, batch_first=True)}


def by_recording(output: Any, head: Head, frames: Sequence[int]) -> list[dict[str, Tensor]]:
    """All tensors of a padded output, cut into recordings; hidden states by number. What lies in padding is 0."""
    found: list[dict[str, Tensor]] = [{} for _ in frames]
    values = {key: value for key, value in output.items() if isinstance(value, Tensor) and value.dim()}
    values |= {f"hidden_states.{i}": state for i, state in enumerate(output.get("hidden_states") or ())}
    for key, value in values.items():
        is_whole = key in head.document_outputs
        assert is_whole or not any(row[n:].any() for row, n in zip(value, frames, strict=True)), key
        for own, row, n in zip(found, value, frames, strict=True):
            own[key] = row if is_whole else row[:n]
    return found


def alone(model: nn.Module, sounds: Sequence[Tensor], head: Head, **more: Any) -> list[dict[str, Tensor]]:
    """What a model gives for each recording by itself."""
    found = []
    for sound in sounds:
        output = model(sound.to(next(model.parameters()).dtype)[None], **more)
        found += by_recording(output, head, [(len(sound) - 11) // 6 + 1])
    return found


@dataclass(frozen=True)
class Recordings:
    """Recordings, and a head that is given them: what `measured.Subject` is for texts."""

    head: Head
    sounds: Sequence[Tensor]

    def __len__(self) -> int:
        return len(self.sounds)

    def together(self, model: nn.Module) -> dict[str, list[Tensor]]:
        output = model(**padded(self.sounds, next(model.parameters()).dtype))
        return _by_name(
            by_recording(output, self.head, [(len(sound) - 11) // 6 + 1 for sound in self.sounds])
        )

    def alone(self, model: nn.Module) -> dict[str, list[Tensor]]:
        return _by_name(alone(model, self.sounds, self.head))

    def changed(self, index: int) -> Recordings:
        others = [-sound.flip(0) if i == index else sound for i, sound in enumerate(self.sounds)]
        return replace(self, sounds=others)

    def chosen(self, indices: Sequence[int]) -> Recordings:
        return replace(self, sounds=[self.sounds[i] for i in indices])


def _by_name(outputs: list[dict[str, Tensor]]) -> dict[str, list[Tensor]]:
    return {key: [own[key] for own in outputs] for key in outputs[0]}
