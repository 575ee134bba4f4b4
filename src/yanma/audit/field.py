"""Which output of a Hugging Face model is looked at, and labels that fit it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import Unsupported
from .collate import Feature, pad
from .documents import Document, Documents

_TOKEN_FIELDS = ("last_hidden_state", "logits", "prediction_logits", "start_logits")
PROBES = (((5, 6, 7), (7, 6, 5)), ((5, 6, 7, 8, 9), (9, 8, 7, 6, 5)))
"""Two small batches, of which only the number of tokens differs: what has one row a token differs with it."""


class Field:
    """The output that is looked at, and labels that fit it."""

    def __init__(self, model: Any) -> None:
        self.takes_anything = any(p.kind is p.VAR_KEYWORD for p in parameters(model).values())
        shapes = []
        for documents in PROBES:
            batch = moved(pad(pad_token_id(model))(features(documents)), next(model.parameters()).device)
            output = _probed(model, batch)
            names = [name for name in _TOKEN_FIELDS if output.get(name) is not None]
            if not names:
                raise Unsupported(
                    f"{type(model).__name__} gives {', '.join(output)}; "
                    f"an audit reads one of {', '.join(_TOKEN_FIELDS)}"
                )
            self.name = names[0]
            shapes.append(output[self.name].shape)
        self.per_token = all(
            len(shape) > 1 and shape[1] == len(documents[0])
            for shape, documents in zip(shapes, PROBES, strict=True)
        )
        scalar = len(shapes[0]) == (2 if self.per_token else 1)
        self._classes = 2 if scalar else shapes[0][-1]
        self.has_loss = self.name == "logits" and "labels" in parameters(model)
        self.no_loss = f"{type(model).__name__} computes no loss from `labels` alone; audit one with a head"

    def labels(self, document: Document) -> Any:
        """Classes that depend on nothing but the tokens; the first token is not scored, shifted losses never do."""
        if self.per_token:
            return [-100, *(token % self._classes for token in document[1:])]
        return sum(document) % self._classes if self._classes > 1 else sum(document) % 7 / 7

    def scored(self, documents: Documents) -> int:
        """How many labels count."""
        return sum(len(document) - 1 for document in documents) if self.per_token else len(documents)


def _probed(model: Any, batch: Mapping[str, Tensor]) -> Any:
    try:
        with torch.no_grad():
            return model(**batch, return_dict=True)
    except Exception as error:  # of any kind: it is somebody else's model
        raise Unsupported(f"{type(model).__name__} cannot run a padded batch: {error}") from error


def features(documents: Documents, field: Field | None = None) -> list[Feature]:
    """What a collator takes, with labels where a field says which."""
    if field is None:
        return [{"input_ids": list(document)} for document in documents]
    return [{"input_ids": list(document), "labels": field.labels(document)} for document in documents]


def moved(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch on a device."""
    return {name: x.to(device) if isinstance(x, Tensor) else x for name, x in batch.items()}


def pad_token_id(model: Any) -> int:
    """The id that fills padding slots; 0 where the config names none."""
    found = getattr(model.config, "pad_token_id", None)
    return 0 if found is None else found


def is_causal(model: nn.Module) -> bool:
    """Whether an attention of the model hides what comes later."""
    return any(getattr(module, "is_causal", False) is True for module in model.modules())


def parameters(model: Any) -> Mapping[str, inspect.Parameter]:
    """The arguments of the model's forward."""
    return inspect.signature(model.forward).parameters
