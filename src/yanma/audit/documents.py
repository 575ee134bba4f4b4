"""The documents that an audit runs: lengths on purpose, ids that tell them apart, one token changed at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain

import torch

from ..errors import DataError

Document = tuple[int, ...]
Documents = tuple[Document, ...]

_LENGTHS = (1, 2, 5, 17, 40)
_PICTURED_DOCUMENTS, _PICTURED_TOKENS = 4, 5


def random_documents(
    vocabulary: int, *, without: Collection[int] = (), longest: int | None = None, seed: int = 0
) -> Documents:
    """Five documents of 1, 2, 5, 17 and 40 tokens (at most `longest`), no id twice where the vocabulary allows it.

    `without` are ids that are never drawn: special tokens.

    >>> [len(document) for document in random_documents(1000, longest=20)]
    [1, 2, 5, 17, 20]

    Raises DataError where fewer than two ids are left to draw.
    """
    allowed = [token for token in range(vocabulary) if token not in without]
    if len(allowed) < 2:
        raise DataError(
            f"a vocabulary of {vocabulary} leaves {len(allowed)} ids that are not special; "
            f"an audit changes tokens and needs two"
        )
    order = torch.randperm(len(allowed), generator=torch.Generator().manual_seed(seed)).tolist()
    lengths = [min(length, longest or length) for length in _LENGTHS]
    drawn = [allowed[order[index % len(order)]] for index in range(sum(lengths))]
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    return tuple(tuple(drawn[start : start + length]) for start, length in zip(starts, lengths, strict=True))


def checked(documents: Sequence[Sequence[int]]) -> Documents:
    """The documents as tuples of ints.

    Raises DataError for what cannot show a leak: fewer than two documents, an empty one, or one id throughout.
    """
    found = tuple(tuple(int(token) for token in document) for document in documents)
    if len(found) < 2:
        raise DataError(f"documents: {len(found)} of them; a leak needs two, give more")
    if () in found:
        raise DataError(f"documents: number {found.index(())} is empty; leave it out")
    if len(set(chain(*found))) < 2:
        raise DataError(
            "documents: all tokens have the same id, so none can be changed; give other documents"
        )
    return found


def replaced(documents: Documents, document: int, token: int) -> Documents:
    """The documents with one token changed to another id that occurs in them.

    >>> replaced(((7, 8), (9,)), 0, 1)
    ((7, 9), (9,))
    """
    ids = sorted(set(chain(*documents)))
    old = documents[document]
    new = ids[(ids.index(old[token]) + 1) % len(ids)]
    changed = (*old[:token], new, *old[token + 1 :])
    return (*documents[:document], changed, *documents[document + 1 :])


def own_ids(documents: Documents, document: int) -> set[int]:
    """Ids that occur in this document and in no other."""
    others = chain(*documents[:document], *documents[document + 1 :])
    return set(documents[document]) - set(others)


def pictured(documents: Documents) -> Documents:
    """The beginnings of the first few documents: small enough to draw who reads whom.

    >>> pictured(((1,), (2, 3, 4, 5, 6, 7)))
    ((1,), (2, 3, 4, 5, 6))
    """
    return tuple(document[:_PICTURED_TOKENS] for document in documents[:_PICTURED_DOCUMENTS])
