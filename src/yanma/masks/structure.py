"""Kinds that follow what a document is made of: modalities, a tree of drafts, knowledge beside the text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from .grid import Grid, Pairs, Rows
from .intervals import Intervals, covered
from .mask import Mask, Numbers, Shape
from .numbers import wholes
from .positions import check_count, runs_of

Runs = tuple[tuple[int, int], ...]
Rule = tuple[str | int, str | int, str]


@dataclass(frozen=True, repr=False)
class Segments(Mask):
    """See `segments()`."""

    types: tuple[str | int, ...]
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        for query, key, how in self.rules:
            if how not in ("full", "causal", "run"):
                raise ValueError(f"segments: a rule says {how!r}; it can say 'full', 'causal' or 'run'")
            if how == "run" and query != key:
                raise ValueError(f"segments: 'run' is about one type, not about {query!r} and {key!r}")

    @property
    def shape(self) -> Shape:
        return len(self.types), len(self.types)

    def _check(self, grid: Grid) -> None:
        if grid.shape != self.shape or grid.lengths != grid.kv_lengths:
            raise ValueError(
                f"segments: {len(self.types)} types, but the documents have {grid.shape[0]} queries and "
                f"{grid.shape[1]} keys; give one type a token, the same for queries and keys"
            )

    @cached_property
    def _codes(self) -> Tensor:
        """(T,) int64: types as numbers."""
        numbers = {name: code for code, name in enumerate(dict.fromkeys(self.types))}
        return torch.tensor([numbers[name] for name in self.types], dtype=torch.int64)

    @cached_property
    def _rule_table(self) -> Tensor:
        """(3, C, C) bool: whether a query type reads a key type in full, causally, within its run."""
        names = list(dict.fromkeys(self.types))
        table = torch.zeros(3, len(names), len(names), dtype=torch.bool)
        for query, key, how in self.rules:
            if query in names and key in names:
                kind = ("full", "causal", "run").index(how)
                table[kind, names.index(query), names.index(key)] = True
        return table

    def _run_ids(self, grid: Grid) -> Tensor:
        """(T,) int64: the run that each token belongs to; a document's end ends a run."""
        owner = torch.arange(len(grid.lengths)).repeat_interleave(
            torch.tensor(grid.lengths, dtype=torch.int64)
        )
        is_new = (self._codes[1:] != self._codes[:-1]) | (owner[1:] != owner[:-1])
        return torch.cat([is_new.new_zeros(min(1, len(owner))), is_new]).cumsum(0)

    def _seen(self, pairs: Pairs) -> Tensor:
        device = pairs.q_idx.device
        codes, runs = self._codes.to(device), self._run_ids(pairs.grid).to(device)
        query, key = codes[pairs.q_idx], codes[pairs.kv_idx]
        in_full, causally, in_run = self._rule_table.to(device)[:, query, key].unbind()
        same_run = runs[pairs.q_idx] == runs[pairs.kv_idx]
        return pairs.together & (in_full | causally & (pairs.kv <= pairs.q) | in_run & same_run)

    def _runs(self, rows: Rows) -> Intervals:
        table = _RunTable.of(self._codes, self._run_ids(rows.grid), rows.grid)
        runs, is_there = table.of_rows(rows)
        query = self._codes[rows.start : rows.end, None]
        in_full, causally, in_run = self._rule_table[:, query, table.code[runs]].unbind()
        starts, ends = table.start[runs], table.end[runs]
        own = torch.arange(rows.start, rows.end)[:, None]
        whole = in_full | in_run & (starts <= own) & (own < ends)
        ends = torch.where(whole, ends, torch.minimum(ends, own + 1))
        hidden = ~is_there | ~(whole | causally) | (starts >= ends)
        num_kv = rows.grid.shape[1]
        return covered(starts.masked_fill(hidden, num_kv), ends.masked_fill(hidden, num_kv), num_kv)

    def _columns(self, grid: Grid) -> int:
        return _RunTable.of(self._codes, self._run_ids(grid), grid).most

    def _say(self, numbers: Numbers) -> str:
        short = all(isinstance(name, str) and len(name) == 1 for name in self.types)
        types = (
            repr("".join(map(str, self.types))) if short and len(self.types) <= 32 else numbers(self.types)
        )
        return f"segments({types}, {list(self.rules)})"

    def _is_alike(self) -> bool:
        return False

    def _within(self, grid: Grid, document: int) -> Mask:
        return Segments(self.types[grid.q_rows(document)], self.rules)


