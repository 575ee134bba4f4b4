"""A model of transformers' that computes real tokens only, and back again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import nn

from ..batch import PackedBatch
from ..errors import Unsupported
from ..masks import Mask
from . import bits, cache, gradients, interface, modules, patched, relative, steps
from .adapters import adopt
from .arguments import check_tensors
from .bounds import BOUNDS, DERIVED
from .by_keyword import Cut, cut
from .causality import remember
from .classes import mix, mixed_class, reduced_to, stock_class, subclass, unmix
from .conversions import REFUSES_QUANTIZATION, refuse_capture
from .embeddings import hear_by_document
from .families import FAMILIES, SPEECH
from .family import Family, Head
from .inputs import Call, prepare
from .known import check, recognise
from .last_token import classify, classify_by_eos, pooling_at_ends
from .layer_masks import LayerMasks, layer_masks
from .layout import run_with, running
from .linear import Linear
from .outputs import arrange
from .pairs import prepare_pairs
from .passed_over import hear_base, hear_no_more
from .recordings import transcribing
from .scoring import scored_forward
from .sound import prepare_sound
from .swaps import pooling, swap
from .tied import TiedEmbedding


def unpad_one(model: nn.Module, mask: LayerMasks = None, exact: Literal["bits"] | None = None) -> None:
    """What `unpad` does to a model of transformers', in place."""
    family, head = recognise(model)
    attentions = [module for module in model.modules() if type(module).__name__ == family.attention]
    if family.repeats_layers and not (mask is None or isinstance(mask, Mask)):
        raise Unsupported(f"{family.model_type} repeats its layers, so a mask is for all of them; give one")
    if not (family.by_interface or mask is None):
        raise Unsupported(f"{family.model_type} computes attention by itself, to which unpad adds no mask")
    if family.cross_attention and mask is not None:
        raise Unsupported(f"{family.model_type} has encoders with decoders, to which unpad adds no mask")
    masks = layer_masks(mask, len(attentions))
    if is_unpadded_one(model):
        if masks != masks_of(model):
            raise Unsupported(f"this {type(model).__name__} is unpadded with other masks; restore it first")
        if (exact is not None) != bits.is_exact(model):
            raise Unsupported(f"this {type(model).__name__} is unpadded with another exact; restore it first")
        return
    check(model, family, head)
    if exact is not None:
        bits.check(model)
    interface.register()
    model._yanma_previous = model.config._attn_implementation  # type: ignore[union-attr]
    model._yanma_masked = any(own is not None for own in masks)  # type: ignore[assignment]
    try:
        _change(model, family, head)
        for module, own in zip(attentions, masks, strict=True):
            module._yanma_mask = own  # type: ignore[assignment]
        if exact is not None:
            model._yanma_exact = exact  # type: ignore[assignment]
            bits.of(model, head)
    except BaseException:  # all or nothing
        restore_one(model)
        raise


def _change(model: Any, family: Family, head: Head) -> None:
    """Give a model and its modules the classes that know of the pack."""
    patched.unhide(model)
    _in_one_piece(model)
    if family.by_interface:
        model.set_attn_implementation(interface.NAME)
    remember(model, family)
    for site, (name, module) in enumerate(model.named_modules()):
        if module is not model:
            swap(module, site, family)
        if family.cross_attention and name.endswith("." + family.cross_attention):
            module._yanma_crosses = True
    adopt(model, family)
    _change_ends(model, family, head)
    hear_base(model, family)
    stock: Any = type(model)
    model.__class__ = _unpadded_class(stock, family, head)
    patched.rehook(model)


def _change_ends(model: Any, family: Family, head: Head) -> None:
    """Tell what comes last which tokens it computes: those that are pooled, scored or handed to a decoder."""
    last = [module for module in model.modules() if type(module).__name__ == family.attention_output][-1:]
    for module in last:
        mix(module, modules.SomeTokensOnly)
    if head.scores_vocabulary:
        _prepare_scoring(model)
    if head.averages:
        getattr(model, head.averages).__class__ = modules.MeanLinear
    if type(model).__name__ in family.pools_base:
        _pool(model, family.pools_base[type(model).__name__])
    for module in model.modules():
        if type(module).__name__ in family.pools_within and module.pooler is not None:
            mix(cast(nn.Module, module.encoder), modules.HandsFirstTokens)
            module.pooler.__class__ = modules.Pooler
    if head.decodes:
        encoder = model.get_encoder()
        encoder.__class__ = _encoder_class(stock_class(encoder), family)


