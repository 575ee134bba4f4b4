"""Blocks: what a model reads at once, cut from documents by a stated rule.

split   documents stay apart; one that is longer than max_length tokens becomes several blocks
join    documents stand end to end, a separator between them, cut about every max_length tokens: the FULL-SENTENCES of
        RoBERTa (Liu et al. 2019, section 4.2), without regard to sentences

Each block has the tokenizer's special tokens at its ends, as a text by itself would have. Every other token of every
document stands in exactly one block, and in order.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args, overload

import torch
from torch import Tensor

from ..batch import PackedBatch
from ..corruption.by_name import Numbering
from ..corruption.words import word_ids_of
from ..errors import ConfigError, Unsupported, did_you_mean
from .corpus import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BlockRule = Literal["split", "join"]
Progress = Callable[[int, int], None]
"""Told after each batch of texts: documents and tokens so far."""

_BATCH_DOCUMENTS, _BATCH_CHARACTERS = 1000, 2**20  # tokenized at once: about 100 bytes a token for a moment

# L tokens of a block, T of all blocks, N blocks


@dataclass(frozen=True, eq=False)
class Block:
    """A window of running text: tokens that a model reads at once."""

    key: int
    """Its place among all blocks of the corpus, from 0: by it, it is corrupted and dropped out."""
    input_ids: Tensor
    """(L,) int32, with the tokenizer's special tokens."""
    words: Tensor | None = None
    """(L,) int32: which word (or other unit) each token is of; -1 for special tokens. None where not asked for."""

    @property
    def num_tokens(self) -> int:
        """L."""
        return len(self.input_ids)


