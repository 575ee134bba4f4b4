"""Other forms of a mask: for varlen kernels, for models that add a 4-D mask, by key column, and as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import Unsupported
from .algebra import Documents, Full, Window
from .intervals import Intervals
from .mask import Mask, Shape

# N documents


@dataclass(frozen=True, eq=False)
class Varlen:
    """What varlen kernels take: see `varlen()`."""

    cu_seqlens_q: Tensor
    """(N + 1,) int32."""
    cu_seqlens_k: Tensor
    """(N + 1,) int32."""
    max_q: int
    max_k: int
    window: tuple[int, int]
    """Tokens to the left and to the right, the query not counted; -1 = no limit."""


def varlen(mask: Mask, n: int | Shape | None = None) -> Varlen:
    """The mask for varlen kernels, which know documents and one window and nothing else.

    >>> from yanma.masks import causal, documents
    >>> found = varlen(documents([3, 2]) & causal())
    >>> found.cu_seqlens_q.tolist(), found.max_q, found.window
    ([0, 3, 5], 3, (-1, 0))

    Raises Unsupported that names what these kernels cannot say.
    """
    limit = Window(None, None)
    for term in mask.terms():
        if isinstance(term, Window):
            limit = term
        elif not isinstance(term, Documents | Full):
            raise Unsupported(
                f"varlen kernels know documents and one window, not {term.describe()}; block_mask can say it"
            )
    grid = mask._grid(n)
    if isinstance(mask, Full) and len(grid.lengths) > 1:
        raise Unsupported("varlen kernels cannot read across documents")
    for document, (num_q, num_kv) in enumerate(zip(grid.lengths, grid.kv_lengths, strict=True)):
        if limit != Window(None, None) and num_q != num_kv:
            raise Unsupported(
                f"varlen kernels align a window at the end of a document, yanma at its start; document {document} "
                f"has {num_q} queries and {num_kv} keys"
            )
    q, kv = (
        pad(torch.tensor(lengths, dtype=torch.int64).cumsum(0), (1, 0)).int()
        for lengths in (grid.lengths, grid.kv_lengths)
    )
    left, right = (-1 if reach is None else reach for reach in (limit.left, limit.right))
    return Varlen(q, kv, max(grid.lengths, default=0), grid.longest, (left, right))


def additive(mask: Mask, dtype: torch.dtype, n: int | Shape | None = None) -> Tensor:
    """(1, 1, Tq, Tk): 0 where a query may read, -inf where not, as models take a 4-D `attention_mask`. Quadratic.

    Added to scores and put through softmax, a row of only -inf gives NaN, and one of only the least finite number
    gives the mean of all values; neither is yanma's 0. A query that may read nothing is refused.

    >>> from yanma.masks import causal
    >>> additive(causal(), torch.float32, 2)
    tensor([[[[0., -inf],
              [0., 0.]]]])
    """
    seen = mask.dense(n)
    blind = (~seen.any(1)).nonzero()
    if len(blind):
        raise ValueError(
            f"additive: query {int(blind[0])} may read nothing ({len(blind)} such queries), which an additive mask "
            f"cannot say; give it a key, or use attention() of yanma, where its output is 0"
        )
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, -torch.inf)[None, None]


def column_intervals(mask: Mask, n: int | Shape | None = None) -> Intervals:
    """For each key the runs of queries that may *not* read it, as FlashMask has them (Wang et al. 2024).

    Rows are keys and `num_kv` is the number of queries.

    >>> from yanma.masks import causal, documents
    >>> found = column_intervals(documents([2, 1]) & causal())
    >>> found.starts.tolist(), found.ends.tolist()
    ([[2, 3], [0, 2], [0, 3]], [[3, 3], [1, 3], [2, 3]])
    """
    return (~mask.intervals(n)).transposed()


@dataclass(frozen=True)
class Counts:
    """How much of the square a mask shows: see `count()`."""

    num_q: int
    num_kv: int
    documents: tuple[int, ...]
    """Visible pairs of the queries of each document."""

    @property
    def visible(self) -> int:
        """Visible pairs."""
        return sum(self.documents)

    @property
    def density(self) -> float:
        """The share of all pairs that is visible; 0 where there are none."""
        return self.visible / (self.num_q * self.num_kv) if self.num_q * self.num_kv else 0.0

    @property
    def saved(self) -> float:
        """The share of dense attention's work that need not be done."""
        return 1 - self.density if self.num_q * self.num_kv else 0.0

    def flops(self, head_dim: int, num_heads: int) -> int:
        """Floating-point operations of one forward over the visible pairs: two products, 2 operations a number."""
        return 4 * self.visible * head_dim * num_heads


def count(mask: Mask, n: int | Shape | None = None) -> Counts:
    """Count what is visible, from the intervals of some queries at a time.

    >>> from yanma.masks import causal, documents
    >>> found = count(documents([3, 2]) & causal())
    >>> found.documents, found.visible, found.density
    ((6, 3), 9, 0.36)
    """
    grid = mask._grid(n)
    visible = torch.zeros(grid.shape[0] + 1, dtype=torch.int64)
    for start, runs in mask._chunks(grid, 0, grid.shape[0]):
        visible[start + 1 : start + 1 + len(runs.starts)] = runs.counts()
    total = visible.cumsum(0)
    ends = total[torch.tensor([0, *grid.q_ends])].tolist()
    return Counts(*grid.shape, tuple(end - start for start, end in pairwise(ends)))
