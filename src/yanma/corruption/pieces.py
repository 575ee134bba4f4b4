"""Tokens as people read them: byte-level BPE spells the bytes of a text as letters, which are put back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARKS = {" ": "Ġ", "\n": "Ċ", "\t": "ĉ"}
"""Spaces that would not be seen, as such tokenizers spell them."""


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The token of each id.

    Of byte-level BPE the characters that it stands for; bytes that are a part of a character as <0xE6>. A space is Ġ.
    """
    names = list(tokenizer.convert_ids_to_tokens(list(ids)))
    if not _is_byte_level(tokenizer):
        return names
    added = tokenizer.get_added_vocab()
    return [name if name in added else readable(name) for name in names]


def readable(name: str) -> str:
    """A token of byte-level BPE in its own characters; as it is where it is none.

    >>> readable("Ġæĺ"), readable("åĮĹäº¬"), readable("Ġcard")
    ('Ġ<0xE6><0x98>', '北京', 'Ġcard')
    """
    letters = _bytes()
    if not all(letter in letters for letter in name):
        return name
    text = bytes(letters[letter] for letter in name).decode("utf-8", "surrogateescape")
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is no character by itself
        return f"<0x{ord(character) - 0xDC00:02X}>"
    return _MARKS.get(character, character)


def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.loads(backend.to_str()).get("decoder") if backend is not None else None
    parts = [decoder, *decoder.get("decoders", ())] if decoder else []
    return any(part.get("type") == "ByteLevel" for part in parts)


@cache
def _bytes() -> dict[str, int]:
    """The byte that each letter stands for: itself where it can be seen, else the next letter from 256 on (GPT-2)."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    others = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + n): byte for n, byte in enumerate(others)}
