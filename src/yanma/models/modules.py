"""Modules of a model that must know of the pack: dropout, pooling on first tokens, and the feed-forward's first half.

`unpad` gives each of them a subclass of its own class; parameters, names and `state_dict` stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from ..keyed import Site, derived, document_keys, keep, keep_probability, only
from .layout import Layout, run_with, running
from .linear import Linear, linear, needs_gradient


class Dropout(nn.Dropout):
    """Dropout keyed by (seed, document, place in the document, layer): the same in any batch."""

    _yanma_stock = nn.Dropout
    _yanma_site: int

    def forward(self, input: Tensor) -> Tensor:
        layout = running()
        if layout is None or not self.training or self.p == 0:
            return super().forward(input)
        keys = layout.row_keys(input.shape)
        if keys is None:
            raise RuntimeError(
                f"dropout met a tensor {tuple(input.shape)} that is neither per token nor per document"
            )
        return _KeyedDropout.apply(input, derived(keys, layout.visit(self._yanma_site)), self.p)  # type: ignore[no-any-return, no-untyped-call]


class Checkpointed(nn.Module):
    """A layer of which transformers may keep the input alone and compute the rest again in backward.

    The forward has ended by then, so its layout is entered again, with dropout's count of visits as it was.
    """

    @property
    def _gradient_checkpointing_func(self) -> Callable[..., Any]:
        if "_gradient_checkpointing_func" not in vars(self):
            raise AttributeError("_gradient_checkpointing_func is there once gradient checkpointing is on")
        checkpoint: Callable[..., Any] = vars(self)["_gradient_checkpointing_func"]
        layout = running()
        return checkpoint if layout is None else partial(_checkpointed, checkpoint, layout)

    @_gradient_checkpointing_func.setter
    def _gradient_checkpointing_func(self, checkpoint: Callable[..., Any]) -> None:
        vars(self)["_gradient_checkpointing_func"] = checkpoint


def _checkpointed(checkpoint: Callable[..., Any], layout: Layout, run: Callable[..., Any], *args: Any) -> Any:
    visits = layout.visits

    def again(*args: Any) -> Any:
        layout.rewind(visits)
        with run_with(layout):
            return run(*args)

    return checkpoint(again, *args)


class PlacedPositions(nn.Module):
    """An embedding of positions that would count slots by itself: it is told where tokens stand."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        layout = running()
        if layout is not None:
            kwargs["position_ids"] = layout.positions
        return super().forward(*args, **kwargs)


class PlacedTokens(nn.Module):
    """CLIP's embedding of a text, which holds a row that is longer than its table of positions for one text."""

    token_embedding: nn.Module
    position_embedding: nn.Module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if running() is None:
            return super().forward(*args, **kwargs)
        return self.token_embedding(kwargs["input_ids"]) + self.position_embedding(kwargs["position_ids"])


class PlacedSinusoids(nn.Module):
    """M2M100's embedding of positions, which grows with the longest document."""

    weights: Tensor
    offset: int
    embedding_dim: int
    padding_idx: int
    make_weights: Callable[[int, int, int], None]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        layout = running()
        if layout is None:
            return super().forward(*args, **kwargs)
        assert layout.positions is not None
        needed = self.padding_idx + 1 + layout.longest
        if needed > len(self.weights):
            self.make_weights(needed + self.offset, self.embedding_dim, self.padding_idx)
        return self.weights[layout.positions]


class DropsInForward(Checkpointed):
    """A module that calls `nn.functional.dropout` by itself: its calls are told apart by their number."""

    _yanma_site: int

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        layout = running()
        if layout is None or not self.training:
            return super().forward(*args, **kwargs)
        with _KeyedCalls(layout, self._yanma_site):
            return super().forward(*args, **kwargs)


