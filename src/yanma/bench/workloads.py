"""What is measured: texts of uneven length, from a stated distribution, a file, or the demo's corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

from .. import packaged
from ..data.examples import Example, Tokens
from ..errors import ConfigError, Unsupported
from ..packing import shuffled

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Part = TypeVar("Part")

SEED = 0
NUM_LABELS = 77
MU, SIGMA, SHORTEST, LONGEST = 3.116, 0.6, 3, 128


@dataclass(frozen=True)
class Workload:
    """Texts in the order in which they arrive, as token ids with special tokens."""

    name: str
    about: str
    """Where the texts come from."""
    sequences: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...] = ()
    """The same as text, not cut; () where there is none."""
    truncated: int = 0
    """How many sequences were cut at the tokenizer's `max_length`."""
    labels: tuple[Tensor, ...] = ()
    """Of each token of sequences that are corrupted already, what is to be found there; () where they are not."""

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        """A text each; without labels its target is a class made of its tokens, so that it is the same in a sample."""
        targets = self.labels or [hash((SEED, *ids)) % NUM_LABELS for ids in self.sequences]
        pairs = zip(self.sequences, targets, strict=True)
        return tuple(Example(place, (Tokens(ids),), target) for place, (ids, target) in enumerate(pairs))

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each text."""
        return tuple(len(sequence) for sequence in self.sequences)

    @property
    def num_tokens(self) -> int:
        """Tokens of all texts."""
        return sum(self.lengths)

    def take(self, indices: Sequence[int]) -> Workload:
        """Some of the texts, in the order of `indices`."""

        def some(parts: tuple[Part, ...]) -> tuple[Part, ...]:
            return tuple(parts[index] for index in indices) if parts else ()

        sequences, texts, labels = some(self.sequences), some(self.texts), some(self.labels)
        return replace(self, sequences=sequences, texts=texts, labels=labels, truncated=0)

    def describe(self) -> str:
        """Counts of texts and tokens.

        >>> Workload("w", "", ((1, 2), (1, 2, 3, 4))).describe()
        '2 texts, 6 tokens, mean 3.0, longest 4'
        """
        count = f"{len(self.sequences):,} texts, {self.num_tokens:,} tokens"
        mean = f"mean {self.num_tokens / len(self.sequences):.1f}, longest {max(self.lengths)}"
        return f"{count}, {mean}" + (f", {self.truncated} texts cut there" if self.truncated else "")


def sample(workload: Workload, count: int) -> list[int]:
    """Indices of at most `count` texts: the shortest, the longest, and others by a seeded draw."""
    by_length = sorted(range(len(workload.sequences)), key=workload.lengths.__getitem__)
    ends = [by_length[0], by_length[-1]]
    others = [index for index in shuffled(len(by_length), seed=SEED, epoch=0) if index not in ends]
    return sorted({*ends, *others[: max(0, count - 2)]})


def drawn(tokenizer: PreTrainedTokenizerBase, count: int, max_length: int) -> Workload:
    """Random words of the tokenizer's vocabulary; lengths lognormal, seeded, special tokens counted."""
    import numpy as np

    words = np.array(_words(tokenizer))
    pick = np.random.default_rng(SEED + 1)
    num_special = tokenizer.num_special_tokens_to_add()
    texts = [" ".join(pick.choice(words, length - num_special)) for length in lengths(count, max_length)]
    clip = f"{SHORTEST}..{min(LONGEST, max_length)}"
    about = f"random words, lengths lognormal (mu {MU}, sigma {SIGMA}, clipped to {clip})"
    return _encoded("drawn lengths", about, texts, tokenizer, max_length)


def lengths(count: int, max_length: int) -> list[int]:
    """Tokens of `count` drawn texts, special ones among them: lognormal, seeded."""
    import numpy as np

    drawn = np.exp(np.random.default_rng(SEED).normal(MU, SIGMA, count)).round()
    found: list[int] = drawn.clip(SHORTEST, min(LONGEST, max_length)).astype(int).tolist()
    return found


def from_file(
    path: str, column: str, tokenizer: PreTrainedTokenizerBase, count: int, max_length: int
) -> Workload:
    """A seeded draw of `count` texts of a file, in random order; DataError names what cannot be read."""
    from ..data.rows import read_rows

    texts = [row.text(column) for row in read_rows(path, (column,))]
    return _encoded(
        "real text", f"{Path(path).name}, column {column}", _draw(texts, count), tokenizer, max_length
    )


def from_corpus(tokenizer: PreTrainedTokenizerBase, count: int, max_length: int) -> Workload:
    """A seeded draw from the English questions and answers of the package chatterbot-corpus."""
    try:
        folder = packaged.corpus()
    except Unsupported as error:
        raise ConfigError(f"{error}, or name real text: `data` FILE `text_column` NAME") from error
    texts = [line for conversation in packaged.conversations(folder) for line in conversation.lines]
    about = "chatterbot-corpus, English questions and answers"
    return _encoded("real text", about, _draw(texts, count), tokenizer, max_length)


def _draw(texts: list[str], count: int) -> list[str]:
    return [texts[index] for index in shuffled(len(texts), seed=SEED, epoch=0)[:count]]


def _words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Plain words that are one token each, so that a text of n words has n tokens and the special ones."""
    pieces = (piece.lstrip("Ġ▁") for piece in tokenizer.get_vocab())
    words = sorted({piece for piece in pieces if piece.isascii() and piece.isalpha() and piece.islower()})
    lengths = [len(ids) for ids in tokenizer(words)["input_ids"]] if words else []
    alone = tokenizer.num_special_tokens_to_add() + 1
    found = [word for word, length in zip(words, lengths, strict=True) if length == alone]
    if not found:
        raise ConfigError(
            "the tokenizer has no plain English words to draw texts from; measure real text only"
        )
    return found


def _encoded(
    name: str, about: str, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Workload:
    whole = tokenizer(list(texts), verbose=False)["input_ids"]
    cut = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    truncated = sum(len(a) > len(b) for a, b in zip(whole, cut, strict=True))
    return Workload(name, about, tuple(tuple(ids) for ids in cut), tuple(texts), truncated)