@dataclass(frozen=True, eq=False)
class Blocks(Sequence[Block]):
    """All blocks of a corpus in memory, end to end: 4 bytes a token, 8 with words, and 16 a block."""

    flat: Tensor
    """(T,) int32."""
    flat_words: Tensor | None
    """(T,) int32."""
    lengths: Sequence[int]
    """N: tokens of each block."""
    num_documents: int
    """Those with a token."""
    num_tokenless: int
    """Documents that were left out, as the tokenizer makes nothing of them."""
    num_characters: int
    num_bytes: int
    """Of the documents' texts in UTF-8."""
    starts: Sequence[int] = field(init=False, repr=False)
    """N: where each block begins."""

    def __post_init__(self) -> None:
        starts = array("q")
        end = 0
        for length in self.lengths:
            starts.append(end)
            end += length
        if end != len(self.flat):
            raise ValueError(f"lengths add up to {end}, flat has {len(self.flat)} tokens")
        object.__setattr__(self, "starts", starts)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> list[Block]: ...
    def __getitem__(self, index: int | slice) -> Block | list[Block]:
        """One block, whose tensors are views, or a list of some."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        own = slice(self.starts[number], self.starts[number] + self.lengths[number])
        return Block(number, self.flat[own], None if self.flat_words is None else self.flat_words[own])


def cut_blocks(
    documents: Iterable[Document],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    rule: BlockRule = "split",
    numbering: Numbering | None = None,
    progress: Progress | None = None,
) -> Blocks:
    """All documents as blocks of at most `max_length` tokens, the special tokens counted.

    "split": a document that is too long is cut wherever a block is full; its last block may be short. "join": the
    separator (`sep_token`, else `eos_token`) stands between two documents of a block, never at its ends, so a block
    may be one token short; only the last is shorter. `numbering` says which word each token of a text is of, as
    `yanma.corruption.numbering` gives it; no word reaches over two blocks or documents.

    Raises ConfigError for an impossible `max_length`, an unknown rule or a tokenizer without a separator, Unsupported
    for a tokenizer that is not of the `tokenizers` library.
    """
    cutter = _Cutter(tokenizer, max_length, rule, numbering, progress)
    ids, words, lengths = array("i"), array("i"), array("i")
    for block in cutter.cut(documents):
        ids.extend(block.ids)
        words.extend(block.words)
        lengths.append(len(block.ids))
    return Blocks(
        _tensor(ids),
        _tensor(words) if numbering is not None else None,
        lengths,
        cutter.num_documents,
        cutter.num_tokenless,
        cutter.num_characters,
        cutter.num_bytes,
    )


def stream_blocks(
    documents: Iterable[Document],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    rule: BlockRule = "split",
    numbering: Numbering | None = None,
    progress: Progress | None = None,
) -> Iterator[Block]:
    """The blocks that `cut_blocks` gives, one by one, for a corpus that does not fit in memory.

    Raises what `cut_blocks` does.
    """
    cutter = _Cutter(tokenizer, max_length, rule, numbering, progress)
    return (
        Block(number, torch.tensor(ids, dtype=torch.int32), _words_tensor(words, numbering))
        for number, (ids, words) in enumerate(cutter.cut(documents))
    )


def pack_blocks(blocks: Sequence[Block]) -> tuple[PackedBatch, Tensor | None]:
    """Some blocks as one pack, known by their keys, and (T,) int64 the words of its tokens.

    >>> batch, _ = pack_blocks([Block(4, torch.tensor([7, 8])), Block(2, torch.tensor([9]))])
    >>> batch.input_ids.tolist(), batch.ids
    ([7, 8, 9], (4, 2))
    """
    batch = PackedBatch.from_sequences([b.input_ids for b in blocks], ids=[b.key for b in blocks])
    words = [b.words for b in blocks if b.words is not None]
    return batch, torch.cat(words).long() if words else None


class _Cut(NamedTuple):
    ids: list[int]
    words: list[int]
    """Empty where not asked for."""


@dataclass
class _Cutter:
    """One pass over documents, and what was counted on the way."""

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    rule: BlockRule
    numbering: Numbering | None
    progress: Progress | None
    num_documents: int = 0
    num_tokenless: int = 0
    num_characters: int = 0
    num_bytes: int = 0

    def __post_init__(self) -> None:
        known = get_args(BlockRule)
        if self.rule not in known:
            hint = did_you_mean(self.rule, known) or f"there are {', '.join(known)}"
            raise ConfigError(f"rule is {self.rule!r}; {hint}")
        self._before, self._after = _special_ends(self.tokenizer)
        ends = len(self._before) + len(self._after)
        if self.max_length <= ends:
            raise ConfigError(
                f"max_length is {self.max_length}; {ends} of a block's tokens are the tokenizer's special ones: "
                f"give {ends + 1} or more"
            )
        self._room = self.max_length - ends
        self._separator = _separator(self.tokenizer) if self.rule == "join" else None

    def cut(self, documents: Iterable[Document]) -> Iterator[_Cut]:
        """Blocks with special tokens at their ends."""
        contents = self._tokenized(documents)
        for ids, words in self._split(contents) if self._separator is None else self._join(contents):
            ids = [*self._before, *ids, *self._after]
            if self.numbering is not None:
                words = [-1] * len(self._before) + words + [-1] * len(self._after)
            yield _Cut(ids, words)

    def _split(self, contents: Iterable[_Cut]) -> Iterator[_Cut]:
        for ids, words in contents:
            for start in range(0, len(ids), self._room):
                piece = slice(start, start + self._room)
                yield _Cut(ids[piece], _counted_from_0(words[piece]))

    def _join(self, contents: Iterable[_Cut]) -> Iterator[_Cut]:
        block = _Cut([], [])
        for ids, words in contents:
            done = 0
            while done < len(ids):
                begins_document = bool(block.ids) and done == 0
                room = self._room - len(block.ids) - begins_document
                if room < 1:
                    yield block
                    block = _Cut([], [])
                    continue
                if begins_document:
                    block.ids.append(self._separator or 0)
                piece = slice(done, done + room)
                block.ids.extend(ids[piece])
                if self.numbering is not None:
                    first = max(block.words, default=-1) + 1
                    block.words.extend([-1] * begins_document)
                    block.words.extend(_counted_from_0(words[piece], first))
                done += room
        if block.ids:
            yield block

    def _tokenized(self, documents: Iterable[Document]) -> Iterator[_Cut]:
        """Tokens of each document that has any, and their words; without special tokens."""
        num_tokens = 0
        for texts in _batches(documents):
            encoded = self.tokenizer(
                texts,
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                return_offsets_mapping=self.numbering is not None,
                verbose=False,
            )
            offsets = encoded["offset_mapping"] if self.numbering is not None else [[]] * len(texts)
            rows = zip(texts, encoded["input_ids"], offsets, strict=True)
            for row, (text, ids, places) in enumerate(rows):
                if not ids:
                    self.num_tokenless += 1
                    continue
                self.num_documents += 1
                self.num_characters += len(text)
                self.num_bytes += len(text.encode())
                num_tokens += len(ids)
                words: list[int] = []
                if self.numbering is not None:
                    words = self.numbering(text, places, word_ids_of(self.tokenizer, encoded, row))
                yield _Cut(ids, words)
            if self.progress is not None:
                self.progress(self.num_documents, num_tokens)


def _batches(documents: Iterable[Document]) -> Iterator[list[str]]:
    texts: list[str] = []
    characters = 0
    for document in documents:
        texts.append(document.text)
        characters += len(document.text)
        if len(texts) >= _BATCH_DOCUMENTS or characters >= _BATCH_CHARACTERS:
            yield texts
            texts, characters = [], 0
    if texts:
        yield texts


def _counted_from_0(words: Sequence[int], first: int = 0) -> list[int]:
    """The same runs of equal numbers, numbered from `first` in their order; -1 stays."""
    numbers: list[int] = []
    last, number = -1, first - 1
    for word in words:
        number += word >= 0 and word != last
        last = word if word >= 0 else last
        numbers.append(number if word >= 0 else -1)
    return numbers


def _special_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before a text and after it."""
    if not tokenizer.is_fast:
        raise Unsupported(
            f"{type(tokenizer).__name__} is not of the tokenizers library; load one with a tokenizer.json"
        )
    whole = tokenizer("a", return_special_tokens_mask=True, verbose=False)
    ordinary = [place for place, special in enumerate(whole["special_tokens_mask"]) if not special]
    if not ordinary:
        raise Unsupported(
            f"{type(tokenizer).__name__} makes nothing of 'a', so where it puts special tokens is unknown"
        )
    ids: list[int] = whole["input_ids"]
    return ids[: ordinary[0]], ids[ordinary[-1] + 1 :]


def _separator(tokenizer: PreTrainedTokenizerBase) -> int:
    for name in ("sep_token_id", "eos_token_id"):
        token: int | None = getattr(tokenizer, name, None)
        if token is not None:
            return token
    raise ConfigError("rule is 'join', and the tokenizer has neither sep_token nor eos_token; take 'split'")


def _tensor(numbers: array[int]) -> Tensor:
    """(T,) int32: the array itself, not a copy."""
    return torch.frombuffer(numbers, dtype=torch.int32) if numbers else torch.empty(0, dtype=torch.int32)


def _words_tensor(words: Sequence[int], numbering: Numbering | None) -> Tensor | None:
    return None if numbering is None else torch.tensor(words, dtype=torch.int32)
