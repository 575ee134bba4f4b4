"""Texts between a tokenizer of sentence-transformers' and a model: one by one, and together in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..packing import plan
from .bounds import BOUNDS

# N texts, T tokens of all of them


@dataclass(frozen=True)
class Text:
    """One tokenised text, and what its batch says of all texts."""

    fields: dict[str, Tensor]
    """Token ids, and their types where there are some, (length,) each."""
    shared: dict[str, Any]

    def __len__(self) -> int:
        return len(self.fields["input_ids"])


def groups_of(lengths: Sequence[int], budget: int) -> list[tuple[int, ...]]:
    """Which texts are computed together; of those without tokens the first alone, at the end."""
    held = [i for i, length in enumerate(lengths) if length]
    empty = [i for i, length in enumerate(lengths) if not length]
    groups = plan([lengths[i] for i in held], budget, too_long="alone").groups if held else ()
    return [tuple(held[i] for i in group) for group in groups] + [(i,) for i in empty[:1]]


def split(features: dict[str, Any]) -> list[Text]:
    """A batch without padding as its texts."""
    bounds: list[int] = features.pop(BOUNDS).tolist()
    names = [name for name in ("input_ids", "token_type_ids") if name in features]
    rows = {name: features.pop(name)[0] for name in names}
    lengths = [end - start for start, end in pairwise(bounds)]
    parts = zip(*(row.split(lengths) for row in rows.values()), strict=True)
    return [Text(dict(zip(names, own, strict=True)), features) for own in parts]


def together(texts: Sequence[Text], tokenizer: Any) -> dict[str, Any]:
    """Texts as a batch without padding; those without tokens as the stock model has them, a hidden slot each."""
    if any(map(len, texts)):
        found = {name: torch.cat([text.fields[name] for text in texts])[None] for name in texts[0].fields}
        ends = torch.tensor([0, *(len(text) for text in texts)]).cumsum(0, dtype=torch.int32)
        return texts[0].shared | found | {BOUNDS: ends}
    slots = torch.zeros(len(texts), 1, dtype=torch.long)
    found = dict.fromkeys((*texts[0].fields, "attention_mask"), slots)
    return texts[0].shared | found | {"input_ids": slots + (tokenizer.pad_token_id or 0)}
