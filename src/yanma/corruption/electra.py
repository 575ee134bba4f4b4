"""Replaced-token detection (ELECTRA, Clark et al. 2020): a generator's tokens stand where tokens were hidden."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..keyed import Site
from .draws import drawn, example_keys, share
from .layout import Layout
from .plan import IGNORE, Corrupted
from .vocabulary import Vocabulary

# N examples, T tokens, K of them hidden, V tokens in the vocabulary, R rows of a block

_BLOCK_NUMBERS = 2**21
"""Chances that are there at once, 16 MiB, where that is more than the least number of rows."""
_LEAST_ROWS = 16
"""Thinner products are not faster; with 250,002 tokens the chances of so many rows are 31 MiB."""


def replaced_tokens(
    corrupted: Corrupted,  # (T,)
    logits: Tensor
    | Callable[[slice], Tensor],  # (K, V), the generator's at the hidden tokens, in their order
    lengths: Sequence[int] | Tensor,  # (N,)
    vocabulary: Vocabulary,
    *,
    seed: int,
    epoch: int,
    examples: Sequence[int] | Tensor,  # (N,)
) -> Corrupted:
    """What the discriminator reads, and its labels: 1 where a token is not the true one, 0 elsewhere.

    Special tokens are labelled IGNORE. Each token is drawn from the softmax of its logits, special tokens left out, by
    a number of its own: on one machine a function of (seed, epoch, example) and the logits. On another, rounding may
    draw a neighbour. `logits` may be a function that makes those of a slice of rows, (R, V): it is asked for a few rows
    at a time, so that those of all are never there at once.

    >>> from yanma.corruption import Plan
    >>> vocabulary = Vocabulary(size=9, special_ids=(0,), mask_id=8)
    >>> hidden = Plan(vocabulary)([0, 3, 4, 5], seed=0, epoch=0, example=0)
    >>> sure_of_7 = torch.full((1, 9), -50.0).index_fill(1, torch.tensor([7]), 50.0)
    >>> pair = replaced_tokens(hidden, sure_of_7, [4], vocabulary, seed=0, epoch=0, examples=[0])
    >>> pair.input_ids.tolist(), pair.labels.tolist()
    ([0, 7, 4, 5], [-100, 1, 0, 0])

    Raises ValueError where there is not one row of logits for each hidden token, as wide as the vocabulary.
    """
    hidden = corrupted.labels != IGNORE
    true = torch.where(hidden, corrupted.labels, corrupted.input_ids)
    places = hidden.nonzero().flatten()
    if isinstance(logits, Tensor) and logits.shape != (len(places), vocabulary.size):
        raise ValueError(
            f"logits are {tuple(logits.shape)}; {len(places)} hidden tokens of a vocabulary of {vocabulary.size} "
            f"need {(len(places), vocabulary.size)}"
        )
    rows_of = logits.__getitem__ if isinstance(logits, Tensor) else logits
    layout = Layout.of(lengths, len(true), true.device)
    keys = example_keys(seed, epoch, examples, true.device)
    lot = share(drawn(keys[layout.example[places]], Site.SUBSTITUTE, layout.place[places]))
    read = true.clone()
    step = max(_LEAST_ROWS, _BLOCK_NUMBERS // vocabulary.size)
    for start in range(0, len(places), step):
        block = slice(start, min(start + step, len(places)))
        read[places[block]] = _drawn_tokens(rows_of(block), lot[block], vocabulary).to(read.device)
    labels = (read != true).long().masked_fill(~vocabulary.hideable(true), IGNORE)
    return Corrupted(read, labels)


def _drawn_tokens(logits: Tensor, lot: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(R,) int64: where each lot (R,), 0 to 1, falls among the summed chances of logits (R, V)."""
    if logits.shape != (len(lot), vocabulary.size):
        raise ValueError(
            f"logits of {len(lot)} rows were asked for, and of {vocabulary.size} tokens; got {tuple(logits.shape)}"
        )
    is_special = vocabulary.is_special.to(logits.device)
    upto = logits.detach().to(torch.float64, copy=True).masked_fill_(is_special, -torch.inf)
    upto.sub_(upto.amax(1, keepdim=True)).exp_().cumsum_(1)  # softmax's sums, up to a factor
    return torch.searchsorted(upto, (lot.to(upto.device) * upto[:, -1])[:, None], right=True)[:, 0]
