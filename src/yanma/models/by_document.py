"""What Trainer hands to `compute_metrics` after packs: a row a pack, made a row a document again."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

# B packs, S tokens of the longest pack, N documents, L tokens of the longest document

_IGNORE = -100
"""What Trainer fills rows up with."""


def by_document(compute_metrics: Callable[..., dict[str, float]]) -> Callable[..., dict[str, float]]:
    """`compute_metrics` for Trainer with packs: it is given a row for each document, as from padded batches.

    Trainer(compute_metrics=by_document(seqeval_f1), data_collator=PackedCollator(seq_idx=True),
            args=TrainingArguments(label_names=["labels", "seq_idx"], ...))

    Of predictions, labels and inputs those that are by token, (B, S, ...), become (N, L, ...), filled up with -100;
    what is by document stays. Without `seq_idx` as the last of `label_names` it raises ValueError.
    """

    @wraps(compute_metrics)
    def of_documents(found: Any, **kwargs: Any) -> dict[str, float]:
        from transformers import EvalPrediction

        labels, seq_idx = _with_seq_idx(found.label_ids)
        runs = _runs(seq_idx)
        parts = {
            "predictions": _unpacked(found.predictions, runs, seq_idx.shape),
            "label_ids": _unpacked(labels[0] if len(labels) == 1 else labels, runs, seq_idx.shape),
            "inputs": _unpacked(found.inputs, runs, seq_idx.shape),
        }
        return compute_metrics(EvalPrediction(**parts, losses=found.losses), **kwargs)

    return of_documents


def _with_seq_idx(label_ids: Any) -> tuple[tuple[Any, ...], Any]:
    """The labels, and (B, S) which document each token is of."""
    fits = isinstance(label_ids, tuple) and len(label_ids) > 1
    last = label_ids[-1] if fits else None
    if last is None or getattr(last, "ndim", 0) != 2 or not all(_counts(row) for row in last):
        raise ValueError(
            "by_document needs seq_idx among the labels: PackedCollator(seq_idx=True), and "
            'TrainingArguments(label_names=["labels", "seq_idx"]), seq_idx last, eval_do_concat_batches=True'
        )
    return label_ids[:-1], last


def _counts(row: Any) -> bool:
    """Whether a row numbers documents, 0, 0, 1, ..., up to where it is filled up; labels in its place seldom do."""
    numbers = row[: int((row != _IGNORE).sum())]
    steps = numbers[1:] - numbers[:-1]
    return len(numbers) > 0 and numbers[0] == 0 and bool(((steps == 0) | (steps == 1)).all())


def _runs(seq_idx: Any) -> list[tuple[int, int, int]]:
    """(row, first slot, after the last) of each document."""
    runs = []
    for row, documents in enumerate(seq_idx):
        slots = (documents != _IGNORE).nonzero()[0]
        starts = [slot for slot in slots if slot == slots[0] or documents[slot] != documents[slot - 1]]
        ends = [*starts[1:], slots[-1] + 1] if len(slots) else []
        runs += [(row, int(start), int(end)) for start, end in zip(starts, ends, strict=True)]
    return runs


def _unpacked(values: Any, runs: list[tuple[int, int, int]], shape: tuple[int, int]) -> Any:
    if isinstance(values, tuple | list):
        return type(values)(_unpacked(value, runs, shape) for value in values)
    if isinstance(values, dict):
        return {name: _unpacked(value, runs, shape) for name, value in values.items()}
    if getattr(values, "shape", ())[:2] != shape:
        return values
    import numpy as np

    longest = max((end - start for _, start, end in runs), default=0)
    rows = np.full((len(runs), longest, *values.shape[2:]), _IGNORE, dtype=values.dtype)
    for place, (row, start, end) in enumerate(runs):
        rows[place, : end - start] = values[row, start:end]
    return rows
