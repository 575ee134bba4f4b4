"""Which row of the table a model is of, and what `unpad` refuses of it before anything is changed."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import Unsupported
from . import patched
from .adapters import check_adapters
from .causality import check_modules, is_causal, refuse_is_causal
from .classes import stock_class
from .conversions import check_quantized
from .families import FAMILIES, SPEECH
from .family import Family, Head
from .linear import Linear
from .reasons import REASONS
from .sound import check_sound
from .swaps import becomes, pooling


def recognise(model: nn.Module) -> tuple[Family, Head]:
    """The row of the table for a model; Unsupported, with what there is, where none fits."""
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    name = stock_class(model).__name__  # fully_shard gives an unpadded model another name
    families = (*FAMILIES, *SPEECH)
    for family in families:
        if family.model_type == model_type and name in family.heads:
            return family, family.heads[name]
    _refuse_wrapper(model)
    for family in families:
        if family.model_type == model_type:
            raise Unsupported(
                f"{name} is not a head of {model_type} that unpad knows: {', '.join(family.heads)}"
            )
    known = ", ".join(family.model_type for family in families)
    why = REASONS.get(str(model_type), known)
    raise Unsupported(
        f"{name} (model type {model_type}) is not among the families that unpad supports: {why}"
    )


def _refuse_wrapper(model: nn.Module) -> None:
    """Refuse what holds a model of transformers', as DistributedDataParallel does, or shards it, and is none itself."""
    kinds = {kind.__name__ for kind in type(model).__mro__}
    if "FSDPModule" in kinds:
        raise Unsupported(f"this {type(model).__name__} is sharded: unpad the model first, then shard it")
    known = {name for family in (*FAMILIES, *SPEECH) for name in family.heads}
    for name, module in model.named_modules():
        if type(module).__name__ in known and "PreTrainedModel" not in kinds:
            raise Unsupported(
                f"this {type(model).__name__} holds a {type(module).__name__}, its {name}: unpad that alone, before "
                f"it is wrapped"
            )


def check(model: nn.Module, family: Family, head: Head) -> None:
    """Refuse a model of a known family whose config asks for something that `unpad` does not do."""
    config: Any = model.config
    check_adapters(model)
    for name, module in model.named_modules():
        if hasattr(type(module), "_yanma_stock"):
            raise Unsupported(
                f"{name} of this {type(model).__name__} is unpadded already: restore the model on which unpad was "
                f"called, then unpad the whole model"
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
    for part in (model, *model.modules()) if head.decodes or family.is_speech else ():
        if getattr(part, "config", None) is not None:
            refuse_is_causal(part, {})
    if not (head.decodes or family.is_speech):
        is_causal(config, family)
    check_modules(model, family)
    if family.is_speech:
        check_sound(model, head)
    for module in model.modules():
        _check_module(module, family, config)
    for module in _linears_of_means(model, family, head):
        if becomes(module, family) is not Linear:
            raise Unsupported(
                f"a {type(module).__name__} stands where this {type(model).__name__} has a plain linear layer, which "
                f"unpad must know: unpad the model first, then change it"
            )
    check_quantized(model)
    patched.check_before_unpad(model, lambda module: becomes(module, family) is not None)


def _linears_of_means(model: Any, family: Family, head: Head) -> list[nn.Module]:
    """The linear layers that are made another kind of Linear: they see documents, not tokens."""
    found = [getattr(model, head.averages)] if head.averages else []
    if type(model).__name__ in family.pools_base and pooling(model) == "late":
        found.append(model.classifier)
    within = (module for module in model.modules() if type(module).__name__ in family.pools_within)
    return found + [module.pooler for module in within if module.pooler is not None]


def _check_module(module: nn.Module, family: Family, config: Any) -> None:
    """Refuse what the settings of one module ask for."""
    name = type(module).__name__
    kind = getattr(module, "summary_type", "first")
    if name in family.pools_input and kind != "first":
        raise Unsupported(f"{name} pools by summary_type={kind!r}; unpad supports 'first'")
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
