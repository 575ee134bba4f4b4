"""Whether tokens may read what comes after them: as a family has it, or as config, call or module say otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ..errors import Unsupported
from .family import Family

NAME = "is_causal"


def is_causal(config: Any, family: Family, kwargs: Mapping[str, Any] | None = None) -> bool:
    """Whether a forward with such arguments lets no token read ahead, as the stock model's does.

    Raises Unsupported where the stock model looks ahead or not as its rows have padding or not.
    """
    own = family.is_causal(config)
    told = NAME in (kwargs or {}) or hasattr(config, NAME)
    if not told:
        return own
    says = (kwargs or {}).get(NAME, getattr(config, NAME, None))
    if own and says is False and not family.always_told_causal:
        return False
    if says is own or not (own or says):
        return own
    raise Unsupported(
        f"{NAME} is {says}: the stock {family.model_type} then looks ahead or not as its rows have padding or not; "
        f"{'leave it out' if family.always_told_causal or not own else 'say True or False'}"
    )


def refuse_is_causal(model: nn.Module, kwargs: Mapping[str, Any]) -> None:
    """Raise Unsupported where a speech model, or one with an encoder and a decoder, is told who reads ahead."""
    says = kwargs.get(NAME, getattr(model.config, NAME, None))
    if says is not None:  # in an encoder-decoder it would be handed to both
        raise Unsupported(
            f"{NAME} is {says}, but {type(model).__name__} has parts of both kinds, or none that could read ahead; "
            f"leave it out, of its config too"
        )


def check_modules(model: nn.Module, family: Family) -> None:
    """Raise Unsupported where an attention was told otherwise than its model: who reads whom then goes by padding."""
    for name, module, built in _told(model, family):
        if module.is_causal is not built:
            raise Unsupported(
                f"{NAME} of {name} is {module.is_causal}: the stock {family.model_type} heeds that only where its rows "
                f"have no padding; set it to {built}, and {_INSTEAD}"
            )


def remember(model: nn.Module, family: Family) -> None:
    """Note what attentions were told, for `check_module` to see that nobody tells them otherwise."""
    for _, module, built in _told(model, family):
        module._yanma_is_causal = built


def check_module(module: Any) -> None:
    """Raise Unsupported where somebody has told an attention otherwise since `remember`."""
    built = vars(module).get("_yanma_is_causal")
    if built is not None and module.is_causal is not built:
        raise Unsupported(
            f"{NAME} of a {type(module).__name__} was set to {module.is_causal} after unpad, which a stock model heeds "
            f"only where its rows have no padding; set it to {built}, and {_INSTEAD}"
        )


_INSTEAD = "say config.is_causal=False, or is_causal=False in the call, for a decoder that reads both ways"


def _told(model: nn.Module, family: Family) -> Iterator[tuple[str, Any, bool]]:
    """Attentions that have a say, by name, and what their model gave them when it was built."""
    if not family.by_interface or family.always_told_causal:
        return
    for name, module in model.named_modules():
        if type(module).__name__ == family.attention:
            if family.cross_attention:
                built = "decoder" in name.split(".") and not name.endswith(family.cross_attention)
            else:
                built = family.is_causal(model.config)
            yield name, module, built
