"""How well a model does on held-back blocks, packed, with logits of scored tokens alone.

Losses are summed exactly, so no figure depends on how blocks share packs by more than the losses themselves do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import packing
from ..corruption import IGNORE, Plan, Vocabulary
from ..data.blocks import Block, Blocks
from ..data.examples import Example, Tokens
from ..errors import ConfigError, DataError, Unsupported
from ..keyed import Site, derived, document_keys, numbers
from ..models.known import recognise
from ..models.scored import unwrapped
from ..models.scoring import Scored
from .batching import Packed
from .language import CausalLm, Mlm, labels_of
from .objective import Compute, Objective, evaluating

# T tokens of all blocks, N blocks, K scored tokens, M sampled ones


@dataclass(frozen=True)
class Figures:
    """What all of them have."""

    loss: float
    """Mean over the tokens that are scored, in nats."""
    perplexity: float
    """exp(loss)."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Masked(Figures):
    """Hidden tokens, and how many were found."""

    accuracy: float
    """Share of the hidden tokens that are the model's likeliest."""
    tokens: int
    """How many were hidden."""


@dataclass(frozen=True)
class PseudoPerplexity(Figures):
    """Of a masked language model, each token hidden alone (Salazar et al. 2020)."""

    word_perplexity: float | None
    """exp(loss per word), which models of different tokenizers share; None where blocks do not know their words."""
    tokens: int
    """How many were hidden, one at a time."""


@dataclass(frozen=True)
class Perplexity(Figures):
    """Of a causal language model."""

    bits_per_byte: float
    """Bits over all tokens by bytes of the texts in UTF-8, which models of different tokenizers share."""
    bits_per_character: float
    tokens: int
    """How many were predicted: all but the first of each block."""


def masked_accuracy(
    model: nn.Module,
    blocks: Blocks,
    plans: Mapping[str, Plan],
    *,
    seed: int,
    max_batch_tokens: int,
) -> dict[str, Masked]:
    """How well an unpadded masked language model finds what each plan hides, by the plans' names.

    What is hidden is that of epoch 0 under `seed`, whatever training does, so figures of one run or of several can be
    compared. Blocks without a token that may be hidden count for nothing.

    Raises DataError where no block has one; ValueError for a plan that asks for words that the blocks do not know, and
    for a block that is longer than `max_batch_tokens`.
    """
    compute = Compute(model, _room_for(blocks, max_batch_tokens))
    return {name: found_masked(compute, blocks, plan, seed) for name, plan in plans.items()}


def found_masked(compute: Compute, blocks: Blocks, plan: Plan, seed: int) -> Masked:
    """What `masked_accuracy` measures under one plan."""
    losses: list[float] = []
    correct = 0
    for scored, labels in _scored(compute, blocks, Mlm(plan, seed)):
        losses += scored.losses.tolist()
        places = scored.places.cpu()
        correct += int((scored.predicted.cpu() == labels[places]).sum())
    if not losses:
        raise DataError(f"none of the {len(blocks)} blocks has a token that may be hidden")
    loss = math.fsum(losses) / len(losses)
    return Masked(loss, _exp(loss), correct / len(losses), len(losses))


def pseudo_perplexity(
    model: nn.Module,
    blocks: Blocks,
    *,
    vocabulary: Vocabulary,
    max_tokens: int,
    seed: int,
    max_batch_tokens: int,
) -> PseudoPerplexity:
    """Hide tokens one at a time, each in a copy of its block, and see how likely each is (Salazar et al. 2020).

    Special tokens are not hidden. Of more than `max_tokens` others so many are drawn, by a hash of (seed, block,
    place). The model is an unpadded masked language model; it reads as many tokens as the drawn ones' blocks have.

    Raises ConfigError for a vocabulary without a mask, DataError where no block has a token that may be hidden,
    ValueError for a block that is longer than `max_batch_tokens`.
    """
    compute = Compute(model, _room_for(blocks, max_batch_tokens))
    return found_pseudo(compute, blocks, vocabulary=vocabulary, max_tokens=max_tokens, seed=seed)


def found_pseudo(
    compute: Compute, blocks: Blocks, *, vocabulary: Vocabulary, max_tokens: int, seed: int
) -> PseudoPerplexity:
    """What `pseudo_perplexity` measures."""
    if vocabulary.mask_id is None:
        raise ConfigError("pseudo-perplexity hides tokens, and the tokenizer has no mask_token")
    hideable = vocabulary.hideable(blocks.flat.long())
    block, place = _sample(blocks, hideable, max_tokens, seed)
    losses: list[float] = []
    with evaluating(compute.model):
        for group in compute.batching.groups([blocks.lengths[index] for index in block]):
            pack = [_one_hidden(blocks[block[copy]], place[copy], vocabulary.mask_id) for copy in group]
            losses += compute.scored(pack, labels_of(pack)).losses.tolist()
    loss = math.fsum(losses) / len(losses)
    words = _count_words(blocks, hideable)
    by_word = None if words is None else _exp(loss * int(hideable.sum()) / words)
    return PseudoPerplexity(loss, _exp(loss), by_word, len(losses))


