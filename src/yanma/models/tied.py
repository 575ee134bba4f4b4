"""The gradient of a table that a model embeds tokens by and scores them by: written once, by the loss.

Autograd would make two tables of the size of the vocabulary, one of them zeros but for the tokens of the batch, and add
them up: with XLM-R's 250,002 words that is a fifth of a step's time, and 384 MB.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .layout import Scoring, running

# T tokens, V vocabulary, D width


class TiedEmbedding(nn.Embedding):
    """Embeddings of tokens: where the last layer shares their table, its gradient passes from the loss to them."""

    _yanma_stock = nn.Embedding

    def forward(self, input: Tensor) -> Tensor:
        layout = running()
        scoring = None if layout is None else layout.scoring
        is_plain = self.max_norm is None and not self.scale_grad_by_freq and not self.sparse
        if scoring is None or scoring.table is not self.weight or scoring.hands_gradient or not is_plain:
            return super().forward(input)
        if torch.is_grad_enabled() and self.weight.requires_grad:
            scoring.hands_gradient = True
            padding = -1 if self.padding_idx is None else self.padding_idx
            return _Embed.apply(self.weight, input, padding, scoring)  # type: ignore[no-any-return, no-untyped-call]
        return super().forward(input)


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding: int, scoring: Scoring) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.padding, ctx.scoring = padding, scoring
        return nn.functional.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """What the loss has left, as its backward comes before this one, with the embedded tokens' rows added to it."""
        (ids,) = ctx.saved_tensors
        table = ctx.scoring.table_gradient
        ctx.scoring.table_gradient = None
        assert table is not None
        ids, rows = ids.flatten(), grad.reshape(-1, grad.shape[-1])
        is_token = ids != ctx.padding
        table.index_add_(0, ids[is_token], rows[is_token].to(table.dtype))
        return table, None, None, None
