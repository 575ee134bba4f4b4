"""Stock transformers as a user would write it: padded to a fixed length, to the longest, and sorted by length first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..data import collate
from ..data.examples import IGNORE, Example
from .contestant import Compute, Contestant, Cuts, Rows, Run, batched
from .outputs import Kind, of_rows
from .workloads import Workload

# B texts of a batch, S slots of its rows

SIZES = (8, 16, 32, 64)
STATIC, LONGEST, SORTED = "HF, static padding", "HF, padded to the longest", "HF, length-sorted"
BY_LENGTH = partial(Rows, by_length=True)

Collate = Callable[[Sequence[Example]], dict[str, Tensor]]
"""All that a model is given for some texts, labels among it."""


def inference(model: nn.Module, kind: Kind, width: int) -> list[Contestant]:
    """The three ways of padding, through a model in eval mode; static rows are `width` slots wide."""
    return [
        batched(name, padded(model, kind, slots), SIZES, cuts) for name, cuts, slots in _three_ways(width)
    ]


def sorted_bf16(model: nn.Module, kind: Kind) -> Contestant:
    """The best of the three with weights in bf16."""
    return batched(f"{SORTED}, bf16", padded(model, kind), SIZES, BY_LENGTH, precision="bf16")


def padded(model: nn.Module, kind: Kind, width: int | None = None) -> Compute:
    """One batch as a rectangle, to `width` slots or to the longest."""

    def compute(pack: Sequence[Example]) -> list[Tensor]:
        arguments = rectangle(model, pack, width)
        with torch.inference_mode():
            return of_rows(kind, model(**arguments), arguments["attention_mask"])

    return compute


def training(model: nn.Module, width: int) -> list[Contestant]:
    """The gradient of a classifier in the three ways of padding."""

    def collate(slots: int | None, pack: Sequence[Example]) -> dict[str, Tensor]:
        return rectangle(model, pack, slots) | {"labels": torch.tensor([each.targets for each in pack])}

    return [
        Contestant(name, partial(_gradient, model, partial(collate, slots), cuts), SIZES, cuts, model=model)
        for name, cuts, slots in _three_ways(width)
    ]


def pretraining(
    model: nn.Module, tokenizer: Any, special_ids: Sequence[int], width: int, sizes: tuple[int, ...]
) -> list[Contestant]:
    """The gradient of a masked language model in the three ways of padding, with DataCollatorForLanguageModeling.

    `tokenizer` is what the collator asks about special tokens and padding.
    """

    def steps(cuts: Cuts, slots: int | None) -> Run:
        from transformers import DataCollatorForLanguageModeling

        collator = DataCollatorForLanguageModeling(tokenizer, pad_to_multiple_of=slots)
        hidden, given = partial(_hidden, collator, frozenset(special_ids)), partial(_given, model, slots)
        return lambda workload, size: _gradient(
            model, given if workload.labels else hidden, cuts, workload, size
        )

    return [
        Contestant(name, steps(cuts, slots), sizes, cuts, model=model)
        for name, cuts, slots in _three_ways(width)
    ]


def rectangle(model: nn.Module, pack: Sequence[Example], width: int | None = None) -> dict[str, Tensor]:
    """`input_ids` (B, S) and `attention_mask` (B, S), on the model's device; S is `width`, or the longest's length."""
    longest = max(each.num_tokens for each in pack)
    config: Any = model.config
    found = collate.padded(pack, width or longest, int(config.pad_token_id or 0))
    return {name: x.to(next(model.parameters()).device) for name, x in found.items()}


def _three_ways(width: int) -> list[tuple[str, Cuts, int | None]]:
    """Name, batches, and the width of rows that is not the longest's."""
    return [
        (f"{STATIC} to {width}", partial(Rows, width=width), width),
        (LONGEST, Rows, None),
        (SORTED, BY_LENGTH, None),
    ]


def _gradient(model: Any, collate: Collate, cuts: Cuts, workload: Workload, size: int) -> list[Tensor]:
    """The mean loss over all that is scored; its gradient is added up batch by batch, in train mode."""
    model.train()
    model.zero_grad(set_to_none=True)
    groups = cuts(size).groups(workload.lengths)
    batches = [collate([workload.examples[index] for index in group]) for group in groups]
    counts = [int((batch["labels"] != IGNORE).sum()) for batch in batches]
    total = torch.zeros(())
    for batch, count in zip(batches, counts, strict=True):
        loss = model(**batch).loss * (count / sum(counts))
        loss.backward()
        total = total + loss.detach()
    return [total]


def _hidden(collator: Any, special_ids: frozenset[int], pack: Sequence[Example]) -> dict[str, Tensor]:
    """Clean texts, corrupted: as a tokenizer leaves them that was asked for `special_tokens_mask`.

    It spares the collator finding them.
    """
    texts = [list(each.tokens.input_ids) for each in pack]
    return dict(
        collator(
            [
                {"input_ids": text, "special_tokens_mask": [int(token in special_ids) for token in text]}
                for text in texts
            ]
        )
    )


def _given(model: nn.Module, width: int | None, pack: Sequence[Example]) -> dict[str, Tensor]:
    """Texts that are corrupted already."""
    found = rectangle(model, pack, width)
    labels = torch.full_like(found["input_ids"], IGNORE)
    labels[found["attention_mask"].bool()] = torch.cat([each.targets for each in pack])
    return found | {"labels": labels}
