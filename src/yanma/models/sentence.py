"""sentence-transformers around unpadded models: what is computed goes through their modules in packs.

Since version 6, sentence-transformers has a form of a batch without padding, made for flash attention: `input_ids`
(1, T) with `cu_seq_lens_q` (N + 1,), which its pooling understands. That form is used here as it is, but between a
model's modules alone. Features that others see, and may read or hand to other models, as losses, teachers and guides
do, are the stock model's rectangles.
"""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import Unsupported
from .activations import RowByRow, has_one_formula, row_by_row
from .bounds import BOUNDS
from .classes import mix, unmix
from .linear import Linear, linear
from .texts import Text, groups_of, split, together
from .tokenless import KeepsTokenless, with_padding_for

# N texts, T tokens in the pack

MOST_TOKENS = 4096
"""A bound for memory; what was measured was measured with packs of this size."""
WINDOW = 1024
"""Texts that are tokenised in one call."""

_MODELS = ("BaseModel", "SentenceTransformer", "CrossEncoder")
_TASKS = ("feature-extraction", "fill-mask", "sequence-classification")
_TAKES_PACKS = frozenset(
    "Transformer Router Pooling Normalize Dense Dropout LayerNorm SpladePooling SparseAutoEncoder".split()
)
"""Modules of sentence-transformers that know what to do with a batch without padding, or only see vectors of texts."""
_ASKED = frozenset("input_ids attention_mask token_type_ids modality prompt_length task".split())
"""What features of texts are made of."""
_FOUND = frozenset("token_embeddings sentence_embedding scores".split())
"""What a model writes into them; where it is there already, it is written anew."""
_OF_TENSORS = ("return_tensors", "return_attention_mask", "padding", "padding_side", "pad_to_multiple_of")
_WRITTEN = frozenset(
    "token_embeddings sentence_embedding all_layer_embeddings token_weights_sum scores".split()
)
"""What modules write into features, which losses hand in a second time; no argument of a model of transformers'."""
_flat: ContextVar[bool] = ContextVar("yanma_flat", default=False)


def is_sentence_model(model: nn.Module) -> bool:
    """Whether a model is one of sentence-transformers', be it a SentenceTransformer, a CrossEncoder or another."""
    return any(
        kind.__module__.startswith("sentence_transformers.") and kind.__name__ in _MODELS
        for kind in type(model).__mro__
    )


def transformers_in(model: nn.Module) -> list[Any]:
    """Its `Transformer` modules, whose `model` is transformers' own; Unsupported where there is none."""
    found = [module for module in model.modules() if hasattr(module, "can_flatten_inputs")]
    if not found:
        raise Unsupported(
            f"this {type(model).__name__} has no Transformer of sentence-transformers 6 or newer in it to unpad"
        )
    return found


def flatten(model: nn.Module) -> None:
    """Let the texts of a model, whose transformers are unpadded, reach them without padding."""
    takes_packs = _takes_packs(model)
    for module in transformers_in(model):
        if not isinstance(module, FlatInputs):
            mix(module, FlatInputs)
        module._yanma_takes_packs = takes_packs
        module._yanma_turn = Turn()
        module.unpad_inputs = module.unpad_inputs  # asked anew whether inputs can go without padding
    if not isinstance(model, Door):
        mix(model, Packs if type(model).__name__ in ("SentenceTransformer", "CrossEncoder") else Door)
        _steady(model)


def _steady(model: nn.Module) -> None:
    """Let a text's vector keep its bits through what comes after the transformers."""
    for part in _parts(model):
        if isinstance(part, FlatInputs):
            continue
        for module in part.modules():
            if type(module) is nn.Linear:
                module.__class__ = RowLinear
        if type(part).__name__ == "SparseAutoEncoder":
            mix(part, SteadyCoder)
        activation = getattr(part, "activation_function", None)
        if isinstance(activation, nn.Module) and not has_one_formula(activation):
            mix(activation, RowByRow)


def pad_again(model: nn.Module) -> None:
    """Undo `flatten`."""
    unmix(model)
    for part in _parts(model):
        for module in () if isinstance(part, FlatInputs) else part.modules():
            unmix(module)
    for module in transformers_in(model):
        unmix(module)
        for name in ("_yanma_takes_packs", "_yanma_turn", "data_collator", "_flatten_position_offset"):
            module.__dict__.pop(name, None)
        module.unpad_inputs = module.unpad_inputs


def _takes_packs(model: nn.Module) -> bool:
    """Whether all that comes after the transformers understands a batch without padding."""
    base: Any = import_module("sentence_transformers.base.modules.module").Module
    parts = {module for module in model.modules() if isinstance(module, base)} | set(model.children())
    return all(
        type(part).__name__ in _TAKES_PACKS and type(part).__module__.startswith("sentence_transformers.")
        for part in parts
    )


