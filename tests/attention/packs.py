"""Packs, masks by name, and what the tests compare against: float64 and plain torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch.nn.functional import scaled_dot_product_attention

from yanma import attention
from yanma.keyed import keep_probability
from yanma.masks import Mask, causal, documents, from_dense, full, padding, window

LENGTHS = [(1,), (5, 1, 7, 3), (9, 9, 9, 9), (127, 128, 129), (600,)]
DTYPES = [torch.float32, torch.bfloat16]
HEADS = [(2, 2), (4, 2), (3, 1)]
"""Query heads and key heads."""
HEAD_DIM = 32

MASKS = {
    "documents": documents,
    "documents & causal": lambda lengths: documents(lengths) & causal(),
    "full": lambda lengths: full(),
    "causal": lambda lengths: causal(),
    "documents & window": lambda lengths: documents(lengths) & window(3, 1),
    "documents | window": lambda lengths: documents(lengths) | window(0, 1),
    "documents & ~causal": lambda lengths: documents(lengths) & ~causal(),
    "padding": lambda lengths: rows(lengths),
    "from_dense": lambda lengths: from_dense(scattered(sum(lengths))),
}

PLAIN = ("documents", "documents & causal", "full", "causal")
"""What `segments` computes without tiles."""


def rows(lengths: tuple[int, ...]) -> Mask:
    """A rectangle of as many slots as there are tokens."""
    total = sum(lengths)
    width = next(n for n in (4, 3, 2, 1) if total % n == 0)
    return padding([row % (width + 1) for row in range(total // width)], width)


def scattered(total: int) -> torch.Tensor:
    """Half of all pairs, and one query that may read nothing."""
    seen = torch.rand(total, total, generator=torch.Generator().manual_seed(total)) < 0.5
    seen[total // 2] = False
    return seen


def can(backend: str, mask: str, dropout: float) -> bool:
    """Whether a backend serves a call on a CPU that needs no gradients."""
    able = {"segments": True, "varlen": False, "flex": not dropout, "sdpa": not dropout, "reference": True}
    return able[backend]


def tensors(
    num_q: int, num_kv: int, heads: tuple[int, int] = (2, 2), dtype=torch.float32, seed: int = 0, dim=HEAD_DIM
):
    """q, k, v and a gradient to send back."""
    draw = torch.Generator().manual_seed(seed)
    shapes = (num_q, heads[0]), (num_kv, heads[1]), (num_kv, heads[1]), (num_q, heads[0])
    return tuple(torch.randn(*shape, dim, generator=draw).to(dtype) for shape in shapes)


def output_and_gradients(run, q, k, v, grad, *args, **options):
    """run(q, k, v, ...) and the gradients of q, k, v."""
    q, k, v = (x.detach().clone().requires_grad_() for x in (q, k, v))
    out = run(q, k, v, *args, **options)
    return (out.detach(), *torch.autograd.grad(out, (q, k, v), grad.to(out.dtype)))


def kept_weights(
    mask: Mask, num_q: int, num_kv: int, num_heads: int, dropout: float, seed, backend="reference"
):
    """Bool (H, Tq, Tk): which visible weights a backend keeps, read off its output.

    All scores are 0, so every visible weight is positive; values of one-hot rows show each weight by itself.
    """
    q, k = torch.zeros(num_q, num_heads, num_kv), torch.zeros(num_kv, num_heads, num_kv)
    v = torch.eye(num_kv)[:, None].expand(-1, num_heads, -1)
    return attention(q, k, v, mask, dropout=dropout, seed=seed, backend=backend).transpose(0, 1) > 0


@dataclass(frozen=True)
class Case:
    """One problem, with the float64 answer and how far plain torch in the same dtype is from it."""

    inputs: tuple[torch.Tensor, ...]
    mask: Mask
    exact: tuple[torch.Tensor, ...]
    """The output, and the gradients of q, k and v."""
    errors: dict[str, list[float]]
    """Of each way in which plain torch computes it: the largest error of each of these four."""

    def budgets(self, backend: str) -> list[float]:
        """The largest errors allowed: twice plain torch's, and one rounding step.

        Fused calls do not count for the reference, which is there to be read and to run in float64.
        """
        step = torch.finfo(self.inputs[0].dtype).eps
        ways = [
            errors for way, errors in self.errors.items() if (way == "by_hand") == (backend == "reference")
        ]
        return [
            2 * max(errors) + step * x.abs().max().item()
            for *errors, x in zip(*ways, self.exact, strict=True)
        ]


@cache
def case(
    mask_name: str, lengths: tuple[int, ...], heads: tuple[int, int], dtype: torch.dtype, dropout: float
) -> Case:
    total = sum(lengths)
    mask = MASKS[mask_name](lengths)
    inputs = tensors(total, total, heads, dtype, seed=total)

    doubled = (x.double() for x in inputs)
    exact = output_and_gradients(attention, *doubled, mask, dropout=dropout, seed=7, backend="reference")
    seen, kept = mask.dense(total), torch.tensor(1 / keep_probability(dropout))
    if dropout:
        kept = kept * kept_weights(mask, total, total, heads[0], dropout, 7)
    errors = {}
    for way in (by_hand, textbook, factor_last) if dropout else (by_hand, textbook, fused):
        got = output_and_gradients(way, *inputs, seen, kept)
        errors[way.__name__] = [error(a, b) for a, b in zip(got, exact, strict=True)]
    return Case(inputs, mask, exact, errors)


def by_hand(q, k, v, seen, kept):
    """Plain torch in the dtype of the inputs, softmax written out."""
    return textbook(q, k, v, seen, kept, softmax=_softmax)


def _softmax(x, dim):
    powers = torch.exp(x - x.amax(dim, keepdim=True))
    return powers / powers.sum(dim, keepdim=True)


def textbook(q, k, v, seen, kept, softmax=torch.softmax):
    """Plain torch in the dtype of the inputs: product, softmax, product."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * q.shape[2] ** -0.5
    weights = softmax(scores.masked_fill(~seen, -torch.inf), -1).masked_fill(~seen, 0) * kept.to(q.dtype)
    return torch.einsum("hqk,khd->qhd", weights, v)


def factor_last(q, k, v, seen, kept):
    """Plain torch in the dtype of the inputs, what dropout multiplies by taken out of the product."""
    factor = kept.max() or torch.ones(())
    return textbook(q, k, v, seen, kept / factor) * factor.to(q.dtype)


def fused(q, k, v, seen, kept):
    """Plain torch's fused call."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=seen)[0].transpose(0, 1)


def error(a: torch.Tensor, exact: torch.Tensor) -> float:
    return (a.double() - exact).abs().max().item()
