"""Examples: rows or blocks as token ids and what is to be learned of them, ready to be packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

IGNORE = -100
"""The label of what is not scored."""
NO_TOKEN = -1
"""The start of a word that has no token: the tokenizer made nothing of it, or it was cut off."""
_SHOWN = 10


@dataclass(frozen=True, eq=False)
class Tokens:
    """What a model reads at once: a text, a pair that the tokenizer has joined, a block."""

    input_ids: Sequence[int] | Tensor
    """With the tokenizer's special tokens."""
    token_type_ids: Sequence[int] | None = None
    """None for a tokenizer that does not tell segments apart."""
    word_ids: Sequence[int | None] = ()
    """The word that each token is of, None for special tokens; () where the row was not given as words."""
    uncut: Tokens | None = None
    """As it was before it was cut to `max_length`; None where it was not."""

    @property
    def num_words(self) -> int:
        """Words that have at least one token."""
        return len({word for word in self.word_ids if word is not None})

    def word_starts(self, num_words: int) -> tuple[int, ...]:
        """The index of each word's first token, NO_TOKEN where it has none.

        >>> Tokens([2, 7, 8, 9, 3], None, [None, 0, 0, 2, None]).word_starts(3)
        (1, -1, 3)
        """
        starts = [NO_TOKEN] * num_words
        for place, word in enumerate(self.word_ids):
            if word is not None and starts[word] == NO_TOKEN:
                starts[word] = place
        return tuple(starts)


@dataclass(frozen=True, eq=False)
class Example:
    """What a model computes of one row or block."""

    key: int
    """Its place in the data: by it, it is shuffled, corrupted and dropped out, whatever batch it is in."""
    sequences: tuple[Tokens, ...]
    """One text; of a model that reads one and writes another, both; the choices, or the pieces, of a long one."""
    targets: Any
    """What is to be learned, as the objective takes it."""
    where: str = ""
    """Where it stands, for messages: "train.jsonl:12"."""
    objective: str = ""
    """Which objective it is of, where several are learned at once."""

    @property
    def tokens(self) -> Tokens:
        """The one sequence. Raises ValueError where there are more."""
        if len(self.sequences) != 1:
            raise ValueError(
                f"example {self.key} has {len(self.sequences)} sequences; say which one is meant"
            )
        return self.sequences[0]

    @property
    def num_tokens(self) -> int:
        """Of all sequences."""
        return sum(len(sequence.input_ids) for sequence in self.sequences)


@dataclass(frozen=True)
class Encoded:
    """All rows of a source as examples, and what its user must be told."""

    examples: tuple[Example, ...]
    truncated: int = 0
    """Rows that were longer than `max_length` tokens and were cut there."""
    words_cut: int = 0
    """Of rows of words: those that were cut off with their tags."""
    words_vanished: int = 0
    """Of rows of words: those that the tokenizer turns into nothing."""
    words_lost_are: str = "count as outside"
    """What becomes of either, in words."""
    max_length: int = 0
    recased: tuple[str, ...] = ()
    """Labels that differ from a class in case alone, and were taken for it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the rows, in sentences; () where nothing was."""
        said = []
        if self.truncated:
            words = (
                f"; {_count(self.words_cut)} lost their tags and {self.words_lost_are}"
                if self.words_cut
                else ""
            )
            said.append(
                f"{self.truncated} of {len(self.examples)} texts are longer than {self.max_length} tokens "
                f"and were cut there{words}"
            )
        if self.words_vanished:
            said.append(
                f"{_count(self.words_vanished)} without any token (empty words, zero-width characters and the like) "
                f"{self.words_lost_are}"
            )
        if self.recased:
            names = ", ".join(self.recased[:_SHOWN]) + ", ..." * (len(self.recased) > _SHOWN)
            said.append(f"labels that differ from a class in case alone are taken for it: {names}")
        return tuple(said)


def _count(words: int) -> str:
    return f"{words} word{'s' * (words != 1)}"