_CHUNK = "_yanma_chunk_size_feed_forward"


def _in_one_piece(model: nn.Module) -> None:
    """Let no feed-forward compute its tokens in chunks, as it may for memory: they divide padded rows, not packs."""
    for module in model.modules():
        size: Any = vars(module).get("chunk_size_feed_forward")
        if size:
            vars(module)[_CHUNK] = size
            module.chunk_size_feed_forward = 0  # type: ignore[assignment]


def _prepare_scoring(model: Any) -> None:
    """Tell both ends of a vocabulary's head that in some forwards the logits of few tokens are wanted."""
    last = model.get_output_embeddings()
    makes_its_own = any(isinstance(module, relative.TiedPrediction) for module in model.modules())
    if type(last) is Linear and not makes_its_own:
        last.__class__ = modules.VocabularyLinear
    for module in model.modules():
        if type(module) is nn.Embedding:
            module.__class__ = TiedEmbedding
    if model.base_model is not model:
        mix(model.base_model, modules.ScoredOutput)


def restore_one(model: nn.Module) -> None:
    """What `restore` does to a model of transformers', in place."""
    patched.check_before_restore(model)
    patched.unhide(model)
    for module in model.modules():
        unmix(module)
        if _CHUNK in vars(module):
            module.chunk_size_feed_forward = vars(module).pop(_CHUNK)
        for attribute in ("_yanma_site", "_yanma_mask", "_yanma_crosses", "_yanma_is_causal"):
            module.__dict__.pop(attribute, None)
    patched.rehook(model)
    hear_no_more(model)
    gradients.unlisten(model)
    bits.forget(model)
    model.__dict__.pop("_yanma_masked", None)
    model.set_attn_implementation(model.__dict__.pop("_yanma_previous"))  # type: ignore[operator]


def is_unpadded_one(model: nn.Module) -> bool:
    """Whether `unpad_one` was applied to this very module."""
    return "_yanma_previous" in model.__dict__


def masks_of(model: nn.Module) -> tuple[Mask | None, ...]:
    """The masks that were given to `unpad`, one a layer."""
    own = (vars(module) for module in model.modules())
    return tuple(attributes["_yanma_mask"] for attributes in own if "_yanma_mask" in attributes)


def _pool(model: Any, base: str) -> None:
    """Tell the base model, or a head that judges each token by itself, how the head's own forward pools."""
    kind = pooling(model)
    if kind == "late":
        model.classifier.__class__ = modules.MeanLinear
    else:
        mix(getattr(model, base), modules.MeanOutput if kind == "mean" else modules.FirstTokenOutput)


@functools.cache
def _unpadded_class(stock: Any, family: Family, head: Head) -> Any:
    body = {
        "forward": _forward(stock.forward, family, head),
        "qconfig": REFUSES_QUANTIZATION,
        "__reduce_ex__": reduced_to(_new_unpadded, stock, family.model_type),
    }
    return subclass(stock, (stock,), body)


