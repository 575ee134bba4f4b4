"""Subjects made of Hugging Face models: stock ones under a way to collate, and unpadded ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import PackedBatch
from ..errors import Unsupported
from ..masks import Mask
from ..masks import causal as causal_mask
from ..masks import full as full_mask
from ..models import is_unpadded, unpad
from . import advice
from .collate import Collate, apart, flatten, pad
from .documents import Documents
from .field import PROBES, Field, features, is_causal, moved, pad_token_id, parameters
from .subject import Subject

# N documents, T tokens of all of them


def padded(model: Any, arguments: Mapping[str, Any], mask: Mask | None) -> Subject:
    """A stock model whose rows are padded."""
    _check(model)
    return _stock(model, "padded", lambda more: pad(pad_token_id(model), more), arguments, mask)


def packed(model: Any, arguments: Mapping[str, Any], mask: Mask | None) -> Subject:
    """A stock model that is told of documents by positions that start anew, and by nothing else.

    Raises Unsupported where the model takes no positions.
    """
    _check(model)
    if "position_ids" not in parameters(model):
        raise Unsupported(f"{type(model).__name__} takes no position_ids, so a pack cannot be told by them")
    return collated(model, flatten(_first_position(model)), arguments, mask, way="packed")


def collated(
    model: Any, collate: Collate, arguments: Mapping[str, Any], mask: Mask | None, *, way: str | None = None
) -> Subject:
    """A stock model on what a collator makes of `[{"input_ids": [...]}, ...]`."""
    _check(model)
    name = way or f"collated by {getattr(collate, '__name__', type(collate).__name__)}"
    subject = _stock(model, name, lambda more: collate, arguments, mask)
    absent = {"padding": "this way of collating has no amount of padding to change"}
    return replace(subject, padded=None, absent={**absent, **subject.absent})


def unpadded(model: Any, arguments: Mapping[str, Any], mask: Mask | None) -> Subject:
    """An unpadded model, given packs; a stock model is copied and the copy unpadded.

    Raises Unsupported for families that `unpad` does not know.
    """
    _check(model)
    if not is_unpadded(model):
        model = unpad(copy.deepcopy(model))
    device, field = next(model.parameters()).device, Field(model)

    def output(documents: Documents, **more: Any) -> Any:
        return model(PackedBatch.from_sequences(documents).to(device), **{**arguments, **more})

    def run(documents: Documents) -> list[Tensor]:
        found: Tensor = output(documents)[field.name]
        return list(found.split([len(d) for d in documents]) if field.per_token else found)

    def with_padding(documents: Documents, more: int) -> list[Tensor]:
        batch = moved(pad(pad_token_id(model), more)(features(documents)), device)
        return apart(model(**batch, **arguments)[field.name], batch, documents, field.per_token)

    def share(documents: Documents, step: Documents, parts: int) -> Tensor:
        labels = torch.cat([torch.tensor(field.labels(document)).view(-1) for document in documents])
        loss: Tensor = output(documents, labels=labels.to(device)).loss
        return loss * (field.scored(documents) / field.scored(step))

    return Subject(
        f"unpadded {type(model).__name__}",
        run,
        field.per_token,
        mask or _own_mask(model),
        with_padding,
        model,
        share if field.has_loss else None,
        absent={} if field.has_loss else {"accumulation": field.no_loss},
        fixes=advice.unpadded(model),
    )


def _stock(
    model: Any, way: str, collator: Callable[[int], Collate], arguments: Mapping[str, Any], mask: Mask | None
) -> Subject:
    """`collator` gives the way to collate with that many slots more."""
    device, field = next(model.parameters()).device, Field(model)

    def batch_of(documents: Documents, more: int, labelled: bool) -> dict[str, Any]:
        made = dict(collator(more)(features(documents, field if labelled else None)))
        if not labelled:
            made.pop("labels", None)
        return moved(made, device)

    sample = batch_of(PROBES[0], 0, False)
    one_row = len(sample["input_ids"]) == 1
    hidden = not field.per_token and one_row  # the head would see one document where there are many
    per_token = field.per_token or hidden

    def padded(documents: Documents, more: int) -> list[Tensor]:
        batch = batch_of(documents, more, False)
        output = model(**batch, **({"output_hidden_states": True} if hidden else {}), **arguments)
        found = output.hidden_states[-1] if hidden else output[field.name]
        return apart(found, batch, documents, per_token)

    def loss(documents: Documents, **more: Any) -> Tensor:
        found: Tensor = model(**batch_of(documents, 0, True), **more, **arguments).loss
        return found

    absent = {} if field.has_loss else {"accumulation": field.no_loss}
    if field.has_loss and "labels" not in batch_of(PROBES[0], 0, True):
        absent["accumulation"] = "the batch has no labels: one row cannot have one for each document"
    return Subject(
        f"{way} {type(model).__name__}",
        lambda documents: padded(documents, 0),
        per_token,
        mask or _own_mask(model),
        padded,
        model,
        None if absent else _as_trainers_do(loss, field),
        absent=absent,
        fixes=advice.stock(model, {**sample, **arguments}),
    )


def _as_trainers_do(
    loss: Callable[..., Tensor], field: Field
) -> Callable[[Documents, Documents, int], Tensor]:
    """The model's own loss: by the number of items of the whole step where it honours that, else a mean of means."""
    honours: list[bool] = []

    def share(documents: Documents, step: Documents, parts: int) -> Tensor:
        if not honours:
            honours.append(field.takes_anything and _honours_number(loss, step))
        if honours[0]:
            return loss(documents, num_items_in_batch=torch.tensor(field.scored(step)))
        return loss(documents) / parts

    return share


def _honours_number(loss: Callable[..., Tensor], documents: Documents) -> bool:
    """Whether twice the number of items gives another loss."""
    with torch.no_grad():
        once, twice = (loss(documents, num_items_in_batch=torch.tensor(n)) for n in (100, 200))
    return not torch.equal(once, twice)


def _check(model: Any) -> None:
    config = model.config
    if getattr(config, "is_encoder_decoder", False):
        raise Unsupported(
            f"{type(model).__name__} has an encoder and a decoder; an audit knows models of one stack"
        )
    if type(model).__name__.endswith("ForMultipleChoice"):
        raise Unsupported(f"{type(model).__name__} reads several texts a row; audit its base model")


def _own_mask(model: nn.Module) -> Mask:
    return causal_mask() if is_causal(model) else full_mask()


def special_ids(model: Any) -> set[int]:
    """Ids that the model's config names: padding, begin, end, ..."""
    found: set[int] = set()
    for key, value in model.config.to_dict().items():
        if key.endswith("_token_id") and value is not None:
            found |= set(value) if isinstance(value, list) else {value}
    return found


def longest_document(model: Any) -> int | None:
    """Tokens of a document that leave room for the padding of an audit; None where nothing limits it."""
    limit = getattr(model.config, "max_position_embeddings", None)
    return None if limit is None else max(limit - _first_position(model) - 8, 2)


def _first_position(model: nn.Module) -> int:
    """The position of a document's first token: RoBERTa's tables keep the rows up to their padding id free."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0
