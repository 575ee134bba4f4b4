"""Which output of a Hugging Face model is looked at, how documents are given to it, and labels that fit it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..batch import PackedBatch
from ..errors import Unsupported
from ..masks import Mask, causal, full
from ..models.causality import is_causal
from ..models.known import recognise
from .collate import Feature, apart, pad
from .documents import Document, Documents

# N documents, S slots of a padded row, T tokens of all documents

_TOKEN_FIELDS = ("last_hidden_state", "logits", "prediction_logits", "start_logits")
PROBES = (((5, 6, 7), (7, 6, 5)), ((5, 6, 7, 8, 9), (9, 8, 7, 6, 5)))
"""Two small batches, of which only the number of tokens differs: what has one row a token differs with it."""


class Field:
    """A model that reads one text a document, and gives rows by token or one output a document."""

    expects: Callable[[Documents], Mask] | None = None
    """Who may read whom in a batch, where `mask` alone does not say it."""

    def __init__(self, model: Any, arguments: Mapping[str, Any] | None = None) -> None:
        self._model, self._arguments = model, dict(arguments or {})
        self.name_of_model = type(model).__name__
        self.takes_anything = any(p.kind is p.VAR_KEYWORD for p in parameters(model).values())
        self.pad_token_id = pad_token_id(model)
        shapes = []
        for found in PROBES:
            batch = moved(self.padded(found), next(model.parameters()).device)
            output = _probed(model, batch)
            names = [name for name in _TOKEN_FIELDS if output.get(name) is not None]
            if not names:
                raise Unsupported(
                    f"{self.name_of_model} gives {', '.join(output)}; "
                    f"an audit reads one of {', '.join(_TOKEN_FIELDS)}"
                )
            self.name = names[0]
            shapes.append(output[self.name].shape)
        self.per_token = all(
            len(shape) > 1 and shape[1] == self.num_rows(found[0])
            for shape, found in zip(shapes, PROBES, strict=True)
        )
        if not self.per_token and shapes[0][1:] != shapes[1][1:]:
            pairs = zip(shapes, PROBES, strict=True)
            one, other = (f"{shape[1]} rows for {len(found[0])} tokens" for shape, found in pairs)
            raise Unsupported(
                f"{self.name_of_model} gives {self.name} of {one} and {other}; an audit reads one row a token, or one "
                f"output a document"
            )
        scalar = len(shapes[0]) == (2 if self.per_token else 1)
        self._classes = 2 if scalar else shapes[0][-1]
        self._scores_all = scalar and self.per_token  # ELECTRA's loss of one number a token leaves none out
        self.has_loss = self.name == "logits" and "labels" in parameters(model)
        self.no_loss = f"{self.name_of_model} computes no loss from `labels` alone; audit one with a head"

    def num_rows(self, document: Document) -> int:
        """Rows of the output that is looked at, where these are tokens."""
        return len(document)

    def labels(self, document: Document) -> Any:
        """Classes that depend on nothing but the tokens; the first token is not scored, shifted losses never do."""
        if self.per_token:
            classes = [token % self._classes for token in document]
            return classes if self._scores_all else [-100, *classes[1:]]
        return sum(document) % self._classes if self._classes > 1 else sum(document) % 7 / 7

    def scored(self, found: Documents) -> int:
        """How many labels count."""
        if not self.per_token:
            return len(found)
        return sum(len(document) - (not self._scores_all) for document in found)

    def feature(self, document: Document) -> Feature:
        """What a collator takes for a document, without labels."""
        return {"input_ids": list(document)}

    def features(self, found: Documents, labelled: bool = False) -> list[Feature]:
        """What a collator takes."""
        labels = [{"labels": self.labels(document)} if labelled else {} for document in found]
        return [self.feature(document) | own for document, own in zip(found, labels, strict=True)]

    def padded(self, found: Documents, more: int = 0) -> dict[str, Any]:
        """Arguments of a padded call, with that many slots more than needed."""
        return dict(pad(self.pad_token_id, more)(self.features(found)))

    def packed(self, found: Documents, device: torch.device) -> tuple[PackedBatch, dict[str, Any]]:
        """Arguments of a call of an unpadded model."""
        return PackedBatch.from_sequences(found).to(device), {}

    def apart(self, output: Any, batch: Mapping[str, Any], found: Documents) -> list[Tensor]:
        """Each document's own part of the output of a stock model, or of a padded call."""
        return apart(output[self.name], batch, found, self.per_token)

    def apart_flat(self, output: Any, found: Documents) -> list[Tensor]:
        """Each document's own part of what an unpadded model gives for a pack."""
        flat: Tensor = output[self.name]
        return list(flat.split([len(document) for document in found]) if self.per_token else flat)

    def mask(self) -> Mask:
        """Who may read whom inside a document."""
        return causal() if self.is_causal else full()

    @cached_property
    def is_causal(self) -> bool:
        """Whether no token may read what comes after it: as `unpad` knows it, as is said or promised, or as measured.

        A model that promises it and reads ahead all the same fails.
        """
        model = self._model
        says = self._arguments.get("is_causal", getattr(model.config, "is_causal", None))
        with suppress(Unsupported):
            family, _ = recognise(model)
            return is_causal(model.config, family, self._arguments)
        if says is False:
            return False
        promised = any(getattr(module, "is_causal", False) is True for module in model.modules())
        return promised or self._reads_nothing_later()

    def _reads_nothing_later(self) -> bool:
        """Whether a document's last token moves no earlier one."""
        *before, last = PROBES[1][0]
        more = self._arguments if self.per_token else {**self._arguments, "output_hidden_states": True}
        rows = []
        for token in (last, PROBES[0][0][0]):
            batch = moved(self.padded(((*before, token),)), next(self._model.parameters()).device)
            output = _probed(self._model, {**batch, **more})
            by_token = output[self.name] if self.per_token else (output.get("hidden_states") or [None])[-1]
            if by_token is None:
                return False
            rows.append(by_token[:, : len(before)])
        return torch.equal(*rows)


class Choices(Field):
    """A model that chooses between texts: a document is one of its texts, and backwards it is the other."""

    def feature(self, document: Document) -> Feature:
        return {"input_ids": [list(document), list(reversed(document))]}

    def packed(self, found: Documents, device: torch.device) -> tuple[PackedBatch, dict[str, Any]]:
        texts = [text for document in found for text in self.feature(document)["input_ids"]]
        return PackedBatch.from_sequences(texts).to(device), {}

    def apart_flat(self, output: Any, found: Documents) -> list[Tensor]:
        return list(output[self.name].view(len(found), 2))


def is_named(model: Any, *ends: str) -> bool:
    """Whether a model's class, or one that it is made of, has a name with one of these ends."""
    return any(kind.__name__.endswith(ends) for kind in type(model).__mro__)


def _probed(model: Any, batch: Mapping[str, Any]) -> Any:
    try:
        with torch.no_grad():
            return model(**{**batch, "return_dict": True})
    except Exception as error:  # of any kind: it is somebody else's model
        raise Unsupported(f"{type(model).__name__} cannot run a padded batch: {error}") from error


def moved(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch on a device."""
    return {name: x.to(device) if isinstance(x, Tensor) else x for name, x in batch.items()}


def pad_token_id(model: Any) -> int:
    """The id that fills padding slots; 0 where the config names none."""
    found = getattr(model.config, "pad_token_id", None)
    return 0 if found is None else found


def parameters(model: Any) -> Mapping[str, inspect.Parameter]:
    """The arguments of the model's forward."""
    return inspect.signature(model.forward).parameters