@contextmanager
def flat_inputs() -> Iterator[None]:
    """Texts are tokenised without padding, for who knows what to do with that."""
    token = _flat.set(True)
    try:
        yield
    finally:
        _flat.reset(token)


class Turn:
    """A lock that a copy of its model does not share."""

    def __init__(self) -> None:
        self.lock = RLock()

    def __reduce__(self) -> tuple[type[Turn], tuple[()]]:
        return Turn, ()


class FlatInputs(ABC, nn.Module):
    """sentence-transformers' `Transformer` whose model is unpadded.

    Its bases are those of their `Module`, in that order: else Python would not let one class take the other's place.
    """

    model: Any
    can_flatten_inputs: bool
    transformer_task: str
    modality_config: dict[str, Any]
    model_forward_params: set[str] | None
    _yanma_takes_packs: bool
    _yanma_turn: Turn

    def preprocess(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # A fast tokenizer keeps whether it pads: of two threads, one could have the other's padding for words.
        with self._yanma_turn.lock:
            features: dict[str, Any] = super().preprocess(*args, **kwargs)  # type: ignore[misc]
        return features

    def _can_flatten_inputs(self) -> bool:
        if (
            not self._yanma_takes_packs
            or self.transformer_task not in _TASKS
            or "text" not in self.modality_config
            or any(way["method"] != "forward" for way in self.modality_config.values())
        ):
            return False
        self.data_collator = KeepsTokenless()
        self._flatten_position_offset = 0
        if self.model_forward_params is not None:
            self.model_forward_params |= {BOUNDS}
        return True

    def _should_flatten_inputs(self, *args: Any, **kwargs: Any) -> bool:
        return _flat.get() and bool(super()._should_flatten_inputs(*args, **kwargs))  # type: ignore[misc]

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        given = {name: value for name, value in features.items() if name not in _WRITTEN}
        with with_padding_for(given):
            features.update(super().forward(given, **kwargs))
        return features


def _work(device: str, model: nn.Module, *queues: Any) -> None:
    """What a process of a pool runs. It is found by its name, which a class that `unpad` made is not."""
    kind: Any = type(model)
    kind._yanma_stock._multi_process_worker(device, model, *queues)


class Door(nn.Module):
    """A model of sentence-transformers whose modules are given packs, and its callers rectangles."""

    _multi_process_worker = staticmethod(_work)

    def forward(self, input: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        pack = _packed(self, input)
        if pack is None:
            given: dict[str, Any] = super().forward(input, **kwargs)
            return given
        return _laid_out(super().forward(pack, **kwargs), input, _scores_vocabulary(self))


class RowLinear(Linear):
    """A layer behind the transformers: its rows keep their bits, as there are few and many texts."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class SteadyCoder(ABC, nn.Module):
    """sentence-transformers' `SparseAutoEncoder`, of the same bases."""

    encoder: nn.Linear
    pre_bias: Tensor
    latent_bias: Tensor

    def encode_pre_act(self, x: Tensor) -> Tensor:
        return linear(x - self.pre_bias, self.encoder.weight, self.latent_bias)


def _packed(model: nn.Module, features: dict[str, Any]) -> dict[str, Any] | None:
    """Features of texts, the tokens of each in one piece, as a pack; None for others, and where modules take none."""
    ids, mask = (features.get(name) for name in ("input_ids", "attention_mask"))
    if (
        not (isinstance(ids, Tensor) and isinstance(mask, Tensor))
        or ids.dim() != 2
        or ids.shape != mask.shape
    ):
        return None
    if not features.keys() <= _ASKED | _FOUND or not all(_is_plain(part) for part in _parts(model)):
        return None
    valid = mask.bool()
    firsts = valid & ~nn.functional.pad(valid[:, :-1], (1, 0))
    if not len(valid) or not bool((firsts.sum(1) == 1).all()):
        return None
    pack = {name: value for name, value in features.items() if name in _ASKED and name != "attention_mask"}
    pack |= {name: pack[name][valid][None] for name in ("input_ids", "token_type_ids") if name in pack}
    return pack | {BOUNDS: nn.functional.pad(valid.sum(1).cumsum(0, dtype=torch.int32), (1, 0))}


def _parts(model: nn.Module) -> Iterator[Any]:
    """Its modules, with those behind each route of a Router."""
    for part in model.children():
        routes: Any = getattr(part, "sub_modules", None)
        yield part
        for route in routes.values() if routes is not None else ():
            yield from route


def _is_plain(part: Any) -> bool:
    """Whether a module runs as its class does, a transformer without padding and for its last layer alone."""
    if "forward" in vars(part):  # who replaced it, as AdaptiveLayerLoss does, reads features or adds to them
        return False
    return not isinstance(part, FlatInputs) or bool(
        part.can_flatten_inputs and not getattr(part.model.config, "output_hidden_states", False)
    )


def _scores_vocabulary(model: nn.Module) -> bool:
    return any(
        isinstance(part, FlatInputs) and part.transformer_task == "fill-mask" for part in _parts(model)
    )


def _laid_out(found: dict[str, Any], features: dict[str, Any], scores_vocabulary: bool) -> dict[str, Any]:
    """What a model found of a pack, written into the caller's features as the stock model would.

    But for logits of a vocabulary by token: a rectangle of these would be as large as all else together.
    """
    valid = features["attention_mask"].bool()
    for name, value in found.items():
        if name in _ASKED or name == BOUNDS:
            continue
        if isinstance(value, Tensor) and value.dim() == 3 and value.shape[:2] == (1, int(valid.sum())):
            features.pop(name, None)
            if scores_vocabulary:
                continue
            slots = valid.flatten().nonzero()[:, 0]
            laid = value.new_zeros(valid.numel(), value.shape[2]).index_copy(0, slots, value[0])
            value = laid.view(*valid.shape, -1)
        features[name] = value
    return features


class Packs(Door):
    """A SentenceTransformer or CrossEncoder that computes many texts together, under a budget of tokens."""

    max_seq_length: int | None

    def _can_flatten_inputs(self) -> bool:
        return False  # long and short texts would be mixed; packs are of like lengths

    @torch.inference_mode()
    def _inference(
        self, inputs: Sequence[Any], *, batch_size: int, show_progress_bar: bool, **kwargs: Any
    ) -> Any:
        """The stock model's answer, of packs of no more tokens than `batch_size` texts could have."""
        from tqdm.autonotebook import tqdm

        stock: Any = super()._inference  # type: ignore[misc]
        batches = {"batch_size": batch_size, "show_progress_bar": show_progress_bar}
        activation = kwargs.get("activation_fn")
        if activation is not None and not has_one_formula(activation):
            kwargs["activation_fn"] = partial(row_by_row, activation)
        if kwargs.get("output_value", "sentence_embedding") != "sentence_embedding":
            return stock(inputs, **batches, **kwargs)
        texts = self._tokenised(inputs, kwargs, set(inspect.signature(stock).parameters))
        if texts is None:
            return stock(inputs, **batches, **kwargs)
        budget = min(MOST_TOKENS, batch_size * (self.max_seq_length or MOST_TOKENS))
        groups = groups_of([len(text) for text in texts], budget)
        found = [
            stock([texts[i] for i in group], batch_size=len(group), show_progress_bar=False, **kwargs)
            for group in tqdm(groups, desc="Batches", disable=not show_progress_bar)
        ]
        places = {i: place for place, i in enumerate(i for group in groups for i in group)}
        # Texts without tokens are all alike, and computed once.
        order = torch.tensor([places.get(i, len(places) - 1) for i in range(len(texts))])
        all_found = torch.cat(found)
        return all_found[order.to(all_found.device)]

    def _tokenised(self, inputs: Sequence[Any], kwargs: dict[str, Any], named: set[str]) -> list[Text] | None:
        """Each input's tokens; None where there are none, or they cannot go without padding (images, say)."""
        more = {name: value for name, value in kwargs.items() if name == "prompt" or name not in named}
        texts: list[Text] = []
        if _asks_of_tensors(kwargs.get("processing_kwargs")):
            return None
        for start in range(0, len(inputs), WINDOW):
            with flat_inputs():
                features = self.preprocess(inputs[start : start + WINDOW], **more)
            if BOUNDS not in features:
                return None
            texts += split(features)
        return texts or None

    def preprocess(self, inputs: Sequence[Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        if inputs and isinstance(inputs[0], Text):
            return together(inputs, self.tokenizer)
        features: dict[str, Any] = super().preprocess(inputs, *args, **kwargs)  # type: ignore[misc]
        return features

    def _input_length(self, sample: Any) -> int:
        """The stock model computes the longest first; a pack is computed shortest first."""
        if isinstance(sample, Text):
            return -len(sample)
        length: int = super()._input_length(sample)  # type: ignore[misc]
        return length


def _asks_of_tensors(processing_kwargs: Mapping[str, Any] | None) -> bool:
    """Whether a caller's arguments for tokenising say how rows become tensors, which a pack would pass over."""
    return any(name in group for group in (processing_kwargs or {}).values() for name in _OF_TENSORS)
