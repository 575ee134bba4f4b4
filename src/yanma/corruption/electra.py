"""Replaced-token detection (ELECTRA, Clark et al. 2020): a generator's tokens stand where tokens were hidden."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .draws import Drawn, drawn, example_keys, share
from .layout import Layout
from .plan import IGNORE, Corrupted
from .vocabulary import Vocabulary

# N examples, T tokens, K of them hidden, V tokens in the vocabulary


def replaced_tokens(
    corrupted: Corrupted,  # (T,)
    logits: Tensor,  # (K, V), the generator's at the tokens that were hidden, in their order
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
    draw a neighbour.

    >>> from yanma.corruption import Plan
    >>> vocabulary = Vocabulary(size=9, special_ids=(0,), mask_id=8)
    >>> hidden = Plan(vocabulary)([0, 3, 4, 5], seed=0, epoch=0, example=0)
    >>> sure_of_7 = torch.full((1, 9), -50.0).index_fill(1, torch.tensor([7]), 50.0)
    >>> pair = replaced_tokens(hidden, sure_of_7, [4], vocabulary, seed=0, epoch=0, examples=[0])
    >>> pair.input_ids.tolist(), pair.labels.tolist()
    ([0, 7, 4, 5], [-100, 1, 0, 0])

    Raises ValueError where there is not one row of logits for each hidden token.
    """
    hidden = corrupted.labels != IGNORE
    true = torch.where(hidden, corrupted.labels, corrupted.input_ids)
    places = hidden.nonzero().flatten()
    if logits.shape != (len(places), vocabulary.size):
        raise ValueError(
            f"logits are {tuple(logits.shape)}; {len(places)} hidden tokens of a vocabulary of {vocabulary.size} "
            f"need {(len(places), vocabulary.size)}"
        )
    layout = Layout.of(lengths, len(true), true.device)
    keys = example_keys(seed, epoch, examples, true.device)
    lot = share(drawn(keys[layout.example[places]], Drawn.TOKEN, layout.place[places]))
    chances = (
        logits.detach().double().masked_fill(vocabulary.is_special.to(logits.device), -torch.inf).softmax(1)
    )
    upto = chances.cumsum(1)
    read = true.clone()
    read[places] = torch.searchsorted(upto, (lot.to(upto.device) * upto[:, -1])[:, None], right=True)[
        :, 0
    ].to(read.device)
    labels = (read != true).long().masked_fill(~vocabulary.hideable(true), IGNORE)
    return Corrupted(read, labels)
