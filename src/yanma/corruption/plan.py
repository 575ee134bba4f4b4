"""A plan of corruption: what is hidden of an example in an epoch, as a pure function of (seed, epoch, example)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .choice import choose
from .draws import example_keys
from .hardness import RunningLoss
from .layout import Layout
from .rates import Decay, Rate, check_rate, highest, rates
from .replacement import BERT, Replacement, check_replacement, replaced
from .units import Unit, check_unit, unit_starts
from .vocabulary import Vocabulary

# N examples, T tokens of all of them, S slots of a padded row

IGNORE = -100
"""The label of a token that is not scored."""

Resampling = Literal["every epoch", "never"] | int


class Corrupted(NamedTuple):
    """Tokens as a masked language model sees them, and what it must find."""

    input_ids: Tensor
    """int64, shaped like what was given."""
    labels: Tensor
    """int64: the true token where one was hidden (even if it stayed as it is), else IGNORE."""


@dataclass(frozen=True)
class Plan:
    """What is hidden, how much of it, what stands in its place, and when it is drawn anew.

    >>> plan = Plan(Vocabulary(size=100, special_ids=(0, 1), mask_id=2))
    >>> tokens = [0, 17, 18, 19, 20, 21, 22, 1]
    >>> plan(tokens, seed=0, epoch=0, example=7).labels.tolist()
    [-100, -100, -100, 19, -100, -100, -100, -100]
    >>> plan(tokens, seed=0, epoch=1, example=7).labels.tolist()
    [-100, -100, 18, -100, -100, -100, -100, -100]

    An example of n hideable tokens has `rate` * n of them hidden: that many on average over epochs, and to within a
    unit in each. At least one token is hidden and at most `max_share` of them, rounded down but not to 0. An example
    without a hideable token has no labels.
    """

    vocabulary: Vocabulary
    unit: Unit = "token"
    """"token"; "word", or whatever `words` numbers as one; or Spans(...)."""
    rate: Rate = 0.15
    """A share; Between(low, high), drawn for each example; or Decay(start, end), over training."""
    replacement: Replacement = BERT
    resampling: Resampling = "every epoch"
    """"every epoch"; a number of fixed copies that take turns (10 in BERT's own data); or "never", one copy."""
    max_share: float = 0.8

    def __post_init__(self) -> None:
        check_unit(self.unit)
        check_rate(self.rate)
        check_replacement(self.replacement, self.vocabulary)
        if not 0 < self.max_share <= 1:
            raise ValueError(f"max_share is {self.max_share}; it must be more than 0 and at most 1")
        if highest(self.rate) > self.max_share:
            raise ValueError(
                f"a rate of {highest(self.rate)} is more than may be hidden of a text, {self.max_share:g} (max_share)"
            )
        if self.resampling not in ("every epoch", "never") and not (
            isinstance(self.resampling, int) and self.resampling >= 1
        ):
            raise ValueError(
                f"resampling is {self.resampling!r}; it is 'every epoch', 'never' or a number of copies"
            )
        if isinstance(self.rate, Decay) and self.resampling != "every epoch":
            raise ValueError("a rate that decays over training needs resampling='every epoch'")

    def __call__(
        self,
        ids: Sequence[int] | Tensor,  # (T,)
        *,
        seed: int,
        epoch: int,
        example: int,
        words: Sequence[int | None] | Tensor | None = None,
        progress: float | None = None,
        losses: RunningLoss | None = None,
    ) -> Corrupted:
        """Corrupt one example, known by the number `example`.

        `words` numbers the word of each token, as a tokenizer's `word_ids()` or `whole_words` do. `progress` is the
        share of training that is done, for a rate that decays; `losses` makes hard tokens likelier.
        """
        tokens = torch.as_tensor(ids, dtype=torch.int64)
        return self.flat(
            tokens, [len(tokens)], seed=seed, epoch=epoch, examples=[example], words=words, progress=progress,
            losses=losses,
        )  # fmt: skip

    def flat(
        self,
        ids: Sequence[int] | Tensor,  # (T,)
        lengths: Sequence[int] | Tensor,  # (N,)
        *,
        seed: int,
        epoch: int,
        examples: Sequence[int] | Tensor,  # (N,)
        words: Sequence[int | None] | Tensor | None = None,  # (T,)
        progress: float | None = None,
        losses: RunningLoss | None = None,
    ) -> Corrupted:
        """Corrupt N examples that stand end to end, as in a PackedBatch: each as it would be alone.

        >>> plan = Plan(Vocabulary(size=100, mask_id=2))
        >>> both = plan.flat([7, 8, 9, 5, 6], [3, 2], seed=0, epoch=0, examples=[4, 9])
        >>> alone = plan([5, 6], seed=0, epoch=0, example=9)
        >>> both.input_ids[3:].equal(alone.input_ids)
        True
        """
        ids = torch.as_tensor(ids, dtype=torch.int64)
        if ids.dim() != 1:
            raise ValueError(f"ids must be flat, (T,); got {tuple(ids.shape)}")
        layout = Layout.of(lengths, len(ids), ids.device)
        if len(examples) != len(layout.lengths):
            raise ValueError(f"{len(examples)} numbers of examples for {len(layout.lengths)} lengths")
        keys = example_keys(seed, copy_of(self.resampling, epoch), examples, ids.device)
        hideable = self.vocabulary.hideable(ids)
        units = unit_starts(self.unit, layout, hideable, as_words(words, ids), keys)
        weights = None if losses is None else losses.weights.to(ids.device)[ids]
        chosen = choose(
            layout, hideable, units, keys, rates(self.rate, keys, progress), self.max_share, weights
        )
        where = chosen.tokens
        labels = torch.full_like(ids, IGNORE)
        labels[where] = ids[where]
        corrupted = ids.clone()
        corrupted[where] = replaced(
            ids[where],
            keys[layout.example[where]],
            layout.place[where],
            layout.place[chosen.unit_starts],
            self.replacement,
            self.vocabulary,
        )
        return Corrupted(corrupted, labels)

    def padded(
        self,
        input_ids: Tensor,  # (N, S)
        attention_mask: Tensor,  # (N, S)
        *,
        seed: int,
        epoch: int,
        examples: Sequence[int] | Tensor,  # (N,)
        words: Tensor | None = None,  # (N, S)
        progress: float | None = None,
        losses: RunningLoss | None = None,
    ) -> Corrupted:
        """Corrupt the rows of a padded rectangle, whichever side the padding is on: each as it would be alone."""
        if input_ids.dim() != 2 or input_ids.shape != attention_mask.shape:
            raise ValueError(
                f"input_ids and attention_mask must both be (N, S); "
                f"got {tuple(input_ids.shape)} and {tuple(attention_mask.shape)}"
            )
        valid = attention_mask.bool()
        flat = self.flat(
            input_ids[valid], valid.sum(1), seed=seed, epoch=epoch, examples=examples,
            words=None if words is None else words[valid], progress=progress, losses=losses,
        )  # fmt: skip
        corrupted, labels = input_ids.clone(), torch.full_like(input_ids, IGNORE)
        corrupted[valid], labels[valid] = flat
        return Corrupted(corrupted, labels)


def copy_of(resampling: Resampling, epoch: int) -> int:
    """The epoch whose draws count in this one.

    >>> [copy_of("every epoch", 7), copy_of(3, 7), copy_of("never", 7)]
    [7, 1, 0]
    """
    match resampling:
        case "every epoch":
            return epoch
        case "never":
            return 0
    return epoch % resampling


def as_words(words: Sequence[int | None] | Tensor | None, ids: Tensor) -> Tensor | None:
    """(T,) int64: which word each token is of; -1 for None, which is what tokenizers say of special tokens.

    Raises ValueError unless there is one for each token.
    """
    if words is None:
        return None
    numbers = words if isinstance(words, Tensor) else torch.tensor([-1 if w is None else w for w in words])
    if numbers.shape != ids.shape:
        raise ValueError(f"words is {tuple(numbers.shape)}, ids {tuple(ids.shape)}; give one word a token")
    return numbers.to(ids.device, torch.int64)
