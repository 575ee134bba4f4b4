"""unpad(model): a Hugging Face model that computes real tokens only. restore(model): as it was."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

from torch import nn

from ..batch import PackedBatch
from ..errors import Unsupported
from ..masks import Mask
from . import activations, bits, interface, modules
from .families import FAMILIES, Family, Head
from .inputs import prepare
from .last_token import classify, classify_by_eos
from .layer_masks import LayerMasks, layer_masks
from .layout import run_with, running
from .linear import Linear
from .outputs import arrange
from .pairs import prepare_pairs

Model = TypeVar("Model", bound=nn.Module)


def unpad(model: Model, mask: LayerMasks = None, *, exact: Literal["bits"] | None = None) -> Model:
    """Make `model` compute real tokens only, in place; the same object is returned.

    The model keeps its signature: padded in, padded out, the same numbers where there are tokens, 0 where there is
    padding (question answering: the smallest float, so that argmax never picks padding). It also takes a
    `PackedBatch` as its only positional argument and then gives token-level outputs flat, (T, ...), and
    document-level ones (N, ...). Parameters, `state_dict` and `save_pretrained` are untouched.

    Beside the PackedBatch that an encoder-decoder reads, `decoder_input_ids` or `labels`, of which the stock model
    makes them, are another of as many documents; outputs by token are those of the decoder, and what is named for the
    encoder belongs to the tokens that it read. Where padded `labels` come without `decoder_attention_mask`, slots
    behind a row's last label other than -100 are padding too.

    In training, dropout is keyed by (seed, document, place, layer): pass `seed=` for runs that can be repeated, else
    one is drawn from torch's generator.

    `mask` is added to the model's own: a token reads what both allow. Its positions are those within a document. One
    for all layers, one a layer, or a dict of some layers' masks; a token that may read nothing attends to 0. The masks
    are no parameters: `save_pretrained` does not write them.

    `exact="bits"` promises that a document's outputs have the same bits in any batch, and tries that on the machine at
    hand, part by part: now, and again at the first forward in another dtype, on another device or with another number
    of threads. Without it kernels are taken of which that is known on the CPUs that were tried, and nothing is checked.
    `explain` tells what was found. It says nothing of gradients, of steps of `generate`, and of other machines.

    Raises Unsupported, naming what there is, for models outside the table of families, for masks that hold for one
    pack only, for a model that is unpadded already, but with other masks or another `exact`, and, naming what differs,
    where this machine does not keep the bits.
    """
    if exact not in (None, "bits"):
        raise ValueError(f"exact is {exact!r}; it is 'bits', or None")
    family, head = recognise(model)
    attentions = [module for module in model.modules() if type(module).__name__ == family.attention]
    if family.repeats_layers and not (mask is None or isinstance(mask, Mask)):
        raise Unsupported(f"{family.model_type} repeats its layers, so a mask is for all of them; give one")
    if not (family.by_interface or mask is None):
        raise Unsupported(f"{family.model_type} computes attention by itself, to which unpad adds no mask")
    if family.cross_attention and mask is not None:
        raise Unsupported(f"{family.model_type} has encoders with decoders, to which unpad adds no mask")
    masks = layer_masks(mask, len(attentions))
    if is_unpadded(model):
        if masks != masks_of(model):
            raise Unsupported(f"this {type(model).__name__} is unpadded with other masks; restore it first")
        if (exact is not None) != bits.is_exact(model):
            raise Unsupported(f"this {type(model).__name__} is unpadded with another exact; restore it first")
        return model
    check(model, family, head)
    if exact is not None:
        bits.check(model, head)
    interface.register()
    previous = model.config._attn_implementation  # type: ignore[union-attr]
    if family.by_interface:
        model.set_attn_implementation(interface.NAME)  # type: ignore[operator]
    for site, (name, module) in enumerate(model.named_modules()):
        _swap(module, site, family)
        if family.cross_attention and name.endswith("." + family.cross_attention):
            module._yanma_crosses = True
    for module, own in zip(attentions, masks, strict=True):
        module._yanma_mask = own  # type: ignore[assignment]
    last = [module for module in model.modules() if type(module).__name__ == family.attention_output][-1:]
    for module in last:
        _mix(module, modules.FirstTokenOnly)
    if type(model).__name__ in family.pools_base:
        _pool(model, family.pools_base[type(model).__name__])
    for module in model.modules():
        if type(module).__name__ in family.pools_within and module.pooler is not None:
            _mix(cast(nn.Module, module.encoder), modules.HandsFirstTokens)
            module.pooler.__class__ = modules.Pooler
    if head.decodes:
        encoder = model.get_encoder()  # type: ignore[operator]
        encoder.__class__ = _encoder_class(_stock_class(encoder), family)
    stock: Any = type(model)
    model.__class__ = _unpadded_class(stock, family, head)
    model._yanma_previous = previous
    if exact is not None:
        _try_bits(model, head, exact)
    return model


def _try_bits(model: Any, head: Head, exact: str) -> None:
    """Try whether an unpadded model keeps its bits here; where it does not, it is as it was before."""
    model._yanma_exact = exact
    try:
        bits.of(model, head)
    except BaseException:
        restore(model)
        raise


def restore(model: Model) -> Model:
    """Undo `unpad`, in place; the same object is returned.

    Raises ValueError where the model is not unpadded.
    """
    if not is_unpadded(model):
        raise ValueError(f"{type(model).__name__} is not unpadded; there is nothing to restore")
    for module in model.modules():
        module.__class__ = _stock_class(module)
        for attribute in ("_yanma_site", "_yanma_mask", "_yanma_crosses"):
            module.__dict__.pop(attribute, None)
    bits.forget(model)
    model.set_attn_implementation(model.__dict__.pop("_yanma_previous"))  # type: ignore[operator]
    return model


def is_unpadded(model: nn.Module) -> bool:
    """Whether `unpad` was applied to this very module."""
    return "_yanma_previous" in model.__dict__


def masks_of(model: nn.Module) -> tuple[Mask | None, ...]:
    """The masks that were given to `unpad`, one a layer."""
    own = (vars(module) for module in model.modules())
    return tuple(attributes["_yanma_mask"] for attributes in own if "_yanma_mask" in attributes)


def recognise(model: nn.Module) -> tuple[Family, Head]:
    """The row of the table for a model; Unsupported, with what there is, where none fits."""
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    name = type(model).__name__
    for family in FAMILIES:
        if family.model_type == model_type:
            if name in family.heads:
                return family, family.heads[name]
            raise Unsupported(
                f"{name} is not a head of {model_type} that unpad knows: {', '.join(family.heads)}"
            )
    known = ", ".join(family.model_type for family in FAMILIES)
    raise Unsupported(
        f"{name} (model type {model_type}) is not among the families that unpad supports: {known}"
    )


def check(model: nn.Module, family: Family, head: Head) -> None:
    """Refuse a model of a known family whose config asks for something that `unpad` does not do."""
    config: Any = model.config
    for name, module in model.named_modules():
        if hasattr(type(module), "_yanma_stock"):
            raise Unsupported(
                f"{name} of this {type(model).__name__} is unpadded already: restore the model on which unpad was "
                f"called, then unpad the whole model"
            )
    if getattr(config, "chunk_size_feed_forward", 0):
        raise Unsupported(
            f"chunk_size_feed_forward is {config.chunk_size_feed_forward}: chunks would cut across documents; "
            f"set it to 0"
        )
    if getattr(config, "conv_kernel_size", 0) and config.num_hidden_layers == 1:
        raise Unsupported(
            f"conv_kernel_size is {config.conv_kernel_size}: unpad does no convolution after the only layer"
        )
    if getattr(config, "sparse_prediction", False) and type(model).__name__.endswith("ForMaskedLM"):
        raise Unsupported(
            "sparse_prediction gives logits of labelled tokens only, which unpad does not do; unset it"
        )
    if getattr(config, "add_cross_attention", False):
        raise Unsupported(
            f"{type(model).__name__} has cross-attention (add_cross_attention), which unpad does not do"
        )
    if getattr(config, "use_bidirectional_attention", None) and family.is_causal(config):
        raise Unsupported(
            f"use_bidirectional_attention is {config.use_bidirectional_attention}: the stock {family.model_type} then "
            f"looks ahead or not as its padding happens to be; set it to None"
        )
    if head.decodes and getattr(config, "is_decoder", False):
        raise Unsupported(
            f"is_decoder is True, but {type(model).__name__} has an encoder too; set it to False"
        )
    for module in model.modules():
        _check_module(module, family, config)


def _check_module(module: nn.Module, family: Family, config: Any) -> None:
    """Refuse what the settings of one module ask for."""
    name = type(module).__name__
    kind = getattr(module, "summary_type", "first")
    if name in family.pools_input and kind != "first":
        raise Unsupported(f"{name} pools by summary_type={kind!r}; unpad supports 'first'")
    if getattr(module, "layerdrop", 0):
        raise Unsupported(
            f"layerdrop is {module.layerdrop}: layers would be left out for all documents at once; build or load the "
            f"model with 0"
        )
    if getattr(module, "attn_logit_softcapping", None) is not None and config.attention_dropout:
        raise Unsupported(
            f"attention_dropout is {config.attention_dropout}, and attn_logit_softcapping "
            f"{config.attn_logit_softcapping}: unpad does not do both; set one of them to 0 or None"
        )
    rotations = getattr(module, "rope_type", "default")
    for rotation in rotations.values() if isinstance(rotations, dict) else [rotations]:
        if rotation == "longrope" or "dynamic" in rotation:
            raise Unsupported(
                f"rope_type is {rotation!r}: each document's angles would depend on the longest in its company"
            )


def _swap(module: nn.Module, site: int, family: Family) -> None:
    """Give a module that must know of the pack its subclass; `site` tells layers apart for dropout."""
    name = type(module).__name__
    if type(module) is nn.Linear:
        module.__class__ = Linear
    elif type(module) is nn.Dropout:
        module.__class__ = modules.Dropout
        module._yanma_site = site  # type: ignore[assignment]
    elif name == family.attention:
        module._yanma_site = site  # type: ignore[assignment]
        if name in family.mixins:
            _mix(module, family.mixins[name])
    elif name in family.mixins:
        _mix(module, family.mixins[name])
    elif name in family.drops_in_forward:
        _mix(module, modules.DropsInForward)
        module._yanma_site = site  # type: ignore[assignment]
    elif name in _BY_CLASS:
        _mix(module, _BY_CLASS[name])
    elif name in family.pools_input:
        _mix(module, modules.FirstTokenInput)
    elif name == family.intermediate:
        _mix(module, modules.FusedFeedForward if hasattr(module, "lin1") else modules.FusedIntermediate)


_BY_CLASS = {
    "Conv1D": modules.TransposedLinear,
    "SiLU": activations.SteadySilu,
    "SiLUActivation": activations.SteadySilu,
    "GELU": activations.SteadyGelu,
    "GELUActivation": activations.SteadyGelu,
    "GELUTanh": activations.SteadyGeluTanh,
}
"""Modules that stand in models of several families."""


def _pool(model: Any, base: str) -> None:
    """Tell the base model, or a head that judges each token by itself, how the head's own forward pools."""
    kind = getattr(model.config, "classifier_pooling", "cls")
    if kind == "late":
        model.classifier.__class__ = modules.MeanLinear
    else:
        _mix(getattr(model, base), modules.MeanOutput if kind == "mean" else modules.FirstTokenOutput)


