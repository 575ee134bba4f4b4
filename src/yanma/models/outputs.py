"""The way out: flat outputs of one forward, laid out as the caller's input was."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import losses
from .family import Head
from .gradients import lay, states_of, through
from .inputs import Call, Origin

# N documents, S slots of a padded row, T tokens


def arrange(output: Any, head: Head, call: Call) -> Any:
    """The same output object: token-level fields padded (N, S, ...) or flat (T, ...), the rest (N, ...)."""
    ways: list[tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]] = []
    for name in head.token_outputs:
        if output.get(name) is not None:
            flat = output[name]
            output[name] = _tokens(flat, call, call.origin, _hidden(head, flat))
            ways.append((flat, output[name], partial(_tokens, call=call, origin=call.origin)))
    if output.get("encoder_last_hidden_state") is not None:
        output["encoder_last_hidden_state"] = _tokens(output["encoder_last_hidden_state"], call, call.source)
    for name in ("hidden_states", "decoder_hidden_states", "encoder_hidden_states"):
        if output.get(name) is not None:
            origin = call.source if name == "encoder_hidden_states" else call.origin
            output[name] = tuple(  # None: not selected
                None if states is None else _tokens(states, call, origin) for states in output[name]
            )
    for name in head.document_outputs:
        if output.get(name) is not None:
            flat = output[name]
            output[name] = _documents(flat, call)
            ways.append((flat, output[name], partial(_documents, call=call)))
    if output.get("loss") is not None:
        output["loss"] = through(output["loss"], ways)
    return _with_loss(output, head, call)


def _tokens(flat: Tensor, call: Call, origin: Origin, hidden: float = 0.0) -> Tensor:
    """(1, T, ...) as `lay` has it, or what was laid out of it while the model ran."""
    states = states_of(call, origin)
    laid = None if states is None else states.handed(flat)
    return lay(flat.squeeze(0), origin, call.is_sorted, hidden) if laid is None else laid


def _documents(output: Tensor, call: Call) -> Tensor:
    output = output if call.is_sorted else output[torch.argsort(call.order)]
    shape = call.origin.rows.shape
    return output.view(shape[:2]) if len(shape) == 3 else output


def _hidden(head: Head, scores: Tensor) -> float:
    return losses.hidden_score(scores.dtype) if head.loss == "span" else 0.0


def _with_loss(output: Any, head: Head, call: Call) -> Any:
    if len(call.labels) < len(head.document_labels) or head.loss not in ("choice", "span"):
        return output
    if head.loss == "choice":
        labels = call.labels["labels"]
        loss = losses.choice(output["logits"].view(labels.numel(), -1), labels)
    else:
        start, end = (_padded(output[name], call) for name in head.token_outputs)
        items = call.kwargs.get("num_items_in_batch") if head.counts_items else None
        first, last = (call.labels[name] for name in head.document_labels)
        loss = losses.span(start, end, first, last, items)
    return type(output)(loss=loss, **{name: value for name, value in output.items() if name != "loss"})


def _padded(scores: Tensor, call: Call) -> Tensor:
    """(N, S), padding slots at the smallest float."""
    rows = scores.flatten().split(list(call.origin.rows.widths))
    return torch.nn.utils.rnn.pad_sequence(rows, True, losses.hidden_score(scores.dtype))
