"""Texts to token ids through a Hugging Face tokenizer, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .examples import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_AT_ONCE = 1024
"""Rows a call of the tokenizer: enough for its threads, little memory."""


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], pairs: Sequence[str] | None, *, max_length: int
) -> Iterator[Tokens]:
    """Tokens of each text, or of each text with its pair."""
    _check_room(tokenizer, max_length, pair=pairs is not None)
    for start in range(0, len(texts), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        yield from _tokenize(
            tokenizer, max_length, texts[some], None if pairs is None else pairs[some], words=False
        )


def tokenize_words(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[list[str]], *, max_length: int
) -> Iterator[Tokens]:
    """Tokens of each row of words, and of which word each token is. The tokenizer must be a fast one."""
    _check_room(tokenizer, max_length, pair=False)
    if _space_begins_a_word(tokenizer):
        rows = [[word and f" {word}" for word in row] for row in rows]
    for start in range(0, len(rows), _AT_ONCE):
        yield from _tokenize(tokenizer, max_length, rows[start : start + _AT_ONCE], None, words=True)


def _tokenize(
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    texts: Sequence[str] | Sequence[list[str]],
    pairs: Sequence[str] | None,
    *,
    words: bool,
) -> list[Tokens]:
    """All rows uncut, then those that are too long once more: so it is known what was cut off."""
    done = _call(tokenizer, texts, pairs, words=words)
    long = [place for place, tokens in enumerate(done) if len(tokens.input_ids) > max_length]
    if long:
        long_texts: Any = [texts[place] for place in long]
        long_pairs = None if pairs is None else [pairs[place] for place in long]
        short = _call(tokenizer, long_texts, long_pairs, words=words, truncation=True, max_length=max_length)
        for place, tokens in zip(long, short, strict=True):
            done[place] = Tokens(tokens.input_ids, tokens.token_type_ids, tokens.word_ids, uncut=done[place])
    return done


def _call(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str] | Sequence[list[str]],
    pairs: Sequence[str] | None,
    *,
    words: bool,
    **cut: Any,
) -> list[Tokens]:
    # verbose=False: the tokenizer would warn of texts that are too long, which are cut in the second call.
    encoding = tokenizer(
        list(texts),
        text_pair=None if pairs is None else list(pairs),
        is_split_into_words=words,
        return_attention_mask=False,
        verbose=False,
        **cut,
    )
    ids = encoding["input_ids"]
    types = encoding.get("token_type_ids") or [None] * len(ids)
    word_ids = [encoding.word_ids(row) if words else () for row in range(len(ids))]
    return [Tokens(*fields) for fields in zip(ids, types, word_ids, strict=True)]


def _check_room(tokenizer: PreTrainedTokenizerBase, max_length: int, *, pair: bool) -> None:
    special = tokenizer.num_special_tokens_to_add(pair=pair)
    if max_length <= special:  # the tokenizer would not cut at all
        raise ConfigError(
            f"max_length is {max_length}, but {special} special tokens are added; it must be more"
        )


def _space_begins_a_word(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether words given one by one must bring their space along to be read as they are in a text.

    RoBERTa's and GPT-2's tokenizers mark a word's beginning by the space before it; unless they were loaded with
    add_prefix_space=True, a list of words reads to them like one word without spaces, and nothing says so.
    """

    def ids(*words: str) -> list[int]:
        return list(tokenizer(list(words), is_split_into_words=True, add_special_tokens=False)["input_ids"])

    in_a_text = list(tokenizer("a a", add_special_tokens=False)["input_ids"])
    return ids("a", "a") != in_a_text and ids("a", " a") == in_a_text