def _mix(module: nn.Module, mixin: Any) -> None:
    stock: Any = type(module)
    module.__class__ = _mixed_class(mixin, stock)


@functools.cache
def _mixed_class(mixin: Any, stock: Any) -> Any:
    return _subclass(stock, (mixin, stock), {"__reduce_ex__": _reduced_to(_new_mixed, mixin, stock)})


@functools.cache
def _unpadded_class(stock: Any, family: Family, head: Head) -> Any:
    body = {
        "forward": _forward(stock.forward, family, head),
        "__reduce_ex__": _reduced_to(_new_unpadded, stock, family.model_type),
    }
    return _subclass(stock, (stock,), body)


@functools.cache
def _encoder_class(stock: Any, family: Family) -> Any:
    """An encoder that runs in its model's forward, and else, as in `generate`, by itself: padded in, padded out."""
    inner = (
        _mixed_class(modules.DropsInForward, stock) if stock.__name__ in family.drops_in_forward else stock
    )
    alone = _forward(inner.forward, family, Head(token_outputs=("last_hidden_state",)))

    @functools.wraps(stock.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        layout = running()
        if layout is None or layout.source is None:
            return alone(self, *args, **kwargs)
        with run_with(layout.source):
            return inner.forward(self, *args, **kwargs)

    body = {"forward": forward, "__reduce_ex__": _reduced_to(_new_encoder, stock, family.model_type)}
    return _subclass(stock, (inner,), body)


def _stock_class(module: nn.Module) -> Any:
    return getattr(type(module), "_yanma_stock", type(module))


def _subclass(stock: type[nn.Module], bases: tuple[type, ...], body: dict[str, Any]) -> type[nn.Module]:
    """A subclass that goes by its parent's name, as transformers saves and looks classes up by name."""
    names = {"__module__": stock.__module__, "__qualname__": stock.__qualname__, "__doc__": stock.__doc__}
    return type(stock.__name__, bases, body | names | {"_yanma_stock": stock})


def _reduced_to(new: Callable[..., Any], *recipe: Any) -> Callable[[nn.Module, int], tuple[Any, ...]]:
    """A `__reduce_ex__`: copies and pickles name the recipe of a class, which no module holds by its name."""
    return lambda self, protocol: (new, recipe, self.__getstate__())


def _new_mixed(mixin: Any, stock: Any) -> Any:
    made = _mixed_class(mixin, stock)
    return made.__new__(made)


def _new_unpadded(stock: Any, model_type: str) -> Any:
    family = _family(model_type)
    interface.register()  # another process may not have done it yet
    made = _unpadded_class(stock, family, family.heads[stock.__name__])
    return made.__new__(made)


def _new_encoder(stock: Any, model_type: str) -> Any:
    made = _encoder_class(stock, _family(model_type))
    return made.__new__(made)


def _family(model_type: str) -> Family:
    return next(family for family in FAMILIES if family.model_type == model_type)


def _forward(stock: Callable[..., Any], family: Family, head: Head) -> Callable[..., Any]:
    run = {"": stock, "last": classify, "eos": classify_by_eos}[head.pools_at]
    make_call = prepare_pairs if head.decodes else prepare
    signature = inspect.signature(stock)
    parameters = list(signature.parameters)[1:]

    @functools.wraps(stock)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        batch = args[0] if args and isinstance(args[0], PackedBatch) else None
        if batch is not None and len(args) > 1:
            raise ValueError("a PackedBatch is the only positional argument; name the others")
        named = [name for name, value in kwargs.items() if isinstance(value, PackedBatch)]
        if named and (batch is None or not head.decodes):
            raise ValueError(
                f"{named[0]} is a PackedBatch: what is read must be one too, as the only positional argument"
            )
        if batch is None:
            signature.bind(self, *args, **kwargs)  # TypeError for too many arguments, or for one given twice
            kwargs |= dict(zip(parameters, args, strict=False))
        kwargs = {name: value for name, value in kwargs.items() if value is not None}  # None = not given
        _check_still_ours(self, family)
        if batch is None and _is_generation(self, kwargs):
            return stock(self, **kwargs)
        wants_tuple = not kwargs.pop("return_dict", self.config.return_dict)  # type: ignore[union-attr]
        call = make_call(self, family, head, batch, kwargs)
        with run_with(call.layout):
            output = run(self, return_dict=True, **call.kwargs)
        output = arrange(output, head, call)
        return output.to_tuple() if wants_tuple else output

    return forward


def _is_generation(model: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a call is such as `generate` makes, with what earlier steps found, which lies padded."""
    wishes = (kwargs.get(name) for name in ("past_key_values", "use_cache", "encoder_outputs"))
    keeps = kwargs.get("logits_to_keep", 0)
    is_kept = bool(keeps) if isinstance(keeps, int) else True
    return bool(model.can_generate()) and (is_kept or any(wish not in (None, False) for wish in wishes))


def _check_still_ours(model: nn.Module, family: Family) -> None:
    chosen = model.config._attn_implementation  # type: ignore[union-attr]
    if family.by_interface and chosen != interface.NAME:
        raise Unsupported(
            f"the model's attention was set to {chosen!r} after unpad (perhaps through a config that it shares with "
            f"another model); call yanma.restore(model), or set_attn_implementation({interface.NAME!r})"
        )
    if model.training and any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise Unsupported(
            "gradient checkpointing of an unpadded model is not supported; restore it, or disable that"
        )
