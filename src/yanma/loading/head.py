"""The head of a model that is given, and the classes of a task: whose order counts, and when a new head is made."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

_OF_AN_OLDER_TASK = ("finetuning_task", "_num_labels")
"""What older transformers wrote into configs of the task, and newer ones keep."""


@dataclass(frozen=True)
class Classes:
    """The classes of a task in the order in which a model's head has them."""

    labels: tuple[str, ...]
    keeps_head: bool
    """Whether the model's own head knows these classes."""
    note: str | None = None
    """What the user should read."""


def classes_of(config: Any, head: str, labels: Sequence[str]) -> Classes:
    """The classes `labels` as the head of a saved model, `head` such as "ForTokenClassification", orders them.

    Names agree in any order, and but for case; where the model has none (LABEL_0, ...), the numbers 0, 1, ... are its
    classes. Otherwise the order is that of `labels`, and outputs that the model has mean something else.
    """
    own = tuple(str(config.id2label[index]) for index in sorted(config.id2label))
    if not _is_such_a_head(config, head):
        return Classes(tuple(labels), keeps_head=False)
    if sorted(own) == sorted(labels):
        return Classes(own, keeps_head=True)
    for meaning, said in ((_folded(labels), "but for their case"), (_numbered(labels), "by their numbers")):
        there = tuple(name.casefold() for name in own)
        if set(meaning) == set(there) and len(meaning) == len(labels) == len(there):
            found = tuple(meaning[name] for name in there)
            note = f"its classes {_shown(own)} are {_shown(found)} of the data, {said}; its head is kept"
            return Classes(found, keeps_head=True, note=note)
    note = f"its head knows other classes, {_shown(own)}; a new one is made for {_shown(labels)}"
    return Classes(tuple(labels), keeps_head=False, note=note)


def set_task(config: Any, head: str, labels: Sequence[str]) -> None:
    """Let a config say what is trained, classes by name, and nothing of what was trained before."""
    forget_task(config)
    config.__dict__.pop("task_specific_params", None)  # prompts and lengths of models that write
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    if head == "SequenceClassification":
        config.problem_type = "single_label_classification"


def forget_task(config: Any) -> None:
    """Let a config say of classes what one of a model without a head for them says."""
    config.problem_type = None
    config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    config.label2id = {"LABEL_0": 0, "LABEL_1": 1}
    for name in _OF_AN_OLDER_TASK:
        config.__dict__.pop(name, None)


def weights_of_head(model: PreTrainedModel, auto: Any) -> tuple[str, ...]:
    """Names of the weights that score the classes: those whose shape follows their number."""
    wider: Any = copy.deepcopy(model.config)
    wider.num_labels = len(wider.id2label) + 1
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in auto.from_config(wider).named_parameters()}
    return tuple(name for name, p in model.named_parameters() if p.shape != shapes[name])


def renew(model: PreTrainedModel, auto: Any, names: Sequence[str]) -> None:
    """Give these weights the random values that a fresh model has, of torch's own generator: see `seeded`."""
    fresh = auto.from_config(model.config)
    with torch.no_grad():
        for name in names:
            model.get_parameter(name).copy_(fresh.get_parameter(name))


def _is_such_a_head(config: Any, head: str) -> bool:
    """Whether the model was saved with this kind of head, and its outputs are classes; True where it is not said."""
    saved: str = (config.architectures or [head])[0]
    return saved.endswith(head) and bool(config.problem_type != "regression")


def _folded(labels: Sequence[str]) -> dict[str, str]:
    return {label.casefold(): label for label in labels}


def _numbered(labels: Sequence[str]) -> dict[str, str]:
    return {f"label_{label}": label for label in labels}


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown}, ... ({len(names)})"
