"""Models with relative positions: MPNet and DeBERTa, which compute attention by themselves, and T5.

What they add to scores depends on the distance of two tokens, so it is computed for documents of one length at a time,
and never for all pairs of the pack.
"""

# T tokens in the pack, H heads, D head width, C = H * D, B documents of n tokens each, P relative positions

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..attention.biased import Bias, attend_biased
from ..attention.kernel import rows_times
from ..keyed import derived
from .bounds import refuse_alone
from .layout import Layout, running
from .linear import linear
from .trials import Attention


class TakesWhatItIgnores(nn.Module):
    """A base model of theirs: called by itself, it would take a pack by keywords for one text."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if running() is None:
            refuse_alone(kwargs)
        return super().forward(*args, **kwargs)


class DistanceBias(nn.Module):
    """MPNet's encoder: what two tokens' distance adds to their score, for each distance once."""

    config: Any
    relative_attention_bias: nn.Module
    relative_position_bucket: Callable[..., Tensor]

    def compute_position_bias(
        self, x: Tensor, position_ids: Tensor | None = None, num_buckets: int = 32
    ) -> Any:
        """(2 L - 1, H): row L - 1 + d is for keys that stand d after their query; L is no less than any length."""
        if running() is None:
            return super().compute_position_bias(x, position_ids, num_buckets)  # type: ignore[misc]
        most = self.config.max_position_embeddings
        distances = torch.arange(1 - most, most, device=x.device)
        return self.relative_attention_bias(self.relative_position_bucket(distances, num_buckets=num_buckets))


class DistanceBiasedAttention(nn.Module):
    """MPNet's attention, given what `DistanceBias` made."""

    q: nn.Module
    k: nn.Module
    v: nn.Module
    o: nn.Module
    dropout: nn.Dropout
    num_attention_heads: int
    attention_head_size: int

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Any = None,
        position_bias: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        layout = running()
        if layout is None:
            return super().forward(hidden_states, attention_mask, position_bias, *args, **kwargs)
        heads = self.num_attention_heads, self.attention_head_size
        q, k, v = (project(hidden_states)[0].unflatten(-1, heads) for project in (self.q, self.k, self.v))
        scale = self.attention_head_size**-0.5

        def attend(table: Tensor, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
            dropped = _dropout(self.dropout, layout)
            return attend_biased(q, k, v, layout.lengths, distance_bias(table), scale, **dropped)

        if layout.bits is not None:
            key = "distances", scale, self.dropout.training and self.dropout.p
            layout.bits.attention(key, on_stretched(attend, position_bias), q, k, layout)
        attended = attend(position_bias, q, k, v, layout)
        return (self.o(attended.flatten(1)[None]),)


class BucketedAttention(nn.Module):
    """T5's attention: in the place of biases for all pairs, those of each distance, and none towards the encoder."""

    relative_attention_bias: nn.Module
    relative_attention_num_buckets: int
    relative_attention_max_distance: int
    is_decoder: bool
    _relative_position_bucket: Callable[..., Tensor]

    def forward(
        self,
        hidden_states: Tensor,
        mask: Any = None,
        key_value_states: Tensor | None = None,
        position_bias: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if running() is not None and key_value_states is not None:
            position_bias = hidden_states.new_zeros(0)  # else the stock model makes a zero for each pair
        return super().forward(hidden_states, mask, key_value_states, position_bias, **kwargs)

    def compute_bias(self, *args: Any, **kwargs: Any) -> Any:
        """(2 L - 1, H): row L - 1 + d is for keys that stand d after their query; L is the longest length."""
        layout = running()
        if layout is None:
            return super().compute_bias(*args, **kwargs)  # type: ignore[misc]
        furthest, most = self.relative_attention_max_distance, layout.longest
        buckets = self._relative_position_bucket(
            torch.arange(
                -furthest, furthest + 1, device=layout.device
            ),  # beyond these there is no other bucket
            bidirectional=not self.is_decoder,
            num_buckets=self.relative_attention_num_buckets,
            max_distance=furthest,
        )
        distances = torch.arange(1 - most, most, device=layout.device).clamp(-furthest, furthest)
        return self.relative_attention_bias(buckets[distances + furthest])


def distance_bias(table: Tensor) -> Bias:
    """What is added to scores, of a table (2 L - 1, H) as `by_distance` takes it."""
    return lambda q, k: by_distance(table, q.shape[2]).to(q.dtype)


def on_stretched(attend: Callable[..., Tensor], table: Tensor) -> Attention:
    """`attend(table, q, k, v, layout)` with a table for longer documents than a batch has, to try them."""

    def attend_any(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return attend(stretched(table, max(layout.lengths)), q, k, v, layout)

    return attend_any


def stretched(table: Tensor, length: int) -> Tensor:
    """(2 n - 1, H) for documents of `length` tokens, of a table (2 L - 1, H) whose ends stand for all beyond them."""
    middle = len(table) // 2
    rows = torch.arange(1 - length, length, device=table.device).clamp(-middle, middle) + middle
    return table[rows]


def by_distance(table: Tensor, length: int) -> Tensor:
    """(1, H, n, n) of (2 L - 1, H): what stands in row L - 1 + (key - query).

    >>> by_distance(torch.arange(5)[:, None], 2)[0, 0].tolist()
    [[2, 3], [1, 2]]
    """
    middle = len(table) // 2
    rows = table[middle - length + 1 : middle + length]
    return rows.unfold(0, length, 1).flip(0).transpose(0, 1)[None]


class DisentangledEncoder(nn.Module):
    """DeBERTa's encoder, which makes nothing for all pairs of the pack."""

    def get_attention_mask(self, attention_mask: Tensor) -> Any:
        if running() is None:
            return super().get_attention_mask(attention_mask)  # type: ignore[misc]
        return attention_mask

    def get_rel_pos(self, *args: Any, **kwargs: Any) -> Any:
        return super().get_rel_pos(*args, **kwargs) if running() is None else None  # type: ignore[misc]


class DisentangledAttention(nn.Module):
    """DeBERTa's attention: scores of contents, of contents with distances, and of distances with contents."""

    query_proj: nn.Module
    key_proj: nn.Module
    value_proj: nn.Module
    pos_key_proj: nn.Module
    pos_query_proj: nn.Module
    dropout: nn.Dropout
    pos_dropout: nn.Module
    pos_att_type: list[str]
    share_att_key: bool
    relative_attention: bool
    num_attention_heads: int
    position_buckets: int
    max_relative_positions: int
    pos_ebd_size: int

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Any,
        *args: Any,
        rel_embeddings: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        layout = running()
        if layout is None:
            return super().forward(
                hidden_states, attention_mask, *args, rel_embeddings=rel_embeddings, **kwargs
            )
        q, k, v = (
            self._heads(project(hidden_states)[0])
            for project in (self.query_proj, self.key_proj, self.value_proj)
        )
        kinds = [kind for kind in ("c2p", "p2c") if kind in self.pos_att_type]
        scale = 1 / float(
            torch.tensor(q.shape[2] * (1.0 + len(kinds))).sqrt()
        )  # in float32, as the stock model's
        keys, queries = (None, None) if rel_embeddings is None else self._positions(rel_embeddings)

        def bias(q: Tensor, k: Tensor) -> Tensor:
            score = q.new_zeros(1, 1, q.shape[2], q.shape[2])
            if keys is not None:
                score = score + _with_distances(q, keys, self._index(q.shape[2]))
            if queries is not None:
                score = score + _with_distances(k, queries, self._index(q.shape[2]).flip(0)).transpose(2, 3)
            return score * scale

        table = None if rel_embeddings is None else (*rel_embeddings.shape, self.position_buckets)
        key = (*kinds, table), scale, self.dropout.training and self.dropout.p

        def attend(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
            return attend_biased(q, k, v, layout.lengths, bias, scale, **_dropout(self.dropout, layout))

        if layout.bits is not None:
            layout.bits.attention(key, attend, q, k, layout)
        attended = attend(q, k, v, layout)
        return attended.flatten(1)[None], None

    def _heads(self, x: Tensor) -> Tensor:
        """(..., C) as (..., H, D)."""
        heads: Tensor = x.unflatten(-1, (self.num_attention_heads, -1))
        return heads

    def _positions(self, rel_embeddings: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Keys that contents are compared with, and queries, (P, H, D) each; None for what the model does not do."""
        table = self.pos_dropout(rel_embeddings[None, None])[:, :, : 2 * self.pos_ebd_size]
        as_keys = "c2p" in self.pos_att_type, "key_proj"
        as_queries = "p2c" in self.pos_att_type, "query_proj"
        prefix = "" if self.share_att_key else "pos_"
        keys, queries = (
            self._heads(getattr(self, prefix + name)(table)[0, 0]) if wanted else None
            for wanted, name in (as_keys, as_queries)
        )
        return keys, queries

    def _index(self, length: int) -> Tensor:
        """(2 n - 1,) int64: the row of a position that stands n - 1 - i after its query."""
        return _rows_of_distances(
            length, self.position_buckets, self.max_relative_positions, self.pos_ebd_size
        )


@lru_cache(maxsize=1024)
def _rows_of_distances(length: int, buckets: int, most: int, span: int) -> Tensor:
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    distances = torch.arange(length - 1, -length, -1)  # query - key, for keys from the first to the last
    if buckets > 0 and most > 0:
        distances = make_log_bucket_position(distances, buckets, most).long()
    return (distances + span).clamp(0, 2 * span - 1)


def _with_distances(x: Tensor, positions: Tensor, rows: Tensor) -> Tensor:
    """(B, H, n, n): token i of x (B, H, n, D) times the position, of (P, H, D), in row `rows[n - 1 - i + j]`."""
    count, heads, length, width = x.shape
    low = int(min(rows[0], rows[-1]))  # rows rise or fall: only those between the ends are needed
    needed = positions[low : int(max(rows[0], rows[-1])) + 1].to(x.dtype)
    turned = needed.permute(1, 2, 0).contiguous().expand(count, -1, -1, -1).reshape(count * heads, width, -1)
    index = (rows - low).unfold(0, length, 1).flip(0)
    scores = rows_times(x.reshape(-1, length, width).contiguous(), turned)
    return scores.gather(2, index.expand(len(scores), -1, -1)).view(count, heads, length, length)


class DocumentConvolution(nn.Module):
    """A convolution over tokens that sees zeros before and behind each document, as it does in a batch of one."""

    weight: Tensor  # (O, C / groups, K)
    bias: Tensor | None
    kernel_size: tuple[int]
    padding: tuple[int]
    groups: int

    def forward(self, input: Tensor) -> Any:  # (1, C, T) -> (1, O, T)
        layout = running()
        if layout is None:
            return super().forward(input)
        tokens = torch.cat([input[0].t(), input.new_zeros(1, input.shape[1])])
        lengths = torch.tensor(layout.lengths, device=input.device)[layout.documents]
        offsets = torch.arange(self.kernel_size[0], device=input.device) - self.padding[0]
        places = layout.places[:, None] + offsets
        rows = torch.arange(len(places), device=input.device)[:, None] + offsets
        rows = rows.where((places >= 0) & (places < lengths[:, None]), len(places))
        near = tokens.index_select(0, rows.flatten()).view(len(places), -1, input.shape[1])
        parts = zip(
            near.chunk(self.groups, 2),
            self.weight.chunk(self.groups),
            [None] * self.groups if self.bias is None else self.bias.chunk(self.groups),
            strict=True,
        )
        found = [linear(x.flatten(1), w.transpose(1, 2).flatten(1), b) for x, w, b in parts]
        return torch.cat(found, 1).t()[None]


class TiedPrediction(nn.Module):
    """DeBERTa's newer head of masked language models, whose product is by the embeddings."""

    dense: nn.Module
    transform_act_fn: Callable[[Tensor], Tensor]
    LayerNorm: nn.Module
    bias: Tensor

    def forward(self, hidden_states: Tensor, word_embeddings: nn.Embedding) -> Any:
        layout = running()
        if layout is None:
            return super().forward(hidden_states, word_embeddings)
        transformed = self.LayerNorm(self.transform_act_fn(self.dense(hidden_states)))
        if layout.scoring is not None:
            return layout.scoring.leave(transformed, word_embeddings.weight, self.bias)
        return linear(transformed, word_embeddings.weight, self.bias)


def _dropout(module: nn.Dropout, layout: Layout) -> dict[str, Any]:
    """What `attend_biased` takes for a module that drops attention weights."""
    if not module.training or module.p == 0:
        return {"dropout": 0.0, "seed": None}
    keys = derived(layout.document_keys, layout.visit(module._yanma_site))  # type: ignore[arg-type]
    return {"dropout": module.p, "seed": keys}
