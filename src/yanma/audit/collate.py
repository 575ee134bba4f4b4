"""Documents as the arguments of a stock model: padded rows, or one row end to end; and its outputs apart again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .documents import Documents

# N documents, S slots of a padded row, T tokens of all documents

Feature = dict[str, Any]
"""`input_ids`, a list, and perhaps `labels`, a list or one number."""
Collate = Callable[[list[Feature]], Mapping[str, Any]]


def pad(pad_token_id: int, more: int = 0) -> Collate:
    """Rows (N, S) padded on the right, `more` slots wider than the longest document needs."""

    def collate(features: list[Feature]) -> dict[str, Tensor]:
        width = max(len(feature["input_ids"]) for feature in features) + more
        ids, valid = (
            [list(row) + [fill] * (width - len(row)) for row in rows]
            for rows, fill in (
                ([feature["input_ids"] for feature in features], pad_token_id),
                ([[1] * len(feature["input_ids"]) for feature in features], 0),
            )
        )
        batch = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(valid)}
        if "labels" in features[0]:
            batch["labels"] = _padded_labels([feature["labels"] for feature in features], width)
        return batch

    return collate


def _padded_labels(labels: Sequence[Any], width: int) -> Tensor:
    if not isinstance(labels[0], list):
        return torch.tensor(labels)
    return torch.tensor([label + [-100] * (width - len(label)) for label in labels])


def flatten(first_position: int) -> Collate:
    """One row (1, T) with positions that start anew in each document, as transformers' DataCollatorWithFlattening."""

    def collate(features: list[Feature]) -> dict[str, Tensor]:
        rows = [feature["input_ids"] for feature in features]
        positions = [range(first_position, first_position + len(row)) for row in rows]
        batch = {"input_ids": _end_to_end(rows), "position_ids": _end_to_end(positions)}
        if isinstance(features[0].get("labels"), list):
            batch["labels"] = _end_to_end([feature["labels"] for feature in features])
        return batch

    return collate


def _end_to_end(rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([[number for row in rows for number in row]])


def apart(output: Tensor, batch: Mapping[str, Any], documents: Documents, per_token: bool) -> list[Tensor]:
    """Each document's own part of an output: (N, S, ...) or (1, T, ...) by tokens, (N, ...) by documents.

    Raises ValueError where the batch has neither a row a document nor all of them in one row.
    """
    if not per_token:
        return list(output)
    num_rows, width = batch["input_ids"].shape
    lengths = [len(document) for document in documents]
    if num_rows == len(documents):
        mask = batch.get("attention_mask")
        if mask is not None and mask.dim() == 2:
            return [row[valid] for row, valid in zip(output, mask.bool(), strict=True)]
        return [row[:length] for row, length in zip(output, lengths, strict=True)]
    if (num_rows, width) == (1, sum(lengths)):
        return list(output[0].split(lengths))
    raise ValueError(
        f"the collator made input_ids of {num_rows} x {width} from {len(documents)} documents of {sum(lengths)} "
        f"tokens; an audit reads one row a document, or one row of all tokens"
    )
