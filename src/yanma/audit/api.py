"""audit(): measure what leaks between documents, tokens and micro-batches, in anyone's model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..masks import Mask, full
from ..models import is_unpadded
from . import huggingface
from .checks import CHECKS, Trial, asked, repeatable
from .collate import Collate
from .documents import Documents, checked
from .findings import Audit, Finding, Verdict
from .subject import Subject, from_callable

WAYS: dict[str, Callable[[Any, Mapping[str, Any], Mask | None], Subject]] = {
    "padded": huggingface.padded,
    "packed": huggingface.packed,
    "unpadded": huggingface.unpadded,
}
"""The ways to run a model that need no collator."""


def audit(
    subject: nn.Module | Subject | Callable[[list[list[int]]], Sequence[Any]],
    documents: Sequence[Sequence[int]] | None = None,
    *,
    way: str | None = None,
    collator: Collate | None = None,
    arguments: Mapping[str, Any] | None = None,
    mask: Mask | None = None,
) -> Audit:
    """Measure whether padding, company, other documents, later tokens and micro-batches move what they must not.

    `subject` is a model of transformers, or any function from a list of documents (lists of ids) to a list of
    outputs, one a document. A model is run in its `way`: "unpadded" on packs (the default of an unpadded model);
    "padded" in rows (the default of a stock model); "packed" as one row with positions that start anew; or on what
    `collator` makes of a list of `{"input_ids": [...]}`. `arguments` are passed to every call of the model. An encoder
    with a decoder reads the first half of a document and is given the rest as what it has written; a model that chooses
    between texts is given each document forwards and backwards.

    `documents` are lists of token ids; by default five are drawn, of 1, 2, 5, 17 and 40 tokens. `mask` says who may
    read whom inside a document, through all layers together: by default everyone everyone, or `causal()` for models
    that promise it or, where they promise nothing, are seen to read nothing later. The model is audited in eval mode;
    its modes are put back, and torch's generators.

    >>> def running_mean(documents):
    ...     ids = [torch.tensor(document, dtype=torch.float32) for document in documents]
    ...     return [(d.cumsum(0) / torch.arange(1, len(d) + 1))[:, None] for d in ids]
    >>> import torch
    >>> from yanma.masks import causal
    >>> found = audit(running_mean, [[5, 6, 7], [8, 9]], mask=causal())
    >>> found.ok, found["causality"].verdict.value
    (True, 'pass')

    Raises DataError for documents that cannot show a leak, ValueError for arguments that do not go together,
    Unsupported for models that cannot be run in this way.
    """
    if not (mask is None or isinstance(mask, Mask)):
        raise TypeError(
            f"mask is a {type(mask).__name__}; give a mask, as yanma.masks.parse() makes one of a text"
        )
    found = None if documents is None else checked(documents)
    if isinstance(subject, nn.Module):
        huggingface.refuse_sentence_model(subject)
    if isinstance(subject, nn.Module) and hasattr(subject, "config"):
        huggingface.check_reads(subject)
        found = found or huggingface.documents_for(subject)
        huggingface.check_lengths(subject, found)
        with _as_it_was(subject):
            return _audited(_of_model(subject, way, collator, dict(arguments or {}), mask), found)
    if way is not None or collator is not None or arguments is not None:
        raise ValueError("way, collator and arguments are for models of transformers; leave them out")
    if found is None:
        raise ValueError("documents: which ids a function takes is not known; give a few lists of ids")
    with _as_it_was(subject.module if isinstance(subject, Subject) else None):
        if not isinstance(subject, Subject):
            subject = from_callable(subject, found, mask or full())
        return _audited(subject, found)


def _of_model(
    model: nn.Module,
    way: str | None,
    collator: Collate | None,
    arguments: Mapping[str, Any],
    mask: Mask | None,
) -> Subject:
    if arguments.get("return_dict", True) is not True:
        raise ValueError(
            f"arguments: return_dict is {arguments['return_dict']}, but an audit reads outputs by name"
        )
    if collator is not None:
        if way is not None:
            raise ValueError(f"a collator is a way of its own; leave out way={way!r}")
        return huggingface.collated(model, collator, arguments, mask)
    way = way or ("unpadded" if is_unpadded(model) else "padded")
    if way not in WAYS:
        raise ValueError(f"way is {way!r}; there are {', '.join(WAYS)}")
    return WAYS[way](model, arguments, mask)


def _audited(subject: Subject, documents: Documents) -> Audit:
    trial = Trial(subject, documents)
    first = repeatable(trial)
    if first.verdict is Verdict.FAIL:
        reason = "repeatable failed, so nothing else can be told"
        rest = tuple(Finding(check, Verdict.SKIPPED, reason) for check in CHECKS)
        return Audit(subject.name, (first, *rest))
    trial = Trial(subject, documents, exact=bool(first.same_bits) and subject.steady)
    return Audit(subject.name, (first, *(asked(check, trial) for check in CHECKS.values())))


@contextmanager
def _as_it_was(model: nn.Module | None) -> Iterator[None]:
    """In eval mode; modes, and torch's generators, which dropout moves, are put back."""
    modes = {} if model is None else {module: module.training for module in model.modules()}
    devices = set() if model is None else {x.device for x in model.parameters() if x.device.type == "cuda"}
    try:
        for module in modes:
            module.training = False
        with torch.random.fork_rng(devices):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