def perplexity(model: nn.Module, blocks: Blocks, *, max_batch_tokens: int) -> Perplexity:
    """How likely an unpadded causal language model finds each token after those before it in its block.

    The first token of a block is not predicted, and special tokens after it are: a tokenizer that begins a text with
    one, as <s>, lets every token of the text be counted.

    Raises Unsupported for a model that `check_writes_on` refuses, DataError where no block has two tokens, ValueError
    for a block that is longer than `max_batch_tokens`.
    """
    check_writes_on(model)
    return found_next(Compute(model, _room_for(blocks, max_batch_tokens)), blocks)


def found_next(compute: Compute, blocks: Blocks) -> Perplexity:
    """What `perplexity` measures."""
    losses = [loss for scored, _ in _scored(compute, blocks, CausalLm()) for loss in scored.losses.tolist()]
    if not losses:
        raise DataError(f"none of the {len(blocks)} blocks has a second token to predict")
    total = math.fsum(losses)
    loss, bits = total / len(losses), total / math.log(2)
    return Perplexity(loss, _exp(loss), bits / blocks.num_bytes, bits / blocks.num_characters, len(losses))


def check_writes_on(model: nn.Module) -> None:
    """Refuse a model to which the next token is no riddle, however it is called.

    Raises Unsupported for an unpadded model that reads what comes after a token, and for one whose labels transformers
    does not shift, so that it would be scored on the token that it reads.
    """
    inner = unwrapped(model)
    (family, head), name = recognise(inner), type(inner).__name__
    if not family.is_causal(inner.config):
        raise Unsupported(
            f"{name} reads the token that it is to predict: its layers read both ways; say is_decoder=true in its "
            f"config.json, if it was or shall be trained so, or take a decoder such as GPT-2 or Llama"
        )
    if head.loss != "next_token":
        raise Unsupported(
            f"{name} is scored on the token that it reads, as transformers does not shift its labels; take a decoder "
            f"such as GPT-2 or Llama"
        )


def _room_for(blocks: Blocks, max_batch_tokens: int) -> Packed:
    """Raises ValueError where a block is longer."""
    packing.plan(blocks.lengths, max_batch_tokens)
    return Packed(max_batch_tokens)


def _scored(compute: Compute, blocks: Blocks, objective: Objective) -> Iterator[tuple[Scored, Tensor]]:
    """What the model makes of what an objective hides in epoch 0, and the labels, pack by pack."""
    with evaluating(compute.model):
        for group in compute.batching.groups(blocks.lengths):
            pack = objective.prepare([blocks[index] for index in group], epoch=0, progress=0.0).examples
            yield compute.scored(pack, labels_of(pack)), labels_of(pack)


def _one_hidden(block: Block, place: int, mask_id: int) -> Example:
    inputs, labels = block.input_ids.long(), torch.full_like(block.input_ids, IGNORE, dtype=torch.int64)
    labels[place] = inputs[place]
    return Example(block.key, (Tokens(inputs.index_fill(0, torch.tensor([place]), mask_id)),), labels)


def _sample(blocks: Blocks, hideable: Tensor, max_tokens: int, seed: int) -> tuple[list[int], list[int]]:
    """M pairs: the block of each token that is drawn, and its place in it; by block and place."""
    if max_tokens < 1:
        raise ConfigError(f"max_tokens is {max_tokens}; give 1 or more")
    block = torch.repeat_interleave(torch.tensor(blocks.lengths))
    place = torch.arange(len(block)) - torch.tensor(blocks.starts)[block]
    tokens = hideable.nonzero().flatten()
    if not len(tokens):
        raise DataError(f"none of the {len(blocks)} blocks has a token that may be hidden")
    keys = derived(document_keys(seed, range(len(blocks))), Site.PSEUDO_PERPLEXITY)
    lots = numbers(keys[block[tokens]], place[tokens])
    drawn = tokens[torch.sort(lots, stable=True).indices[:max_tokens]].sort().values
    return block[drawn].tolist(), place[drawn].tolist()


def _count_words(blocks: Blocks, hideable: Tensor) -> int | None:
    """Runs of hideable tokens of one word in a block; None where blocks do not know their words."""
    if blocks.flat_words is None:
        return None
    begins = torch.ones_like(hideable)
    begins[1:] = (blocks.flat_words[1:] != blocks.flat_words[:-1]) | ~hideable[:-1]
    begins[torch.tensor(blocks.starts)] = True
    return int((begins & hideable).sum())


def _exp(loss: float) -> float:
    """Infinite where it is too large for a number."""
    return math.exp(loss) if loss < 700 else math.inf
