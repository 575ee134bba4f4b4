"""Subjects made of Hugging Face models, under a way to collate, and unpadded ones on packs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DataError, Unsupported
from ..masks import Mask
from ..models import is_unpadded, unpad
from ..models.sentence import is_sentence_model
from . import advice
from .collate import Collate, apart, flatten, pad
from .documents import Documents, random_documents
from .field import PROBES, Choices, Field, is_named, moved, pad_token_id, parameters
from .pairs import JUDGES, Judged, Pairs, has_decoder
from .subject import Subject

# N documents, T tokens of all of them


def padded(model: Any, arguments: Mapping[str, Any], mask: Mask | None) -> Subject:
    """A stock model whose rows are padded."""
    return _stock(model, "padded", lambda more: pad(pad_token_id(model), more), arguments, mask)


def packed(model: Any, arguments: Mapping[str, Any], mask: Mask | None) -> Subject:
    """A model that is told of documents by positions that start anew, and by nothing else.

    Raises Unsupported where the model takes no positions, or several texts a row.
    """
    if _chooses(model):
        raise Unsupported(f"{type(model).__name__} reads several texts a row, and a pack is one row")
    if "position_ids" not in parameters(model):
        raise Unsupported(f"{type(model).__name__} takes no position_ids, so a pack cannot be told by them")
    return collated(model, flatten(_first_position(model)), arguments, mask, way="packed")


def collated(
    model: Any, collate: Collate, arguments: Mapping[str, Any], mask: Mask | None, *, way: str | None = None
) -> Subject:
    """A model on what a collator makes of `[{"input_ids": [...]}, ...]`.

    Raises Unsupported for an encoder with a decoder, of which an audit makes the batches.
    """
    if has_decoder(model):
        raise Unsupported(
            f"{type(model).__name__} has an encoder and a decoder, of which an audit makes the batches by itself; "
            f"leave collator out"
        )
    name = way or f"collated by {getattr(collate, '__name__', type(collate).__name__)}"
    subject = _stock(model, name, lambda more: collate, arguments, mask)
    absent = {"padding": "this way of collating has no amount of padding to change"}
    return replace(subject, padded=None, absent={**absent, **subject.absent})


def unpadded(model: Any, arguments: Mapping[str, Any], mask: Mask | None) -> Subject:
    """An unpadded model, given packs; a stock model is copied and the copy unpadded.

    Raises Unsupported for families that `unpad` does not know.
    """
    if not is_unpadded(model):
        model = unpad(copy.deepcopy(model))
    device, field = next(model.parameters()).device, field_of(model, arguments)

    def output(documents: Documents, **more: Any) -> Any:
        batch, named = field.packed(documents, device)
        return model(batch, **{**arguments, **named, **more})

    def run(documents: Documents) -> list[Tensor]:
        return field.apart_flat(output(documents), documents)

    def with_padding(documents: Documents, more: int) -> list[Tensor]:
        batch = moved(field.padded(documents, more), device)
        return field.apart(model(**batch, **arguments), batch, documents)

    def share(documents: Documents, step: Documents, parts: int) -> Tensor:
        labels = torch.cat([torch.tensor(field.labels(document)).view(-1) for document in documents])
        loss: Tensor = output(documents, labels=labels.to(device)).loss
        return loss * (field.scored(documents) / field.scored(step))

    return Subject(
        f"unpadded {type(model).__name__}",
        run,
        field.per_token,
        mask or field.mask(),
        with_padding,
        model,
        share if field.has_loss else None,
        absent={} if field.has_loss else {"accumulation": field.no_loss},
        fixes=advice.unpadded(model),
        expects=field.expects,
    )


def field_of(model: Any, arguments: Mapping[str, Any]) -> Field:
    """How documents are given to a model that is called with `arguments`, and which of its outputs is looked at."""
    if has_decoder(model):
        return (Judged if is_named(model, *JUDGES) else Pairs)(model, arguments)
    return (Choices if _chooses(model) else Field)(model, arguments)


def _has_experts(config: Any) -> bool:
    """Whether tokens choose experts: these get products of other sizes, and bits, when one chooses another."""
    found = ((key, value) for key, value in config.to_dict().items() if "experts" in key)
    return any(
        key.startswith(("num_", "n_", "moe_")) and isinstance(value, int) and value > 1
        for key, value in found
    )


def _chooses(model: Any) -> bool:
    return is_named(model, "ForMultipleChoice")


def _stock(
    model: Any, way: str, collator: Callable[[int], Collate], arguments: Mapping[str, Any], mask: Mask | None
) -> Subject:
    """`collator` gives the way to collate with that many slots more."""
    device, field, ours = next(model.parameters()).device, field_of(model, arguments), is_unpadded(model)

    def batch_of(documents: Documents, more: int, labelled: bool) -> dict[str, Any]:
        made = dict(collator(more)(field.features(documents, labelled)))
        if not labelled:
            made.pop("labels", None)
        return moved(made, device)

    sample = batch_of(PROBES[0], 0, False)
    one_row = len(sample["input_ids"]) == 1
    # A stock head would see one document where there are many.
    hidden = not field.per_token and one_row and not ours

    def padded(documents: Documents, more: int) -> list[Tensor]:
        batch = batch_of(documents, more, False)
        output = model(**{**batch, **arguments, **({"output_hidden_states": True} if hidden else {})})
        if hidden:
            return apart(output.hidden_states[-1], batch, documents, True)
        return field.apart(output, batch, documents)

    def loss(documents: Documents, **more: Any) -> Tensor:
        found: Tensor = model(**batch_of(documents, 0, True), **more, **arguments).loss
        return found

    absent = {} if field.has_loss else {"accumulation": field.no_loss}

    def takes_labels() -> bool:
        try:
            return "labels" in batch_of(PROBES[0], 0, True)
        except Exception:  # of any kind: it is somebody else's collator
            return False

    if field.has_loss and not takes_labels():
        absent["accumulation"] = "the batch has no labels: one row cannot have one for each document"

    def weighed(documents: Documents, step: Documents, parts: int) -> Tensor:
        return loss(documents) * (field.scored(documents) / field.scored(step))

    return Subject(
        f"{way} {'unpadded ' * ours}{type(model).__name__}",
        lambda documents: padded(documents, 0),
        field.per_token or hidden,
        mask or field.mask(),
        padded,
        model,
        None if absent else weighed if ours else _as_trainers_do(loss, field),
        absent=absent,
        steady=not _has_experts(model.config),
        fixes=advice.unpadded(model) if ours else advice.stock(model, field, {**sample, **arguments}),
        expects=field.expects,
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


def refuse_sentence_model(model: nn.Module) -> None:
    """Raises Unsupported for a model of sentence-transformers, which is given texts."""
    if is_sentence_model(model):
        raise Unsupported(
            f"a {type(model).__name__} is given texts, and an audit gives token ids; audit the model of transformers' "
            f"in it: model[0].model"
        )


def check_reads(model: Any) -> None:
    """Raises Unsupported for a model that is given recordings or images, alone or beside texts."""
    given = getattr(model, "main_input_name", "input_ids")
    if given != "input_ids":
        raise Unsupported(
            f"{type(model).__name__} is given {given}, and an audit gives token ids; audit a function that makes "
            f"{given} of them and calls the model"
        )
    try:
        model.get_input_embeddings()
    except NotImplementedError as error:
        raise Unsupported(
            f"{type(model).__name__} has no one table of tokens' embeddings; audit the part of it that reads texts"
        ) from error


def documents_for(model: Any) -> Documents:
    """Random documents that a model can read, each with a source and a target where it takes both."""
    drawn = random_documents(
        len(model.get_input_embeddings().weight),
        without=special_ids(model),
        longest=longest_document(model),
    )
    return tuple(document for document in drawn if len(document) > 1 or not has_decoder(model))


def check_lengths(model: Any, documents: Documents) -> None:
    """Raises DataError for a document that is too short to have a source and a target, where a model takes both."""
    if has_decoder(model) and any(len(document) < 2 for document in documents):
        raise DataError(
            f"documents: one of them has 1 token, and {type(model).__name__} takes a source and a target; give each "
            f"two tokens or more"
        )


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
