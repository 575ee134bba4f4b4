"""What a task makes of rows: token ids and labels, ready to be packed."""

from __future__ import annotations

from dataclasses import dataclass

IGNORE = -100
"""The label of a token that is not scored."""
NO_TOKEN = -1
"""The start of a word that has no token: the tokenizer made nothing of it, or it was cut off."""


@dataclass(frozen=True)
class Example:
    """One row as token ids."""

    id: int
    """Its place in the data: the key of shuffling and of dropout, whatever batch it is in."""

    input_ids: tuple[int, ...]
    """With the tokenizer's special tokens."""

    labels: tuple[int, ...]
    """Token task: one a token. Sequence task: exactly one. `IGNORE` where nothing is scored or known."""

    where: str
    """Where the row stands, for messages: "train.jsonl:12"."""

    word_starts: tuple[int, ...] = ()
    """Token task: the index of each word's first token, `NO_TOKEN` for a word without one. Sequence task: ()."""

    word_labels: tuple[int, ...] = ()
    """Token task: the true tag of every word, also of those without a token; () where it is not known."""

    token_type_ids: tuple[int, ...] | None = None
    """None for a tokenizer that does not tell segments apart."""

    @property
    def num_words(self) -> int:
        """Token task: words of the row, also those that were cut off."""
        return len(self.word_starts)


@dataclass(frozen=True)
class Encoded:
    """All rows of a source as examples, and what its user must be told."""

    examples: tuple[Example, ...]
    truncated: int = 0
    """Rows that were longer than `max_length` tokens and were cut there."""
    words_cut: int = 0
    """Token task: words that were cut off with their tags; the outside tag is predicted for them."""
    words_vanished: int = 0
    """Token task: words that the tokenizer turns into nothing; the outside tag is predicted for them."""
    max_length: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the rows, in sentences; () where nothing was."""
        said = []
        if self.truncated:
            words = (
                f"; {_count(self.words_cut)} lost their tags and count as outside" if self.words_cut else ""
            )
            said.append(
                f"{self.truncated} of {len(self.examples)} texts are longer than {self.max_length} tokens "
                f"and were cut there{words}"
            )
        if self.words_vanished:
            said.append(
                f"{_count(self.words_vanished)} without any token (empty words, zero-width characters and the like) "
                f"count as outside"
            )
        return tuple(said)


def _count(words: int) -> str:
    return f"{words} word{'s' * (words != 1)}"
