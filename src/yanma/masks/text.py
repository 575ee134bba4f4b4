"""Masks written as text, as `str(mask)` writes them: Python's own grammar, of which only masks are let through."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

from ..errors import YanmaError
from .algebra import bound, causal, documents, full, window
from .flat import padding
from .mask import Mask
from .patterns import blocks, random_blocks, random_drop
from .positions import chunked, dilated, global_tokens, prefix, strided
from .structure import segments, tree, visible

_KINDS: dict[str, Callable[..., Mask]] = {
    kind.__name__: kind
    for kind in (
        blocks, causal, chunked, dilated, documents, full, global_tokens, padding, prefix, random_blocks,
        random_drop, segments, strided, tree, visible, window,
    )
}  # fmt: skip
_BARE = ("causal", "documents", "full")
"""Names that mean something without parentheses."""


class ParseError(YanmaError):
    """A text is no mask. `reason` says why, `place` is where in `text`; as a string, the place is marked."""

    def __init__(self, reason: str, text: str, place: int) -> None:
        start = max(0, place - 30)
        shown = text[start : place + 40].replace("\n", " ")
        super().__init__(f"{reason}\n  {shown}\n  {' ' * (place - start)}^")
        self.reason, self.text, self.place = reason, text, place


def parse(text: str, lengths: Iterable[int] | None = None, kv_lengths: Iterable[int] | None = None) -> Mask:
    """The mask that a text says; `parse(str(mask)) == mask`. `lengths` are those of `documents` without any.

    `&` binds tighter than `|`, `-` tighter than both and `~` tightest, as in Python.

    >>> parse("documents & causal & window(127, 0)", lengths=[5, 3, 7])
    documents([5, 3, 7]) & window(127, 0)

    Raises ParseError that shows the place.
    """
    text = text.strip()
    try:
        mask = _mask(ast.parse(text, mode="eval").body, text)
    except SyntaxError as e:
        reason = f"cannot read the mask: {e.msg}"
        if "from_dense" in text or "from_mask_mod" in text:
            reason = "from_dense and from_mask_mod have no text; make them in Python"
        raise ParseError(reason, text, max(0, (e.offset or 1) - 1)) from None
    except (MemoryError, RecursionError):
        raise ParseError("the mask is nested too deeply to be read", text, 0) from None
    return mask if lengths is None else bound(mask, lengths, kv_lengths)


def _mask(node: ast.expr, text: str) -> Mask:
    match node:
        case ast.BinOp(left, ast.BitAnd(), right):
            return _mask(left, text) & _mask(right, text)
        case ast.BinOp(left, ast.BitOr(), right):
            return _mask(left, text) | _mask(right, text)
        case ast.BinOp(left, ast.Sub(), right):
            return _mask(left, text) - _mask(right, text)
        case ast.UnaryOp(ast.Invert(), operand):
            return ~_mask(operand, text)
        case ast.Name(name):
            kind = _kind(name, node, text)
            if name not in _BARE:
                raise _error(f"{name} needs arguments, as in {name}(...)", node, text)
            return kind()
        case ast.Call(ast.Name(name), args, keywords):
            kind = _kind(name, node, text)
            given = [_value(arg, text) for arg in args]
            if any(word.arg is None for word in keywords):
                raise _error("arguments are given one by one, not with **", node, text)
            named = {str(word.arg): _value(word.value, text) for word in keywords}
            return _called(kind, given, named, node, text)
    raise _error("a mask is a name, name(...), or masks joined by &, |, - and ~", node, text)


def _kind(name: str, node: ast.expr, text: str) -> Callable[..., Mask]:
    if name in _KINDS:
        return _KINDS[name]
    if name in ("from_dense", "from_mask_mod"):
        raise _error(f"{name} has no text; make it in Python", node, text)
    near = get_close_matches(name, _KINDS, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise _error(f"no mask is called {name}; {hint}there are {', '.join(sorted(_KINDS))}", node, text)


def _called(
    kind: Callable[..., Mask], given: list[Any], named: dict[str, Any], node: ast.expr, text: str
) -> Mask:
    try:
        return kind(*given, **named)
    except (TypeError, ValueError) as e:
        raise _error(str(e), node, text) from e


def _value(node: ast.expr, text: str) -> Any:
    """A number, a string, None, or lists of these."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise _error("an argument is a number, a text, None or a list of these", node, text) from None


def _error(message: str, node: ast.expr, text: str) -> ParseError:
    line = text.encode().splitlines()[node.lineno - 1][: node.col_offset].decode()
    before = sum(len(earlier) + 1 for earlier in text.splitlines()[: node.lineno - 1])
    return ParseError(message, text, before + len(line))