@functools.cache
def _encoder_class(stock: Any, family: Family) -> Any:
    """An encoder that runs in its model's forward, and else, as in `generate`, by itself: padded in, padded out."""
    inner = (
        mixed_class((modules.DropsInForward,), stock) if stock.__name__ in family.drops_in_forward else stock
    )
    # Its config is the whole model's, in which is_decoder says nothing.
    both_ways = replace(family, is_causal=lambda config: False)
    alone = _forward(inner.forward, both_ways, Head(token_outputs=("last_hidden_state",)))

    @_in_place_of(stock.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        layout = running()
        if layout is None or layout.source is None:
            adopt(self, family)
            return alone(self, *args, **kwargs)
        with run_with(layout.source):
            return inner.forward(self, *args, **kwargs)

    body = {"forward": forward, "__reduce_ex__": reduced_to(_new_encoder, stock, family.model_type)}
    return subclass(stock, (inner,), body)


def _new_unpadded(stock: Any, model_type: str) -> Any:
    family = _family(model_type)
    interface.register()  # another process may not have done it yet
    made = _unpadded_class(stock, family, family.heads[stock.__name__])
    return made.__new__(made)


def _new_encoder(stock: Any, model_type: str) -> Any:
    made = _encoder_class(stock, _family(model_type))
    return made.__new__(made)


def _family(model_type: str) -> Family:
    return next(family for family in (*FAMILIES, *SPEECH) if family.model_type == model_type)


_WHY_NOT_COMPILED = (
    "packs differ, and each would be compiled anew; yanma.restore(model) gives the stock model"
)


def _forward(stock: Callable[..., Any], family: Family, head: Head) -> Callable[..., Any]:
    at_ends = pooling_at_ends(stock)
    run: Callable[..., Any] = {"": stock, "last": classify, "eos": classify_by_eos, "end": at_ends}[
        head.pools_at
    ]
    if head.loss == "ctc":
        run = transcribing(stock)
    make_call: Callable[..., Call] = (
        prepare_sound if family.is_speech else prepare_pairs if head.decodes else prepare
    )
    signature = inspect.signature(stock)
    parameters = list(signature.parameters)[1:]

    @torch.compiler.disable(reason=_WHY_NOT_COMPILED)  # type: ignore[untyped-decorator]
    @_in_place_of(stock)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        refuse_capture(self)
        if interface.is_passed_through():
            return stock(self, *args, **kwargs)
        batch: PackedBatch | Cut | None = _pack(args, kwargs, head)
        if batch is None:
            by_keyword = {name: kwargs.pop(name) for name in (BOUNDS, *DERIVED) if name in kwargs}
            signature.bind(self, *args, **kwargs)  # TypeError for too many arguments, or for one given twice
            kwargs |= dict(zip(parameters, args, strict=False)) | by_keyword
        kwargs = {name: value for name, value in kwargs.items() if value is not None}  # None = not given
        check_tensors(family, head, kwargs)
        batch = batch or cut(self, family, head, kwargs)
        _check_still_ours(self, family)
        if hasattr(self, "peft_config"):
            adopt(self, family)
        if self.training and not family.is_speech:
            hear_by_document(self)
        if cache.is_step(self, family, head, batch, kwargs):
            known = steps.step(self, family, head, kwargs)
            if known is not None:
                output = known.run(stock)
                wants_tuple = not kwargs.get("return_dict", self.config.return_dict)  # type: ignore[union-attr]
                return output.to_tuple() if wants_tuple else output
            with interface.as_stock(self, kwargs):
                return stock(self, **cache.for_stock(self, kwargs))
        keeps = cache.would_be_kept(self, family, head, kwargs)
        max_logits_mib = kwargs.pop("max_logits_mib", None)
        wants_tuple = not kwargs.pop("return_dict", self.config.return_dict)  # type: ignore[union-attr]
        call = make_call(self, family, head, batch, kwargs)
        if max_logits_mib is not None:
            return scored_forward(self, head, run, call, max_logits_mib)
        with gradients.handing_out(self, call) as call, run_with(call.layout):
            output = arrange(run(self, return_dict=True, **call.kwargs), head, call)
        if keeps:
            output = cache.with_place(output, head)
        return output.to_tuple() if wants_tuple else output

    made: Callable[..., Any] = forward
    return made


def _in_place_of(stock: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: the signature and name of `stock`, but no way back to it for those who take wrappers off."""

    def named(forward: Callable[..., Any]) -> Callable[..., Any]:
        functools.update_wrapper(forward, stock)
        del forward.__dict__["__wrapped__"]
        forward.__signature__ = inspect.signature(stock)  # type: ignore[attr-defined]
        return forward

    return named


def _pack(args: tuple[Any, ...], kwargs: dict[str, Any], head: Head) -> PackedBatch | None:
    """The PackedBatch of a call, if it has one: its only positional argument, or `input_ids` where wrappers name it."""
    batch = args[0] if args else kwargs.get("input_ids")
    if not isinstance(batch, PackedBatch):
        batch = None
    elif len(args) > 1:
        raise ValueError("a PackedBatch is the only positional argument; name the others")
    elif not args:
        del kwargs["input_ids"]
    named = [name for name, value in kwargs.items() if isinstance(value, PackedBatch)]
    if named and (batch is None or not head.decodes):
        raise ValueError(
            f"{named[0]} is a PackedBatch: what is read must be one too, as the only positional argument"
        )
    return batch


def _check_still_ours(model: Any, family: Family) -> None:
    if not family.by_interface:
        return
    for part in (model, *model.base_model.children()):  # T5's stacks have configs of their own
        config = vars(part).get("config")
        if config is not None and config._attn_implementation != interface.NAME:
            raise Unsupported(
                f"the model's attention was set to {config._attn_implementation!r} after unpad (perhaps through a "
                f"config that it shares with another model); call yanma.restore(model), or "
                f"set_attn_implementation({interface.NAME!r})"
            )
