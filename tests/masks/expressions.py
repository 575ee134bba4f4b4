"""Random mask expressions over all kinds, for any test that says something of every mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from yanma.masks import (
    Mask,
    blocks,
    causal,
    chunked,
    dilated,
    documents,
    from_dense,
    from_mask_mod,
    full,
    global_tokens,
    padding,
    prefix,
    random_blocks,
    random_drop,
    segments,
    strided,
    tree,
    visible,
    window,
)


@dataclass(frozen=True)
class Case:
    """An expression, and the documents in which it lives."""

    mask: Mask
    lengths: tuple[int, ...]
    kv_lengths: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        return sum(self.lengths), sum(self.kv_lengths)


def odd_product(b, h, q_idx, kv_idx):
    """A mask_mod without structure."""
    return (q_idx * 7 + kv_idx * 3) % 5 < 2


@st.composite
def packs(draw, most: int = 200):
    """Lengths of queries and keys: one to four documents, some empty, often the same on both sides."""
    count = draw(st.integers(1, 4))
    length = st.one_of(st.integers(0, 9), st.integers(0, most))
    lengths = tuple(draw(st.lists(length, min_size=count, max_size=count)))
    if draw(st.integers(0, 3)):
        return lengths, lengths
    return lengths, tuple(draw(st.lists(length, min_size=count, max_size=count)))


@st.composite
def leaves(draw, lengths, kv_lengths, writable: bool = False):
    """A mask of any kind that fits these documents; `writable`: of the kinds that have a text."""
    count = len(lengths)
    reach = st.none() | st.integers(0, 12)
    small = st.integers(1, 9)
    kinds = {
        "full": st.just(full()),
        "causal": st.just(causal()),
        "window": st.builds(window, reach, reach),
        "documents": st.just(documents(lengths, kv_lengths)),
        "prefix": st.builds(prefix, st.integers(0, 12) | _one_each(st.integers(0, 12), count)),
        "global": st.builds(global_tokens, st.lists(st.integers(0, 70), max_size=4), first=st.integers(0, 3)),
        "chunked": st.builds(chunked, small),
        "dilated": st.builds(dilated, small, reach, reach),
        "strided": st.builds(strided, small),
        "blocks": _patterns(lengths, kv_lengths),
        "random_blocks": st.builds(random_blocks, st.integers(1, 3), small, st.integers(-(2**63), 2**63 - 1)),
        "random_drop": st.builds(
            random_drop,
            st.sampled_from([0.0, 0.1, 0.5, 1.0]),
            st.integers(0, 99) | _one_each(st.integers(0, 3), count),
        ),
        "visible": _visibles(lengths, kv_lengths),
    }
    if lengths == kv_lengths:
        kinds["segments"] = _segments(sum(lengths))
        kinds["tree"] = st.tuples(*[_trees(length) for length in lengths]).map(tree)
        if total := sum(lengths):
            width = draw(st.sampled_from([n for n in range(1, total + 1) if total % n == 0]))
            rows = total // width
            valid = st.lists(st.integers(0, width), min_size=rows, max_size=rows)
            kinds["padding"] = st.builds(padding, valid, st.just(width))
    if not writable:
        kinds["from_mask_mod"] = st.just(from_mask_mod(odd_product))
        kinds["from_dense"] = st.integers(0, 99).map(lambda s: from_dense(_grid(lengths, kv_lengths, s)))
    return draw(kinds[draw(st.sampled_from(sorted(kinds)))])


@st.composite
def cases(draw, depth: int = 4, most: int = 200, writable: bool = False):
    """An expression up to `depth` deep; it often has documents, or is of one document."""
    lengths, kv_lengths = draw(packs(most))
    mask = draw(expressions(lengths, kv_lengths, depth, writable))
    if mask.frame is None:
        if draw(st.booleans()) or len(lengths) > 1:
            mask = documents(lengths, kv_lengths) & mask
    return Case(mask, lengths, kv_lengths)


@st.composite
def expressions(draw, lengths, kv_lengths, depth: int = 4, writable: bool = False):
    """An expression up to `depth` deep over these documents."""
    if depth == 1 or draw(st.integers(0, 3)) == 0:
        return draw(leaves(lengths, kv_lengths, writable))
    sign = draw(st.sampled_from("&|~-"))
    a = draw(expressions(lengths, kv_lengths, depth - 1, writable))
    if sign == "~":
        return ~a
    b = draw(expressions(lengths, kv_lengths, depth - 1, writable))
    return a & b if sign == "&" else a | b if sign == "|" else a - b


def _one_each(values, count):
    return st.lists(values, min_size=count, max_size=count)


def _patterns(lengths, kv_lengths):
    def pattern(size, seed):
        shape = (-(-max(lengths, default=0) // size) + 1, -(-max(kv_lengths, default=0) // size))
        bits = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
        return blocks(bits.tolist(), size)

    return st.builds(pattern, st.integers(1, 9), st.integers(0, 99))


def _segments(total):
    kind = st.sampled_from("ta")
    rule = st.tuples(kind, kind, st.sampled_from(["full", "causal"]))
    run = st.tuples(kind).map(lambda k: (k[0], k[0], "run"))
    text = st.integers(0, 2**16).map(lambda seed: _letters(total, seed))
    return st.builds(segments, text, st.lists(rule | run, max_size=4))


def _letters(total, seed):
    draw = torch.Generator().manual_seed(seed)
    letters = ""
    while len(letters) < total:
        letters += "tax"[int(torch.randint(3, (), generator=draw))] * int(
            torch.randint(1, 5, (), generator=draw)
        )
    return letters[:total]


def _trees(length):
    def parents(seed):
        draw = torch.Generator().manual_seed(seed)
        return [
            token - 1 if token and torch.rand((), generator=draw) < 0.6
            else int(torch.randint(-1, max(token, 0) or 1, (), generator=draw)) if token else -1
            for token in range(length)
        ]  # fmt: skip

    return st.integers(0, 2**16).map(parents)


def _visibles(lengths, kv_lengths):
    def matrices(seed):
        draw = torch.Generator().manual_seed(seed)
        return [torch.rand(size, generator=draw) < 0.4 for size in zip(lengths, kv_lengths, strict=True)]

    return st.integers(0, 99).map(lambda seed: visible(matrices(seed)))


def _grid(lengths, kv_lengths, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(sum(lengths), sum(kv_lengths), generator=draw) < 0.5
