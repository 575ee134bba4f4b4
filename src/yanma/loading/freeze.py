"""Modules that are not trained, said the short way: `embeddings`, `layers.0-3`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from torch import nn

from ..errors import ConfigError


def freeze(model: nn.Module, names: Iterable[str]) -> tuple[str, ...]:
    """Stop training the modules that `names` say; returns their full names.

    A name is the end of a module's full name: `embeddings` is `bert.embeddings`. `layers.0-3` are four layers;
    whether the model says `layer` or `layers` does not matter.

    >>> model = nn.ModuleDict({"layer": nn.ModuleList(nn.Linear(2, 2) for _ in range(3)), "head": nn.Linear(2, 2)})
    >>> freeze(model, ["layers.0-1"])
    ('layer.0', 'layer.1')

    Raises ConfigError for a name that freezes nothing, with what there is, and where nothing is left to train.
    """
    frozen = [path for name in names for single in _spelled_out(name) for path in _find(model, single)]
    for path in frozen:
        model.get_submodule(path).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"`freeze`: {', '.join(names)} leaves nothing to train")
    return tuple(dict.fromkeys(frozen))


def _spelled_out(name: str) -> Iterator[str]:
    """`layers.0-3` as its four layers."""
    span = re.fullmatch(r"(.*\.)(\d+)-(\d+)(\..*)?", name)
    if span is None:
        yield name
        return
    before, first, last, after = span.groups(default="")
    if int(first) > int(last):
        raise ConfigError(f"`freeze`: {name!r} counts down; say {before}{last}-{first}{after}")
    for index in range(int(first), int(last) + 1):
        yield f"{before}{index}{after}"


def _find(model: nn.Module, name: str) -> list[str]:
    wanted = _parts(name)
    found = [
        path
        for path, module in model.named_modules()
        if path and _parts(path)[-len(wanted) :] == wanted and any(True for _ in module.parameters())
    ]
    if not found:
        raise ConfigError(f"`freeze`: {name!r} freezes nothing; there is: {', '.join(_offer(model))}")
    return found


def _parts(path: str) -> list[str]:
    return ["layer" if part == "layers" else part for part in path.split(".")]


def _offer(model: nn.Module) -> Iterator[str]:
    """The modules that one might freeze: down to the list of layers, which is told as a range."""
    base = getattr(model, "base_model", model)
    parts = list(base.named_children()) + ([] if base is model else list(model.named_children()))
    for name, module in parts:
        if module is base or not any(True for _ in module.parameters()):
            continue
        stacks = [(path, m) for path, m in module.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
        if not stacks:
            yield name
            continue
        path, stack = stacks[0]
        short = f"{name}.{path}".strip(".").rsplit(".", 1)[-1]
        yield f"{'layers' if short == 'layer' else short}.0-{len(stack) - 1}"
