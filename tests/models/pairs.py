"""Pairs of a source and a target: random ones, the arguments of a head for them, and its outputs cut into pairs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from models.builders import SMALL
from yanma import PackedBatch
from yanma.models.family import Family

SOURCES, TARGETS = (17, 3, 9, 9, 2, 12), (4, 13, 1, 6, 6, 2)
EOS = 2


def generator(family: Family) -> str:
    """The family's head that writes."""
    return next(name for name in family.heads if name.endswith(("ForConditionalGeneration", "MTModel")))


def documents(lengths: tuple[int, ...], seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(5, 99, (length,), generator=draw) for length in lengths]


@dataclass(frozen=True)
class Pairs:
    """Sources and targets, and how a head is given them."""

    family: Family
    name: str
    sources: list[Tensor]
    targets: list[Tensor]

    @property
    def is_written(self) -> bool:
        """Whether the head is given targets; else it writes the source again."""
        return self.name.endswith(("Model", "ForConditionalGeneration"))

    @property
    def argument(self) -> str:
        """By which a head is given targets."""
        return "labels" if self.family.heads[self.name].token_labels else "decoder_input_ids"

    def packed(
        self, chosen: list[int] | None = None, **settings: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of a forward of these pairs, end to end."""
        chosen = list(range(len(self.sources))) if chosen is None else chosen
        batch = PackedBatch.from_sequences([self.sources[i] for i in chosen], ids=[i + 40 for i in chosen])
        if self.is_written:
            settings[self.argument] = PackedBatch.from_sequences([self.targets[i] for i in chosen])
        return (batch,), settings

    def alone(self, index: int) -> dict[str, Tensor]:
        """Arguments of a stock forward of one pair."""
        found = {"input_ids": self.sources[index][None]}
        if self.is_written:
            found[self.argument] = self.targets[index][None]
        return found

    def padded(self) -> dict[str, Tensor]:
        """Arguments of a padded forward, of which the targets are labels with -100, or have a mask."""
        pad = SMALL[self.family.model_type].pad_token_id
        found = {"input_ids": pad_sequence(self.sources, True, pad), "attention_mask": mask_of(self.sources)}
        if self.is_written and self.argument == "decoder_input_ids":
            found["decoder_input_ids"] = pad_sequence(self.targets, True, pad)
            found["decoder_attention_mask"] = mask_of(self.targets)
        elif self.is_written:
            found["labels"] = pad_sequence(self.targets, True, -100)
        return found

    def labels(self) -> dict[str, Tensor]:
        """Labels by document."""
        if self.name.endswith("ForSequenceClassification"):
            return {"labels": torch.arange(len(self.sources)) % 3}
        if self.name.endswith("ForQuestionAnswering"):
            starts = torch.tensor([len(source) // 2 for source in self.sources])
            return {"start_positions": starts, "end_positions": starts}
        return {}


def mask_of(documents: list[Tensor]) -> Tensor:
    return pad_sequence([torch.ones_like(document) for document in documents], True, 0)


def pairs(
    family: Family, name: str, sources: tuple[int, ...] = SOURCES, targets: tuple[int, ...] = TARGETS
) -> Pairs:
    """Random pairs; each source ends with the token that ends texts."""
    read = documents(sources, 1)
    for source in read:
        source[-1] = EOS
    return Pairs(family, name, read, documents(targets, 2))


def many(count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    draw = random.Random(3)
    sources, targets = ([draw.randint(1, 40) for _ in range(count)] for _ in range(2))
    return (1, 1, 2, 7, 16, 40, *sources), (1, 40, 3, 16, 1, 17, *targets)


def by_pair(output: Any, data: Pairs, chosen: list[int]) -> list[dict[str, Tensor]]:
    """All tensors of a flat output, cut into pairs."""
    read = [len(data.sources[i]) for i in chosen]
    written = [len(data.targets[i]) for i in chosen] if data.is_written else read
    found: list[dict[str, Tensor]] = [{} for _ in chosen]
    for key, value in output.items():
        if not isinstance(value, Tensor) or value.dim() == 0:
            continue
        by_document = key == "logits" and data.name.endswith("ForSequenceClassification")
        sizes = [1] * len(chosen) if by_document else read if key.startswith("encoder") else written
        for own, part in zip(found, value.split(sizes), strict=True):
            own[key] = part
    return found


def stock_by_pair(model: nn.Module, data: Pairs) -> list[dict[str, Tensor]]:
    """What a stock model gives for each pair alone."""
    found = []
    for index in range(len(data.sources)):
        output = model(**data.alone(index), use_cache=False)
        by_document = data.name.endswith("ForSequenceClassification")
        found.append(
            {
                key: value if key == "logits" and by_document else value[0]
                for key, value in output.items()
                if isinstance(value, Tensor) and value.dim() > 0
            }
        )
    return found


def ours_by_pair(model: nn.Module, data: Pairs, chosen: list[int] | None = None, **more: Any):
    chosen = list(range(len(data.sources))) if chosen is None else chosen
    arguments, settings = data.packed(chosen, **more)
    return by_pair(model(*arguments, **settings), data, chosen)
