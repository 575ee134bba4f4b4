"""The pair of functions that transformers calls by the name `yanma`: one makes the mask, one attends.

Outside an unpadded forward both do exactly what transformers' own `sdpa` does, or `eager` where scores are soft-capped
or attention weights wanted, neither of which `sdpa` can do. So a stock model that shares its config with an unpadded
one stays right, and so do calls that go through the stock forward.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..attention import attention
from ..attention.biased import attend_biased
from ..attention.cached import Readings, Scores, attend_cached
from ..attention.capped import soft_capped_attention
from ..autocast import as_cast
from ..errors import Unsupported
from ..keyed import derived
from .bounds import refuse_alone
from .causality import check_module
from .layout import Layout, running
from .relative import distance_bias, on_stretched, stretched

NAME = "yanma"


def register() -> None:
    """Tell transformers about the pair; both or neither, as half a pair would drop the padding mask."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionMaskInterface.register(NAME, make_mask)
    AttentionInterface.register(NAME, attend)


@dataclass(frozen=True, eq=False)
class LayerMask:
    """What some layers are given in place of a mask tensor."""

    layout: Layout
    reach: int | None
    """Of their window: how many tokens before itself a token may read; None = all."""


def make_mask(*args: Any, **kwargs: Any) -> Any:
    """The running layout with the window of these layers, or what the stock attention would get."""
    from transformers.masking_utils import eager_mask, sdpa_mask

    layout = running()
    if layout is not None:
        width = kwargs.get("local_size")
        # transformers counts a token into its causal window, and not into one to both sides
        return LayerMask(
            layout, width if width is None or "allow_is_bidirectional_skip" in kwargs else width - 1
        )
    is_capped = getattr(kwargs.get("config"), "attn_logit_softcapping", None) is not None
    return (eager_mask if is_capped or _weighs.get() else sdpa_mask)(*args, **kwargs)


_passes: ContextVar[bool] = ContextVar("yanma_passes", default=False)


@contextmanager
def passed_through() -> Iterator[None]:
    """While it is entered, unpadded models compute rows as the stock model does, padding and all."""
    token = _passes.set(True)
    try:
        yield
    finally:
        _passes.reset(token)


def is_passed_through() -> bool:
    """Whether this thread is within `passed_through`."""
    return _passes.get()


_weighs: ContextVar[bool] = ContextVar("yanma_weighs", default=False)


@contextmanager
def as_stock(model: Any, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """While it is entered, a call goes through the stock forward, and has attention weights where it wants some."""
    wants = kwargs.get("output_attentions", getattr(model.config, "output_attentions", False))
    token = _weighs.set(bool(wants))
    try:
        yield
    finally:
        _weighs.reset(token)


def attend(
    module: nn.Module,
    query: Tensor,  # (1, H, T, D)
    key: Tensor,  # (1, Hk, T, D), or the encoder's tokens; with a cache's, (N, Hk, S, D)
    value: Tensor,  # as keys
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:  # (1, T, H, D)
    """Attention of one layer over the pack."""
    added = getattr(module, "_yanma_mask", None)
    if not isinstance(attention_mask, LayerMask):
        if added is not None and _passes.get():
            raise Unsupported(
                f"a batch with a text of no token is computed as by the stock model, which does not know its mask "
                f"{added.describe()}; leave that text out"
            )
        if added is not None:
            raise Unsupported(
                f"a part of an unpadded model was called by itself, where its mask {added.describe()} is not known, "
                f"or with a key-value cache; call the whole model without one, or restore it"
            )
        refuse_alone(kwargs)
        return _stock(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
    check_module(module)
    layout, reach = attention_mask.layout, attention_mask.reach
    crosses, cap = hasattr(module, "_yanma_crosses"), kwargs.get("softcap")
    table = None if crosses else kwargs.get("position_bias")
    readings = layout.source_readings if crosses else layout.readings
    if readings is not None:
        q, scores = as_cast(query)[0].transpose(0, 1), Scores(_scale(scaling, query), cap, table)
        if layout.bits is not None:
            own = reach, scores.scale, cap, table is None
            layout.bits.cached(own, partial(_on_stretched, scores, reach), q, key, readings.causal)
        return attend_cached(q, key, value, readings, scores, reach)[None], None
    # Rotary embeddings leave float32 beside values in autocast's dtype.
    q, k, v = (as_cast(x)[0].transpose(0, 1) for x in (query, key, value))
    site = layout.visit(module._yanma_site) if dropout else 0  # type: ignore[arg-type]

    def attended(table: Tensor | None, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        keys = derived(layout.document_keys, site) if dropout else None
        if table is not None:
            bias, scale = distance_bias(table), _scale(scaling, q)
            return attend_biased(q, k, v, layout.lengths, bias, scale, dropout, keys, layout.causal)
        mask = layout.cross_mask if crosses else layout.mask_with(added, reach)
        if cap is not None:
            return soft_capped_attention(q, k, v, mask, cap, scale=scaling)
        return attention(q, k, v, mask, scale=scaling, dropout=dropout, seed=keys)

    if layout.bits is not None:
        attend_any = partial(attended, None) if table is None else on_stretched(attended, table)
        way = added, reach, cap, scaling, dropout, table is None
        layout.bits.attention(way, attend_any, q, k, layout, crosses)
    return attended(table, q, k, v, layout)[None], None


def _on_stretched(
    scores: Scores, reach: int | None, q: Tensor, k: Tensor, v: Tensor, readings: Readings
) -> Tensor:
    """`attend_cached` with a table for longer documents than a batch has, to try them."""
    if scores.table is not None:
        scores = replace(scores, table=stretched(scores.table, readings.columns))
    return attend_cached(q, k, v, readings, scores, reach)


def _scale(scaling: float | None, q: Tensor) -> float:
    return q.shape[-1] ** -0.5 if scaling is None else scaling


def _stock(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    forward: Any = sdpa_attention_forward
    if kwargs.get("softcap") is not None or _weighs.get():
        forward = sys.modules[type(module).__module__].eager_attention_forward
    out: tuple[Tensor, Tensor | None] = forward(module, *args, **kwargs)
    return out
