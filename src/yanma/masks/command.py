"""`yanma mask`: a mask that is given as text, drawn and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from ..errors import ConfigError
from ..files import place_of, write
from ..settings import Section
from .algebra import bound, has_documents
from .html import page, svg
from .lowerings import Counts, count
from .mask import Mask, Shape
from .pictures import picture
from .text import ParseError, parse

MOST_TOKENS = 10**8
"""Queries, or keys, of a mask that is drawn: half a minute's work."""

_FORMATS = (".html", ".pdf", ".png", ".svg")


Lengths = Annotated[tuple[int, ...], BeforeValidator(lambda given: _numbers(given))]


class MaskConfig(Section):
    """What `yanma mask` can be told."""

    expression: str = Field(description="as in 'documents & causal & window(2, 0)'")
    lengths: Lengths | None = Field(
        default=None, description="tokens of each document, as in 5,3,7 (default: those of tokens)"
    )
    kv_lengths: Lengths | None = Field(default=None, description="keys of each document, where they differ")
    tokens: str | None = Field(
        default=None, description="words to show beside it, a document a line: a text or a file"
    )
    out: str | None = Field(
        default=None, description="draw into this file instead: .html, .svg, .png or .pdf"
    )

    @field_validator("out")
    @classmethod
    def _an_ending_that_can_be_drawn(cls, given: str | None) -> str | None:
        if given is not None and (ending := Path(given).suffix.lower()) not in _FORMATS:
            raise ValueError(f"{given} ends in {ending!r}; it can end in {', '.join(_FORMATS)}")
        return given


@dataclass(frozen=True)
class Shown:
    """A mask of known size, and its tokens."""

    mask: Mask
    size: Shape
    tokens: tuple[str, ...] | None

    @property
    def counts(self) -> Counts:
        """What is visible."""
        return count(self.mask, self.size)

    def as_dict(self) -> dict[str, Any]:
        """The expression and its counts, for JSON."""
        found = self.counts
        return {
            "mask": str(self.mask),
            "queries": found.num_q,
            "keys": found.num_kv,
            "visible": found.visible,
            "density": found.density,
            "saved": found.saved,
            "documents": list(found.documents),
        }

    def save(self, path: Path) -> None:
        """Draw it into a file: .html and .svg by yanma itself, .png and .pdf by matplotlib.

        Raises Unsupported where matplotlib is missing, OSError.
        """
        write(path, self._drawn(path.suffix.lower()))

    def _drawn(self, ending: str) -> bytes:
        if ending in (".png", ".pdf"):
            file = BytesIO()
            self.mask.plot(self.size, self.tokens).savefig(file, dpi=150, format=ending[1:])
            return file.getvalue()
        draw = page if ending == ".html" else svg
        return draw(picture(self.mask, self.size), self.mask.describe(), self.tokens).encode()


def shown(config: MaskConfig) -> Shown:
    """The mask that a config says.

    >>> shown(MaskConfig(expression="documents & causal", lengths="3,2")).mask
    documents([3, 2]) & causal()
    >>> shown(MaskConfig(expression="causal", tokens="the cat sat")).size
    (3, 3)

    Raises ConfigError in one line, with the place in the expression.
    """
    texts = None if config.tokens is None else _documents_of(config.tokens)
    lengths = config.lengths or ([len(text) for text in texts] if texts else None)
    try:
        mask, size = _sized(parse(config.expression), lengths, config.kv_lengths)
        if max(size) > MOST_TOKENS:
            raise ValueError(
                f"`lengths`: {max(size):,} tokens are more than {MOST_TOKENS:,}, the most that is drawn"
            )
        mask._grid(size)
    except ParseError as error:
        raise ConfigError(f"{error.reason}; at character {error.place + 1} of {error.text!r}") from None
    except ValueError as error:
        raise ConfigError(f"{error}; the mask is {config.expression!r}") from None
    words = None if texts is None else tuple(word for text in texts for word in text)
    if words is not None and len(words) != size[0]:
        raise ConfigError(f"`tokens`: {len(words)} tokens for {size[0]} queries; give one a query")
    return Shown(mask, size, words)


def summary(found: Counts) -> str:
    """The counts in one line.

    >>> summary(Counts(2, 2, (3,)))
    '2 queries x 2 keys: 3 of 4 pairs visible, density 75.0%, 25.0% of dense attention saved'
    """
    return (
        f"{found.num_q:,} queries x {found.num_kv:,} keys: {found.visible:,} of {found.num_q * found.num_kv:,} pairs "
        f"visible, density {found.density:.1%}, {found.saved:.1%} of dense attention saved"
    )


def table(found: Counts) -> str:
    """A line a document: its number and the visible pairs of its queries, with tabs between.

    >>> print(table(Counts(3, 3, (3, 1))).expandtabs(10))
    document  visible pairs
    0         3
    1         1
    """
    rows = (f"{document}\t{pairs}" for document, pairs in enumerate(found.documents))
    return "\n".join(["document\tvisible pairs", *rows])


def _sized(mask: Mask, lengths: Sequence[int] | None, kv_lengths: Sequence[int] | None) -> tuple[Mask, Shape]:
    if lengths is None:
        if kv_lengths is not None:
            raise ValueError("`kv_lengths` without `lengths`; give both")
        if mask.shape is None:
            raise ValueError("the size is not known; say it with `lengths`, as in 5,3,7")
        return mask, mask.shape
    if has_documents(mask):
        framed = bound(mask, lengths, kv_lengths)
        return framed, framed._grid(None).shape
    if len(lengths) > 1:
        raise ValueError(f"`lengths` has {len(lengths)} documents; write documents & ({mask.describe()})")
    return mask, (sum(lengths), sum(lengths if kv_lengths is None else kv_lengths))


def _numbers(given: object) -> object:
    if not isinstance(given, str):
        return given
    try:
        return [int(part) for part in given.split(",")]
    except ValueError:
        raise ValueError(f"{given!r}; give numbers with commas between, as in 5,3,7") from None


def _documents_of(tokens: str) -> list[list[str]]:
    """Words, a document a line, from a file of that name or from the text itself."""
    path = place_of(tokens)
    text = path.read_text(encoding="utf-8") if path is not None and path.is_file() else tokens
    return [line.split() for line in text.splitlines() if line.strip()]
