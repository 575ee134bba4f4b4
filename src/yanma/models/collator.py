"""PackedCollator: examples to a pack by keywords, for transformers' Trainer and whoever else takes a data collator."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..batch import PackedBatch
from .by_keyword import one_row

_log = logging.getLogger("yanma")

# T tokens in the pack, N documents, L labels of a document

Example = Mapping[str, Any]

_OF_DOCUMENTS = ("start_positions", "end_positions", "next_sentence_label", "sentence_order_label")
_LABELS = ("labels", "label", "label_ids")
_KNOWN = ("input_ids", "attention_mask", "token_type_ids", *_LABELS, *_OF_DOCUMENTS)


@dataclass(frozen=True)
class PackedCollator:
    """Makes a batch without padding, for an unpadded model, out of examples as a tokenizer gives them.

    The batch is `input_ids` (1, T), `cu_seq_lens_q` (N + 1,) and, where the examples have them, `token_type_ids` (1, T)
    and labels. Labels that are a list of whole numbers are by token, (1, T); a number is a document's, (N,), and so is
    a list of floats, (N, L). A stock model would read one long text in such a batch: give it to an unpadded one.

    `next_token` is for causal language models: the label of each document's first token, which nobody predicts, is
    written as -100, so that Trainer counts what is scored.

    `seq_idx` adds (1, T) which document each token is of, by which `by_document` parts what Trainer hands to
    `compute_metrics`: there a pack of labels by token is one row.

    >>> batch = PackedCollator()([{"input_ids": [2, 7, 3], "label": 1}, {"input_ids": [2, 3], "label": 0}])
    >>> {name: tensor.tolist() for name, tensor in batch.items()}
    {'input_ids': [[2, 7, 3, 2, 3]], 'cu_seq_lens_q': [0, 3, 5], 'labels': [1, 0]}

    Raises ValueError for examples that are padded, that have not all the same fields, or fields it does not know.
    """

    next_token: bool = False
    seq_idx: bool = False

    def __post_init__(self) -> None:
        for name, value in (("next_token", self.next_token), ("seq_idx", self.seq_idx)):
            if not isinstance(value, bool):
                raise TypeError(
                    f"{name} is a {type(value).__name__}; it is True or False (a PackedCollator takes no tokenizer: "
                    f"examples come tokenised, and nothing is padded)"
                )

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        fields = _fields(examples)
        for index, example in enumerate(examples):
            _check(index, example, fields)
        types = [example["token_type_ids"] for example in examples] if "token_type_ids" in fields else None
        batch = PackedBatch.from_sequences([example["input_ids"] for example in examples], types)
        found = one_row(batch)
        for name in _LABELS:
            if name in fields:
                found["labels"] = self._labels([example[name] for example in examples], batch)
                if len(found["labels"]) == 1 < len(examples) and not (self.seq_idx or self.next_token):
                    _warn_of_metrics()
        for name in _OF_DOCUMENTS:
            if name in fields:
                found[name] = torch.tensor([int(example[name]) for example in examples])
        if self.seq_idx:
            lengths = torch.tensor(batch.lengths)
            found["seq_idx"] = torch.repeat_interleave(torch.arange(len(lengths)), lengths)[None]
        return found

    def _labels(self, given: Sequence[Any], batch: PackedBatch) -> Tensor:
        """(1, T), (N,) or (N, L)."""
        labels = [torch.as_tensor(label) for label in given]
        if labels[0].dim() == 0 or labels[0].is_floating_point():
            if self.next_token:
                raise ValueError("next_token is for labels by token; these are by document")
            return torch.stack(labels)
        for index, (label, length) in enumerate(zip(labels, batch.lengths, strict=True)):
            if label.shape != (length,):
                raise ValueError(
                    f"labels of example {index} are {tuple(label.shape)} whole numbers for {length} tokens; "
                    f"give one a token, or floats where a document has several labels"
                )
        flat = torch.cat(labels)
        return (flat.index_fill(0, batch.cu_seqlens[:-1].long(), -100) if self.next_token else flat)[None]


@lru_cache(maxsize=1)
def _warn_of_metrics() -> None:
    """Once in a process."""
    _log.warning(
        "PackedCollator: a pack of labels by token is one row in what Trainer hands to compute_metrics, though it has "
        "several documents; for metrics by document: PackedCollator(seq_idx=True) and yanma.models.by_document"
    )


def _fields(examples: Sequence[Example]) -> frozenset[str]:
    """The names that the first example has; those that are None count as absent."""
    if not examples:
        raise ValueError("no examples to pack")
    for index, example in enumerate(examples):
        if not isinstance(example, Mapping):
            raise ValueError(
                f"example {index} is a {type(example).__name__}; give dicts as a tokenizer gives them"
            )
    fields = frozenset(name for name, value in examples[0].items() if value is not None)
    unknown = sorted(fields - set(_KNOWN))
    if unknown:
        raise ValueError(
            f"examples have {unknown[0]!r}, which a pack has no place for; leave that column out"
        )
    if "input_ids" not in fields:
        raise ValueError("example 0 has no input_ids; tokenise the texts first")
    if len(fields.intersection(_LABELS)) > 1:
        raise ValueError(
            f"examples have {' and '.join(sorted(fields.intersection(_LABELS)))}; give one of them"
        )
    return fields


def _check(index: int, example: Example, fields: frozenset[str]) -> None:
    own = frozenset(name for name, value in example.items() if value is not None)
    if own != fields:
        name = sorted(own ^ fields)[0]
        raise ValueError(f"example {index} {'has' if name in own else 'lacks'} {name!r}, unlike example 0")
    if "attention_mask" in fields and not torch.as_tensor(example["attention_mask"]).all():
        raise ValueError(f"example {index} is padded (its attention_mask has 0); tokenise without padding")
