"""`yanma mask`: a mask that is given as text, drawn and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .algebra import bound, has_documents
from .html import page, svg
from .lowerings import Counts, count
from .mask import Mask, Shape
from .pictures import picture
from .text import ParseError, parse

MOST_TOKENS = 10**8
"""Queries, or keys, of a mask that is drawn: half a minute's work."""

_FORMATS = (".html", ".pdf", ".png", ".svg")


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

        Raises ConfigError for other endings, Unsupported where matplotlib is missing, OSError.
        """
        ending = path.suffix.lower()
        if ending not in _FORMATS:
            raise ConfigError(f"--out: {path} ends in {ending!r}; it can end in {', '.join(_FORMATS)}")
        drawn = self._drawn(ending)
        fresh = path.with_name(f".{path.name}.new")
        try:
            fresh.write_bytes(drawn)
            fresh.replace(path)
        except OSError as error:
            error.filename = str(path)  # a full disk names no file
            raise
        finally:
            fresh.unlink(missing_ok=True)

    def _drawn(self, ending: str) -> bytes:
        if ending in (".png", ".pdf"):
            file = BytesIO()
            self.mask.plot(self.size, self.tokens).savefig(file, dpi=150, format=ending[1:])
            return file.getvalue()
        draw = page if ending == ".html" else svg
        return draw(picture(self.mask, self.size), self.mask.describe(), self.tokens).encode()


def read(expression: str, lengths: str | None, kv_lengths: str | None, tokens: str | None) -> Shown:
    """The mask that the settings of `yanma mask` say.

    >>> read("documents & causal", "3,2", None, None).mask
    documents([3, 2]) & causal()
    >>> read("causal", None, None, "the cat sat").size
    (3, 3)

    Raises ConfigError in one line, with the place in the expression.
    """
    texts = None if tokens is None else _documents_of(tokens)
    own = _numbers("--lengths", lengths) if lengths else [len(text) for text in texts] if texts else None
    other = _numbers("--kv-lengths", kv_lengths) if kv_lengths else None
    try:
        mask, size = _sized(parse(expression), own, other)
        if max(size) > MOST_TOKENS:
            raise ValueError(
                f"--lengths: {max(size):,} tokens are more than {MOST_TOKENS:,}, the most that is drawn"
            )
        mask._grid(size)
    except ParseError as error:
        raise ConfigError(f"{error.reason}; at character {error.place + 1} of {error.text!r}") from None
    except ValueError as error:
        raise ConfigError(f"{error}; the mask is {expression!r}") from None
    words = None if texts is None else tuple(word for text in texts for word in text)
    if words is not None and len(words) != size[0]:
        raise ConfigError(f"--tokens: {len(words)} tokens for {size[0]} queries; give one a query")
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
            raise ValueError("--kv-lengths without --lengths; give both")
        if mask.shape is None:
            raise ValueError("the size is not known; say it with --lengths, as in --lengths 5,3,7")
        return mask, mask.shape
    if has_documents(mask):
        framed = bound(mask, lengths, kv_lengths)
        return framed, framed._grid(None).shape
    if len(lengths) > 1:
        raise ValueError(f"--lengths has {len(lengths)} documents; write documents & ({mask.describe()})")
    return mask, (sum(lengths), sum(lengths if kv_lengths is None else kv_lengths))


def _numbers(flag: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{flag}: {text!r}; give numbers with commas between, as in 5,3,7") from None


def _documents_of(tokens: str) -> list[list[str]]:
    """Words, a document a line, from a file of that name or from the text itself."""
    try:
        is_file = Path(tokens).is_file()
    except OSError:  # a text may be too long for a name
        is_file = False
    text = Path(tokens).read_text(encoding="utf-8") if is_file else tokens
    return [line.split() for line in text.splitlines() if line.strip()]
