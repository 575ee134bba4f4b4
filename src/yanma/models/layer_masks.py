"""Masks that a caller adds to a model's own, one a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from ..errors import Unsupported
from ..masks import Mask, RandomDrop

LayerMasks = Mask | Sequence[Mask | None] | Mapping[int, Mask | None] | None
"""One mask for all layers, one a layer, or some layers' masks by number; None = only the model's own."""


def layer_masks(mask: LayerMasks, num_layers: int) -> tuple[Mask | None, ...]:
    """Each layer's added mask, checked.

    >>> from yanma.masks import window
    >>> layer_masks({1: window(2, 2)}, 3)
    (None, window(2, 2), None)

    Raises ValueError for layers that are not there and Unsupported for masks that hold for one pack only.
    """
    if mask is None or isinstance(mask, Mask):
        found = (mask,) * num_layers
    elif isinstance(mask, Mapping):
        unknown = [layer for layer in mask if layer not in range(num_layers)]
        if unknown:
            raise ValueError(f"mask: there is no layer {unknown[0]!r}; layers are 0 to {num_layers - 1}")
        found = tuple(mask.get(layer) for layer in range(num_layers))
    elif isinstance(mask, Sequence) and not isinstance(mask, str):
        if len(mask) != num_layers:
            raise ValueError(f"mask: {len(mask)} masks for {num_layers} layers; give one a layer")
        found = tuple(mask)
    else:
        raise TypeError(
            f"mask is a {type(mask).__name__}; give a mask, a sequence of one a layer, or a dict by layer"
        )
    for layer, own in enumerate(found):
        _check(layer, own)
    return found


def _check(layer: int, mask: Mask | None) -> None:
    """Refuse what says something of one pack alone: the model will meet others, and in its own order."""
    if mask is None:
        return
    if not isinstance(mask, Mask):
        raise TypeError(f"mask of layer {layer} is a {type(mask).__name__}; parse() makes a mask of a text")
    bound = mask._of_one_pack()
    if bound is not None:
        raise Unsupported(
            f"mask of layer {layer}: {bound.describe()} holds for one pack only, and the model will meet others; "
            f"give a mask of positions that fits any document, such as window(64, 64) | global_tokens(first=1)"
        )
    for leaf in mask._leaves():
        if isinstance(leaf, RandomDrop):
            raise Unsupported(
                f"mask of layer {layer}: {leaf.describe()} would hide the same pairs at every step of training; "
                f"the model's own attention dropout follows the seed of a step"
            )


def describe(masks: Sequence[Mask | None]) -> list[str]:
    """One line for each run of layers that share a mask.

    >>> from yanma.masks import window
    >>> describe([window(2, 2), window(2, 2), None])
    ['layers 0 to 1: window(2, 2)', 'layer 2: no mask but its own']
    """
    lines, first = [], 0
    for own, run in groupby(masks):
        last = first + len(list(run)) - 1
        layers = f"layer {first}" if first == last else f"layers {first} to {last}"
        lines.append(f"{layers}: {'no mask but its own' if own is None else own.describe()}")
        first = last + 1
    return lines
