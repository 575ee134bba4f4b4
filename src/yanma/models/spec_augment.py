"""SpecAugment's masks in time, each recording's a pure function of (seed, recording)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..keyed import Site, derived, numbers
from .layout import Layout

# T frames of a pack, n of one recording


def masked_frames(layout: Layout, probability: float, length: int, least: int) -> Tensor:
    """(T,) bool: frames to hide, in spans of `length` (SpecAugment, Park et al. 2019; as wav2vec 2.0 has it).

    A recording of n frames has `probability * n / length` spans, rounded up or down at random so that this is their
    mean, but no less than `least` and no more than fit in side by side. All places are as likely; spans may overlap. A
    recording that is shorter than a span has none.
    """
    keys = derived(layout.document_keys.cpu(), Site.TIME_SPANS)
    parts = [_masked(key, n, probability, length, least) for key, n in zip(keys, layout.lengths, strict=True)]
    return torch.cat(parts).to(layout.device)


def _masked(key: Tensor, n: int, probability: float, length: int, least: int) -> Tensor:
    """(n,) bool: the same of one recording, known by `key`."""
    hidden = torch.zeros(n, dtype=torch.bool)
    places = max(n - length + 1, 0)
    drawn = numbers(key, torch.arange(places + 1))
    share = float((drawn[0] >> 11) & (2**53 - 1)) / 2**53
    count = min(max(int(probability * n / length + share), least), n // length, places)
    starts = drawn[1:].argsort(stable=True)[:count]
    hidden[(starts[:, None] + torch.arange(length)).flatten()] = True
    return hidden