@dataclass(frozen=True, eq=False)
class _RunTable:
    """Runs of tokens of one type, M in all: where each lies, its type, and which a document has."""

    start: Tensor
    end: Tensor
    code: Tensor
    first: Tensor
    """(N,): a document's first run."""
    count: Tensor
    """(N,): how many it has."""
    most: int

    @classmethod
    def of(cls, codes: Tensor, run_ids: Tensor, grid: Grid) -> _RunTable:
        lengths = torch.unique_consecutive(run_ids, return_counts=True)[1]
        end = lengths.cumsum(0)
        start = end - lengths
        bounds = torch.searchsorted(start, torch.tensor([0, *grid.q_ends]))
        count = bounds.diff()
        most = int(count.max()) if len(count) else 0
        return cls(start, end, codes[start], bounds[:-1], count, most)

    def of_rows(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """(R, most) int64 and bool: the runs of each query's document, and which of these there are."""
        places = torch.arange(self.most)
        runs = self.first[rows.document][:, None] + places
        return runs.clamp(max=max(0, len(self.start) - 1)), places < self.count[rows.document][:, None]


@dataclass(frozen=True, repr=False)
class Tree(Mask):
    """See `tree()`: one tuple for every document, or a tuple of one a document."""

    parents: tuple[int, ...] | tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        for parents in self._all(1):
            for token, parent in enumerate(parents):
                if not -1 <= parent < token:
                    raise ValueError(
                        f"tree: token {token} has parent {parent}; a parent stands earlier in the list, -1 = root"
                    )

    @cached_property
    def _is_single(self) -> bool:
        return not self.parents or isinstance(self.parents[0], int)

    def _all(self, count: int) -> tuple[tuple[int, ...], ...]:
        return (self.parents,) * count if self._is_single else self.parents  # type: ignore[return-value]

    @property
    def shape(self) -> Shape | None:
        trees = self._all(1)
        return (len(trees[0]), len(trees[0])) if len(trees) == 1 else None

    def _check(self, grid: Grid) -> None:
        if not self._is_single:
            check_count("tree", "trees", self.parents, grid)
        sizes = zip(self._all(len(grid.lengths)), grid.lengths, grid.kv_lengths, strict=True)
        for document, (parents, num_q, num_kv) in enumerate(sizes):
            if not len(parents) == num_q == num_kv:
                raise ValueError(
                    f"tree: {len(parents)} parents, but document {document} has {num_q} queries and {num_kv} keys"
                )

    def _seen(self, pairs: Pairs) -> Tensor:
        trees = self._all(len(pairs.grid.lengths))
        flat = torch.tensor([parent for tree in trees for parent in tree], dtype=torch.int64)
        flat = flat.to(pairs.q_idx.device)
        starts = pairs.q_idx - pairs.q
        seen = torch.zeros_like(pairs.together)
        ancestor = pairs.q
        while bool((ancestor >= 0).any()):
            seen = seen | (ancestor == pairs.kv)
            above = flat[(starts + ancestor).clamp(min=0)]
            ancestor = torch.where(ancestor >= 0, above, -1)
        return seen & pairs.together

    def _runs(self, rows: Rows) -> Intervals:
        trees = self._all(len(rows.grid.lengths))
        places = zip(rows.document.tolist(), rows.q.tolist(), strict=True)
        lists = [_ancestry(trees[document])[token] for document, token in places]
        return _from_runs(rows, lists)

    def _columns(self, grid: Grid) -> int:
        trees = set(self._all(min(1, len(grid.lengths))) if self._is_single else self._all(1))
        return max((len(runs) for tree in trees for runs in _ancestry(tree)), default=1)

    def _say(self, numbers: Numbers) -> str:
        if self._is_single:
            return f"tree({numbers(self.parents)})"
        return f"tree([{', '.join(numbers(parents) for parents in self._all(1))}])"

    def _is_alike(self) -> bool:
        return self._is_single

    def _within(self, grid: Grid, document: int) -> Mask:
        return Tree(self._all(document + 1)[document])


@lru_cache(maxsize=64)
def _ancestry(parents: tuple[int, ...]) -> tuple[Runs, ...]:
    """Each token's ancestors and itself, as runs."""
    found: list[Runs] = []
    for token, parent in enumerate(parents):
        above = found[parent] if parent >= 0 else ()
        if above and parent == token - 1:
            found.append((*above[:-1], (above[-1][0], token + 1)))
        else:
            found.append((*above, (token, token + 1)))
    return tuple(found)


def _from_runs(rows: Rows, lists: Sequence[Runs]) -> Intervals:
    """Intervals from each query's runs of positions."""
    width = max((len(runs) for runs in lists), default=0)
    table = torch.zeros(len(lists), width, 2, dtype=torch.int32)
    counts = torch.tensor([len(runs) for runs in lists])
    flat = torch.tensor([run for runs in lists for run in runs], dtype=torch.int32).view(-1, 2)
    table[torch.arange(width) < counts[:, None]] = flat
    return rows.runs(table[..., 0], table[..., 1])


def runs_of_rows(starts: Tensor, ends: Tensor) -> list[Runs]:
    """Each row's runs from tensors (R, K); start == end: no run."""
    rows = zip(starts.tolist(), ends.tolist(), strict=True)
    return [tuple((start, end) for start, end in zip(*row, strict=True) if start < end) for row in rows]


@dataclass(frozen=True)
class VisibleRows:
    """One document's visible matrix: each query's runs of keys."""

    num_q: int
    num_kv: int
    rows: tuple[Runs, ...]

    @classmethod
    def of(cls, matrix: Tensor) -> VisibleRows:
        """From a bool (num_q, num_kv)."""
        if matrix.dim() != 2 or matrix.dtype != torch.bool:
            raise ValueError(
                f"visible: a matrix is bool (queries, keys); got {matrix.dtype} {tuple(matrix.shape)}"
            )
        found = Intervals.from_bool(matrix)
        return cls(matrix.shape[0], matrix.shape[1], tuple(runs_of_rows(found.starts, found.ends)))

    @classmethod
    def of_pairs(cls, num_q: int, num_kv: int, pairs: Iterable[Sequence[int]]) -> VisibleRows:
        """From pairs (query, key)."""
        keys: list[list[int]] = [[] for _ in range(num_q)]
        for query, key in pairs:
            if not (0 <= query < num_q and 0 <= key < num_kv):
                raise ValueError(f"visible: the pair ({query}, {key}) lies outside of {num_q} x {num_kv}")
            keys[query].append(key)
        return cls(num_q, num_kv, tuple(runs_of(row) for row in keys))

    def pairs(self) -> list[tuple[int, int]]:
        """All pairs (query, key), in order."""
        return [
            (q, kv) for q, runs in enumerate(self.rows) for start, end in runs for kv in range(start, end)
        ]

    def matrix(self) -> Tensor:
        """Bool (num_q, num_kv)."""
        seen = torch.zeros(self.num_q, self.num_kv, dtype=torch.bool)
        for query, runs in enumerate(self.rows):
            for start, end in runs:
                seen[query, start:end] = True
        return seen


@dataclass(frozen=True, repr=False)
class Visible(Mask):
    """See `visible()`."""

    documents: tuple[VisibleRows, ...]

    @property
    def shape(self) -> Shape | None:
        only = self.documents[0] if len(self.documents) == 1 else None
        return (only.num_q, only.num_kv) if only else None

    def _check(self, grid: Grid) -> None:
        check_count("visible", "matrices", self.documents, grid)
        sizes = zip(self.documents, grid.lengths, grid.kv_lengths, strict=True)
        for document, (own, num_q, num_kv) in enumerate(sizes):
            if (own.num_q, own.num_kv) != (num_q, num_kv):
                raise ValueError(
                    f"visible: matrix {document} is {own.num_q} x {own.num_kv}, its document {num_q} x {num_kv}"
                )

    def _seen(self, pairs: Pairs) -> Tensor:
        seen = torch.zeros_like(pairs.together)
        for document, own in enumerate(self.documents):
            if not (own.num_q and own.num_kv):
                continue
            is_here = (pairs.q_doc == document) & (pairs.kv_doc == document)
            q, kv = pairs.q.clamp(max=own.num_q - 1), pairs.kv.clamp(max=own.num_kv - 1)
            seen = seen | is_here & own.matrix().to(q.device)[q, kv]
        return seen

    def _runs(self, rows: Rows) -> Intervals:
        places = zip(rows.document.tolist(), rows.q.tolist(), strict=True)
        return _from_runs(rows, [self.documents[document].rows[query] for document, query in places])

    def _columns(self, grid: Grid) -> int:
        return max((len(runs) for own in self.documents for runs in own.rows), default=1)

    def _say(self, numbers: Numbers) -> str:
        texts = (f"({own.num_q}, {own.num_kv}, {numbers(own.pairs())})" for own in self.documents)
        return f"visible([{', '.join(texts)}])"

    def _is_alike(self) -> bool:
        return False

    def _within(self, grid: Grid, document: int) -> Mask:
        return Visible((self.documents[document],))


def segments(types: Sequence[str | int], rules: Iterable[Sequence[str | int]]) -> Mask:
    """Each token has a type, and rules (query type, key type, how) say which types read which; others are hidden.

    `types` is a sequence with one entry a token of the pack, or a string of one letter a token. How: "full",
    "causal", or "run", the neighbours of the same type without interruption. So patches of an image read each other
    and text is causal, as in Zhou et al. 2024 (Transfusion):

    >>> rules = [("i", "i", "run"), ("t", "t", "causal"), ("t", "i", "causal"), ("i", "t", "causal")]
    >>> print(segments("tiitii", rules).show())
    #.....
    ###...
    ###...
    ####..
    #..###
    #..###
    """
    told = tuple((query, key, str(how)) for query, key, how in rules)
    return Segments(tuple(types), told)


def tree(parents: Sequence[int] | Sequence[Sequence[int]]) -> Mask:
    """A query reads itself and its ancestors: `parents[i]` is the place of token i's parent in its document, -1 = none.

    One list for all documents, or one list a document. Miao et al. 2024 (SpecInfer).

    >>> print(tree([-1, 0, 0, 1]).show())
    #...
    ##..
    #.#.
    ##.#
    """
    if len(parents) > 0 and isinstance(parents[0], Iterable):
        return Tree(tuple(wholes("tree", "parents", own) for own in parents))
    return Tree(wholes("tree", "parents", parents))


def visible(matrices: Iterable[Tensor | tuple[int, int, Iterable[Sequence[int]]]]) -> Mask:
    """A matrix a document says who reads whom: a bool tensor, or (queries, keys, pairs). Liu et al. 2020 (K-BERT).

    It is kept as runs of keys, so it is hashable, and as small as the matrix is simple.

    >>> from yanma.masks import documents
    >>> print((documents([2, 1]) & visible([(2, 2, [(0, 0), (1, 1)]), (1, 1, [(0, 0)])])).show())
    #..
    .#.
    ..#
    """
    return Visible(
        tuple(VisibleRows.of(m) if isinstance(m, Tensor) else VisibleRows.of_pairs(*m) for m in matrices)
    )
