"""Encoders with decoders: of each document a source, which is read, and a target, which is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..batch import PackedBatch
from ..errors import Unsupported
from ..masks import Mask, documents, full, prefix
from .collate import Feature
from .documents import Document, Documents
from .field import Field, is_named

# S tokens of a source, T of a target

_ENDED = "ForSequenceClassification"
JUDGES = (_ENDED, "ForQuestionAnswering")
"""Heads that write again what they read, and judge that."""


def has_decoder(model: Any) -> bool:
    """Whether a model has an encoder beside a decoder."""
    return bool(getattr(model.config, "is_encoder_decoder", False))


def split(document: Document) -> tuple[Document, Document]:
    """A document as its source, the longer half, and its target.

    >>> split((5, 6, 7, 8, 9))
    ((5, 6, 7), (8, 9))
    """
    half = (len(document) + 1) // 2
    return document[:half], document[half:]


class Pairs(Field):
    """The first half of a document is the source, the rest is what the decoder is given.

    Rows of the output are what the encoder gives, (S, ...), and then what the decoder gives, (T, ...). So the mask is
    that of a prefix: the source is read by all, the target by what comes after it.
    """

    def __init__(self, model: Any, arguments: Mapping[str, Any] | None = None) -> None:
        super().__init__(model, arguments)
        if not self.per_token:
            raise Unsupported(
                f"{self.name_of_model} has an encoder and a decoder, and gives one output a pair; audit its base model"
            )

    def num_rows(self, document: Document) -> int:
        return len(split(document)[1])

    def labels(self, document: Document) -> list[int]:
        return [token % self._classes for token in split(document)[1]]

    def scored(self, found: Documents) -> int:
        return sum(map(self.num_rows, found))

    def feature(self, document: Document) -> Feature:
        source, target = split(document)
        return {"input_ids": list(source), "decoder_input_ids": list(target)}

    def packed(self, found: Documents, device: torch.device) -> tuple[PackedBatch, dict[str, Any]]:
        sources, targets = (
            PackedBatch.from_sequences(side).to(device) for side in zip(*map(split, found), strict=True)
        )
        return sources, {"decoder_input_ids": targets}

    def apart(self, output: Any, batch: Mapping[str, Any], found: Documents) -> list[Tensor]:
        both = zip(output.encoder_last_hidden_state, output[self.name], map(split, found), strict=True)
        return [_joined(read[: len(s)], written[: len(t)]) for read, written, (s, t) in both]

    def apart_flat(self, output: Any, found: Documents) -> list[Tensor]:
        lengths = zip(*([len(side) for side in split(document)] for document in found), strict=True)
        flat = output.encoder_last_hidden_state, output[self.name]
        read, written = (x.split(own) for x, own in zip(flat, lengths, strict=True))
        return [_joined(*both) for both in zip(read, written, strict=True)]

    def mask(self) -> Mask:
        return full()  # `expects` says it, document by document

    def expects(self, found: Documents) -> Mask:
        lengths = [len(document) for document in found]
        return documents(lengths) & prefix([len(split(document)[0]) for document in found])


class Judged(Field):
    """A head that writes again what it reads, and judges that: each token of a document moves all of its output.

    Sequences are judged at the token that ends texts, so each has one, at its end.
    """

    def __init__(self, model: Any, arguments: Mapping[str, Any] | None = None) -> None:
        self._end = model.config.eos_token_id if is_named(model, _ENDED) else None
        super().__init__(model, arguments)

    def _ended(self, document: Document) -> Document:
        return document if self._end is None else (*(t for t in document if t != self._end), self._end)

    def feature(self, document: Document) -> Feature:
        return {"input_ids": list(self._ended(document))}

    def packed(self, found: Documents, device: torch.device) -> tuple[PackedBatch, dict[str, Any]]:
        return PackedBatch.from_sequences([self._ended(document) for document in found]).to(device), {}

    def mask(self) -> Mask:
        return full()


def _joined(read: Tensor, written: Tensor) -> Tensor:
    """(S, C) and (T, V) as (S + T, the wider), filled up with zeros."""
    width = max(read.shape[-1], written.shape[-1])
    return torch.cat([F.pad(x, (0, width - x.shape[-1])) for x in (read, written)])
