"""What peft puts into a model: its layers are given the classes of all others, and know of the pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import Unsupported
from ..keyed import Site
from . import modules
from .classes import mix
from .family import Family
from .layout import Layout, running
from .linear import Linear, is_plain

# T tokens in the pack, N documents, K of its tokens

REFUSED: Mapping[str, str] = {
    "XLORA": "X-LoRA weighs its adapters by the places of a padded row",
    "POLY": "Poly mixes its skills by rows (task_ids)",
    "LILY": "Lily weighs its experts by the mean over all tokens of a batch, so that a text depends on its company",
    "SHADOW": "ShadowPEFT runs a model of its own beside the layers, on padded rows",
}
"""peft's kinds of adapters that are told the rows of a batch, or mix them, and how."""


def adopt(model: nn.Module, family: Family) -> None:
    """Give the layers of adapters, which may have come after `unpad`, what all others were given.

    Raises Unsupported for kinds of adapters that would take the pack for a row.
    """
    check_adapters(model)
    crosses = []
    for place, module in enumerate(model.modules()):
        if is_plain(module):
            module.__class__ = Linear
        elif type(module) is nn.Dropout:
            module.__class__ = modules.Dropout
            module._yanma_site = Site.LATER_MODULES + place  # type: ignore[assignment]
        elif type(module) is nn.Conv1d and "Conv1d" in family.mixins:
            mix(module, family.mixins["Conv1d"])
        elif "_yanma_crosses" in vars(module):
            crosses.append(module)
        elif is_peft_layer(module) and not isinstance(module, TakesRows):
            _check_place(module)
            mix(module, TakesRows)
    for attention in crosses:  # at the end, so that the source's layout is entered first
        _show_source(attention, family)


def check_adapters(model: nn.Module) -> None:
    """Refuse adapters that peft computes from the rows of a batch."""
    for config in getattr(model, "peft_config", {}).values():
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        velora = getattr(config, "velora_config", None)
        why = REFUSED.get(kind)
        if velora is not None and velora.init_type != "random":
            why = (
                f"VeLoRA with init_type={velora.init_type!r} projects on the mean over all tokens of a batch"
            )
        if why is not None:
            raise Unsupported(f"{why}, which unpad does not do; use another adapter, or the stock model")


def is_peft_layer(module: nn.Module) -> bool:
    """Whether a module is one of peft's own that stands in the place of a model's."""
    parts = module._modules
    is_wrapper = "base_layer" in parts or "original_module" in parts
    return is_wrapper and any(kind.__module__.startswith("peft.") for kind in type(module).__mro__)


def _check_place(module: nn.Module) -> None:
    """Refuse an adapter in the place of a linear layer that does not see the pack as it is."""
    layer = module._modules.get("base_layer")
    if isinstance(layer, modules.Pooler | modules.MeanLinear):
        raise Unsupported(
            f"an adapter ({type(module).__name__}) stands in the place of the model's pooler, or of the linear layer "
            f"before a mean over tokens, where unpad has put its own; leave it out of target_modules (modules_to_save "
            f"can train it), or call yanma.restore(model)"
        )


def _show_source(attention: nn.Module, family: Family) -> None:
    """Tell a decoder's modules that have parts of their own where the encoder's tokens lie, which they are given."""
    for name in family.reads_source:
        module = attention.get_submodule(name)
        if next(module.children(), None) is not None:
            mix(module, modules.ReadsSource)


class TakesRows(nn.Module):
    """A layer of peft's, which may be told of each row of a batch by which adapter it is computed."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        layout = running()
        if layout is None:
            return super().forward(*args, **kwargs)
        if kwargs.get("alora_offsets") is not None:
            raise Unsupported(
                "activated LoRA (alora_invocation_tokens) counts tokens from the end of a padded row, which an "
                "unpadded model does not have; call yanma.restore(model)"
            )
        names = kwargs.get("adapter_names")
        if names is None:
            return super().forward(*args, **kwargs)
        x, *others = args
        rows, of_rows, is_turned = _as_rows(x, _by_place(names, layout), layout)
        out: Tensor = super().forward(rows, *others, **kwargs | {"adapter_names": of_rows})
        return out.transpose(0, 1) if is_turned else out


def _by_place(names: Sequence[str], layout: Layout) -> list[str]:
    """Names of adapters, one a document in the caller's order, in the pack's."""
    if len(names) != len(layout.order):
        raise ValueError(f"adapter_names has {len(names)} names; there are {len(layout.order)} documents")
    return [names[number] for number in layout.order]


def _as_rows(x: Tensor, names: list[str], layout: Layout) -> tuple[Tensor, list[str], bool]:
    """What a layer was given as rows that each have one adapter, their names, and whether rows were columns."""
    tokens = layout.tokens_of(x)
    if tokens is not None:
        documents = layout.documents[tokens].tolist()
        return x.transpose(0, 1), [names[document] for document in documents], True
    if x.dim() > 1 and len(x) == len(names):
        return x, names, False
    raise Unsupported(
        f"adapter_names: a layer met a tensor {tuple(x.shape)} that is neither per token nor per document; call "
        f"yanma.restore(model)"
    )
