"""Documents as the arguments of a stock model: padded rows, or one row end to end; and its outputs apart again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .documents import Documents

# N documents, S slots of a padded row, T tokens of all documents

Feature = dict[str, Any]
"""`input_ids`, a list, or a list of C texts; and perhaps `decoder_input_ids`, and `labels`, a list or one number."""
Collate = Callable[[list[Feature]], Mapping[str, Any]]


def pad(pad_token_id: int, more: int = 0) -> Collate:
    """Rows (N, S), or (N, C, S), padded on the right, `more` slots wider than the longest needs.

    Those of a decoder, and labels by token, are padded likewise, to their own width.
    """

    def collate(features: list[Feature]) -> dict[str, Tensor]:
        batch: dict[str, Tensor] = {}
        for prefix in ("", "decoder_"):
            name = prefix + "input_ids"
            if name in features[0]:
                rows = [feature[name] for feature in features]
                batch[name], batch[prefix + "attention_mask"] = _padded_rows(rows, pad_token_id, more)
        if "labels" in features[0]:
            batch["labels"] = _padded_labels([feature["labels"] for feature in features], more)
        return batch

    return collate


def _padded_rows(rows: Sequence[Sequence[Any]], fill: int, more: int) -> tuple[Tensor, Tensor]:
    """Ids, and 1 where a token stands."""
    if isinstance(rows[0][0], list):
        flat = _padded_rows([text for texts in rows for text in texts], fill, more)
        ids, valid = (x.view(len(rows), len(rows[0]), -1) for x in flat)
        return ids, valid
    return _filled(rows, fill, more), _filled([[1] * len(row) for row in rows], 0, more)


def _padded_labels(labels: Sequence[Any], more: int) -> Tensor:
    return _filled(labels, -100, more) if isinstance(labels[0], list) else torch.tensor(labels)


def _filled(rows: Sequence[Sequence[int]], fill: int, more: int) -> Tensor:
    width = max(map(len, rows)) + more
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])


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