class DropsLayers(DropsInForward):
    """A stack of layers that are left out at random in training, if its config says so (LayerDrop, Fan et al. 2019)."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        config: Any = self.config
        if getattr(self, "layerdrop", config.layerdrop):
            return super().forward(*args, **kwargs)
        return super(DropsInForward, self).forward(*args, **kwargs)


class _KeyedCalls(TorchFunctionMode):
    """While it is entered, `nn.functional.dropout` of activations (T, C) or (1, T, C) is keyed by token.

    A single random number, by which a stack leaves a layer out, is keyed by the seed alone: it is for all documents.
    """

    def __init__(self, layout: Layout, site: int) -> None:
        super().__init__()
        self.keys = derived(layout.token_keys, site)
        self.key = derived(document_keys(layout.seed, [-1 - site]), Site.LAYERS)
        self.calls = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.rand and args == ([],):
            self.calls += 1
            return (derived(self.key, self.calls)[0] >> 11 & 2**53 - 1) / 2**53
        if func is not nn.functional.dropout:
            return func(*args, **kwargs)
        bound = (
            {"p": 0.5, "training": True} | dict(zip(("input", "p", "training"), args, strict=False)) | kwargs
        )
        x = bound["input"]
        if not bound["training"] or bound["p"] == 0:
            return x
        self.calls += 1
        rows = x.reshape(-1, x.shape[-1])
        dropped: Tensor = _KeyedDropout.apply(rows, derived(self.keys, self.calls), bound["p"])  # type: ignore[no-untyped-call]
        return dropped.view(x.shape)


class _KeyedDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, keys: Tensor, p: float) -> Tensor:
        kept = keep(keys, x.shape[-1], p)
        ctx.save_for_backward(kept)
        ctx.scale = 1 / keep_probability(p)
        return only(x, kept).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return only(grad, kept).mul_(ctx.scale), None, None


class FirstTokenInput(nn.Module):
    """A pooler or head that reads `[:, 0]` of its input: it is given the documents' first tokens, (N, 1, C)."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        layout = running()
        if layout is not None:
            hidden_states = layout.first(hidden_states).transpose(0, 1)
        return super().forward(hidden_states, *args, **kwargs)


class FirstTokenOutput(nn.Module):
    """A base model of which the head reads `[:, 0]` itself: its last hidden state becomes (N, 1, C)."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        layout = running()
        if layout is not None:
            output.last_hidden_state = layout.first(output.last_hidden_state).transpose(0, 1)
        return output


class MeanOutput(nn.Module):
    """A base model of which the head takes the mean over slots: its last hidden state becomes that, (N, 1, C)."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        layout = running()
        if layout is not None:
            output.last_hidden_state = layout.mean(output.last_hidden_state).transpose(0, 1)
        return output


class MeanLinear(Linear):
    """A linear layer of which the mean over slots is taken: (1, T, C) becomes each document's mean, (N, 1, O)."""

    def forward(self, input: Tensor) -> Tensor:
        out, layout = super().forward(input), running()
        return out if layout is None else layout.mean(out).transpose(0, 1)


class ScoredOutput(nn.Module):
    """A base model of which a head makes logits of a vocabulary: where few are wanted, their tokens are handed on."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        layout = running()
        if layout is not None and layout.scoring is not None:
            output.last_hidden_state = layout.scoring.keep(output.last_hidden_state)
        return output


class VocabularyLinear(Linear):
    """The last layer of a model of language: where few logits are wanted, it leaves them to the loss."""

    def forward(self, input: Tensor) -> Tensor:
        layout = running()
        if layout is None or layout.scoring is None:
            return super().forward(input)
        return layout.scoring.leave(input, self.weight, self.bias)


class HandsFirstTokens(nn.Module):
    """An encoder that leaves the documents' first tokens to the pooler of its model, which is given `[:, 0]`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        layout = running()
        if layout is not None:
            layout.handed.append(layout.first(output.last_hidden_state)[0])
        return output


class Pooler(Linear):
    """A linear layer that takes what the encoder before it has left, in place of its input."""

    def forward(self, input: Tensor) -> Tensor:
        layout = running()
        return super().forward(input if layout is None else layout.handed.pop())


