"""Some examples as one batch: packed for `unpad(model)`, or padded for the stock model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from ..batch import PackedBatch
from .examples import Example

# T tokens of the examples, N examples


def packed(examples: Sequence[Example]) -> PackedBatch:
    """The examples, of one sequence each, end to end; each is known by its key, so dropout is the same in every batch.

    >>> from yanma.data.examples import Tokens
    >>> packed([Example(7, (Tokens([2, 5, 3]),), 1), Example(4, (Tokens([2, 3]),), 0)])
    PackedBatch(input_ids=tensor([2, 5, 3, 2, 3]), lengths=(3, 2), token_type_ids=None, ids=(7, 4))
    """
    return PackedBatch.from_sequences(
        [example.tokens.input_ids for example in examples],
        _token_types(examples),
        ids=[example.key for example in examples],
    )


def padded(examples: Sequence[Example], length: int, pad_token_id: int) -> dict[str, Tensor]:
    """The arguments of a stock model: int64 (N, length) each, rows padded on the right.

    The logits of the valid slots, `logits[attention_mask.bool()]`, are those that the pack gives, in the same order.

    >>> from yanma.data.examples import Tokens
    >>> padded([Example(0, (Tokens([2, 5, 3]),), 1), Example(1, (Tokens([2, 3]),), 0)], 4, 0)["input_ids"].tolist()
    [[2, 5, 3, 0], [2, 3, 0, 0]]
    """
    for example in examples:
        if example.num_tokens > length:
            raise ValueError(f"{example.where} has {example.num_tokens} tokens; a row is {length} long")
    lengths = torch.tensor([example.num_tokens for example in examples])
    valid = torch.arange(length) < lengths[:, None]  # (N, length)
    arguments = {
        "input_ids": _spread([example.tokens.input_ids for example in examples], valid, pad_token_id),
        "attention_mask": valid.long(),
    }
    token_types = _token_types(examples)
    if token_types is not None:
        arguments["token_type_ids"] = _spread(token_types, valid, 0)
    return arguments


def _spread(rows: Sequence[Sequence[int] | Tensor], valid: Tensor, value: int) -> Tensor:
    filled = torch.full(valid.shape, value, dtype=torch.int64)
    filled[valid] = torch.tensor(list(chain.from_iterable(rows)), dtype=torch.int64)
    return filled


def _token_types(examples: Sequence[Example]) -> list[Sequence[int]] | None:
    types = [e.tokens.token_type_ids for e in examples if e.tokens.token_type_ids is not None]
    if types and len(types) != len(examples):
        raise ValueError(
            "some examples have token_type_ids and some have none; encode them with one tokenizer"
        )
    return types or None
