"""A forward whose logits are wanted of scored tokens alone: the loss takes the place of the last layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..autocast import as_cast
from ..errors import Unsupported
from .family import Head
from .inputs import Call
from .layout import Scoring, run_with
from .vocabulary_loss import LEAST_MIB, cross_entropy

# K scored tokens, D width, V vocabulary, T tokens of the pack

_UNSCORED = -100
_NOT_GIVEN = ("output_hidden_states", "output_attentions")
_OF_OTHER_LOSSES = ("shift_labels", "num_items_in_batch")


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model of language makes of the tokens that are scored; the pack is the decoder's, where there is one."""

    loss: Tensor
    """(), float32 (float64 of a model in float64): the sum of the cross-entropies; it has the gradient."""
    losses: Tensor
    """(K,), of the same dtype: each token's cross-entropy, in the order of the pack; without gradient."""
    predicted: Tensor
    """(K,) int64: the likeliest token of each."""
    places: Tensor
    """(K,) int64, ascending: whose logits were scored. In a causal model that is the token before the label's."""


def scored_forward(
    model: Any, head: Head, run: Callable[..., Any], call: Call, max_logits_mib: int
) -> Scored:
    """Run the stock forward without labels and its last layer, and score what that layer would have been given."""
    _check(model, head, call, max_logits_mib)
    targets = call.kwargs.pop("labels")[0]  # (T,), as the documents are computed
    if head.loss == "next_token":
        targets = targets.roll(
            -1
        )  # no document's first token is scored, so none predicts the next document's
    table = getattr(model.get_output_embeddings(), "weight", None)
    scoring = Scoring((targets != _UNSCORED).nonzero()[:, 0], table)
    labels = targets[scoring.index]
    layout = replace(call.layout, scoring=scoring)
    with run_with(layout):
        run(model, return_dict=True, **call.kwargs)
        rows, weight, bias = _left(model, scoring)
        _check_labels(labels, len(weight))
        losses, predicted = cross_entropy(
            rows,
            weight,
            bias,
            labels,
            cap=_cap(model),
            max_logits_mib=max_logits_mib,
            leaves_to=scoring if scoring.hands_gradient else None,
        )
    places, order = call.origin.index[scoring.index].sort()
    return Scored(losses.sum(), losses.detach()[order], predicted[order], places)


def _check(model: Any, head: Head, call: Call, max_logits_mib: int) -> None:
    name = type(model).__name__
    if not head.scores_vocabulary:
        raise Unsupported(f"{name} has no logits of a vocabulary's tokens to be scored; call it by itself")
    if not isinstance(max_logits_mib, int | float) or max_logits_mib < LEAST_MIB:
        raise ValueError(f"max_logits_mib is {max_logits_mib!r}; it must be at least {LEAST_MIB}")
    for argument in _NOT_GIVEN:
        if call.kwargs.get(argument):
            raise Unsupported(f"scored_loss gives no {argument}; call the model by itself")
    for argument in _OF_OTHER_LOSSES:
        if argument in call.kwargs:
            raise Unsupported(
                f"scored_loss does not use {argument}: it gives the sum of the losses of labels"
            )


def _left(model: Any, scoring: Scoring) -> tuple[Tensor, Tensor, Tensor | None]:
    """What the last layer left: rows (K, D) in the dtype of its product, weight (V, D), and all that is added (V,)."""
    if scoring.rows is None or scoring.weight is None:
        last = type(model.get_output_embeddings()).__name__
        raise Unsupported(
            f"the last layer of this {type(model).__name__} is a {last}, and not a plain linear layer, of which "
            f"alone the loss can take the place; call the model by itself"
        )
    rows, weight, bias = scoring.rows, scoring.weight, scoring.bias
    # The graph of the rows begins at embeddings that know `scoring`: a ring that no collector sees unless it is cut.
    scoring.rows = scoring.weight = scoring.bias = None
    added = getattr(model, "final_logits_bias", None)
    if added is not None:
        bias = added[0] if bias is None else bias + added[0]
    return as_cast(rows), weight, bias


def _cap(model: Any) -> float | None:
    return getattr(model.config, "final_logit_softcapping", None)


def _check_labels(labels: Tensor, size: int) -> None:
    wrong = (labels < 0) | (labels >= size)
    if bool(wrong.any()):
        label = int(labels[wrong][0])
        raise ValueError(
            f"a label is {label}; it must be one of the {size} tokens, or {_UNSCORED} for no score"
        )