class ReadsSource(nn.Module):
    """What a decoder makes keys or values of the encoder's tokens by, with parts of its own, such as an adapter's."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        layout = running()
        if layout is None or layout.source is None:
            return super().forward(*args, **kwargs)
        with run_with(layout.source):
            return super().forward(*args, **kwargs)


class SomeTokensOnly(nn.Module):
    """The last layer's BERT `*SelfOutput`: where only some tokens will be read, the rest of the layer is for them.

    They are each document's first, or those that are scored.

    Three quarters of the last layer's work would otherwise be thrown away.
    """

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Any:
        layout = running()
        if layout is not None and layout.first_only:
            hidden_states, input_tensor = layout.first(hidden_states), layout.first(input_tensor)
        elif layout is not None and layout.scoring is not None:
            hidden_states, input_tensor = (layout.scoring.keep(x) for x in (hidden_states, input_tensor))
        return super().forward(hidden_states, input_tensor)


def pools_first_tokens(model: nn.Module) -> bool:
    """Whether some part of an unpadded model reads the first token of each document."""
    kinds = FirstTokenInput | FirstTokenOutput | Pooler
    return any(isinstance(module, kinds) for module in model.modules())


class FusedIntermediate(nn.Module):
    """BERT's `*Intermediate`: linear, then activation, in one kernel where no gradient is asked for."""

    dense: nn.Module
    intermediate_act_fn: Callable[[Tensor], Tensor]

    def forward(self, hidden_states: Tensor) -> Tensor:
        return _activated(self.dense, self.intermediate_act_fn, hidden_states)


class FusedFeedForward(nn.Module):
    """DistilBERT's `FFN`."""

    lin1: nn.Module
    lin2: nn.Module
    activation: Callable[[Tensor], Tensor]
    dropout: nn.Module

    def ff_chunk(self, input: Tensor) -> Tensor:
        hidden = _activated(self.lin1, self.activation, input)
        out: Tensor = self.dropout(self.lin2(hidden))
        return out


class TransposedLinear(nn.Module):
    """GPT-2's `Conv1D`: a linear layer whose weight lies (inputs, outputs)."""

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if running() is None:
            out: Tensor = super().forward(x)
            return out
        return linear(x, self.weight.t(), self.bias)


class Float32Linear(nn.Module):
    """A last layer that sentence-transformers keeps in float32, whatever the rest of a cross-encoder is in."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, input: Tensor) -> Tensor:
        if running() is None:
            out: Tensor = super().forward(input)
            return out
        with torch.autocast(input.device.type, enabled=False):
            return linear(
                input.float(), self.weight.float(), None if self.bias is None else self.bias.float()
            )


def _activated(dense: nn.Module, activation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    gelu = _gelu_approximation(activation)
    if running() is None or gelu is None or type(dense) is not Linear or needs_gradient(x, dense.weight):
        return activation(dense(x))
    # In training it may be checkpointed: the layer is computed again with gradients, and must give these bits.
    if dense.training:
        return activation(dense(x))
    if _is_hooked(dense) or _is_hooked(activation):  # one kernel for both would pass the hooks over
        return activation(dense(x))
    return linear(x, dense.weight, dense.bias, gelu)


def _is_hooked(module: object) -> bool:
    """Whether calling a module does more than its class's `forward`: somebody listens, or has replaced `forward`."""
    its_own, of_all = vars(module), vars(nn.modules.module)
    return any(its_own.get(name) for name in ("_forward_hooks", "_forward_pre_hooks", "forward")) or any(
        of_all.get(name) for name in ("_global_forward_hooks", "_global_forward_pre_hooks")
    )


def _gelu_approximation(activation: Callable[[Tensor], Tensor]) -> str | None:
    """torch's name for the GELU that a transformers activation computes, or None if it is another function."""
    return {"GELUActivation": "none", "NewGELUActivation": "tanh", "GELUTanh": "tanh"}.get(
        type(activation).__name__
    )
