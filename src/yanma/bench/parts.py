"""Which contestants meet in which part, and how each part is checked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ..models import unpad
from . import hf, ours, parity, runtimes
from .contestant import Contestant
from .floor import Floor, linear_shapes
from .model import Models
from .parity import Told, Verdict
from .workloads import Workload

Examine = Callable[[Sequence[Contestant], Workload, Told], dict[str, Verdict]]
"""A verdict on each contestant, by name; ParityError if one fails."""


@dataclass(frozen=True)
class Part:
    """One kind of work."""

    key: str
    title: str
    contestants: tuple[Contestant, ...]
    examine: Examine
    floors: tuple[Floor, ...] = ()
    absent: tuple[tuple[str, str], ...] = ()
    yardsticks: tuple[str, ...] = (ours.FP32,)


def parts(models: Models, keys: Sequence[str], width: int, folder: Path) -> list[Part]:
    """The parts that were asked for, ready to run; `folder` takes what is exported and converted."""
    from ..loading.pretrained import quiet

    makers: dict[str, Callable[[Models, int, Path], Part]] = {
        "embeddings": _embeddings,
        "text": _text,
        "classification": _classification,
        "training": _training,
    }
    with quiet():
        return [makers[key](models, width, folder) for key in keys]


def _embeddings(models: Models, width: int, folder: Path) -> Part:
    threads = torch.get_num_threads()
    others, absent = runtimes.present(
        {
            "ONNX Runtime": lambda: runtimes.onnx_runtime(models.base, folder, threads),
            "CTranslate2": lambda: runtimes.ctranslate2(models.saved(folder), folder, threads),
        }
    )
    shapes = linear_shapes(models.base)
    return Part(
        "embeddings",
        "Embeddings (mean of the last hidden states)",
        (
            *hf.inference(models.base, "embedding", width),
            hf.sorted_bf16(models.base_bf16, "embedding"),
            *others,
            *ours.inference(models.unpadded, "embedding"),
            ours.bf16(models.unpadded_bf16, "embedding"),
        ),
        partial(parity.outputs, models.base, "embedding"),
        (Floor(shapes, torch.float32), Floor(shapes, torch.bfloat16)),
        absent,
        (ours.FP32, ours.BF16),
    )


def _text(models: Models, width: int, folder: Path) -> Part:
    others, absent = runtimes.present(
        {"sentence-transformers": lambda: runtimes.sentence_transformers(models.saved(folder), width)}
    )
    return Part(
        "text",
        "Embeddings from text, tokenisation included",
        (*others, ours.from_text(models.unpadded, "embedding", models.tokenizer, width)),
        partial(parity.outputs, models.base, "embedding"),
        absent=absent,
    )


def _classification(models: Models, width: int, folder: Path) -> Part:
    stock = models.classifier
    return Part(
        "classification",
        "Classification (logits of 77 classes)",
        (*hf.inference(stock, "logits", width), *ours.inference(models.unpadded_classifier, "logits")),
        partial(parity.outputs, stock, "logits"),
        (Floor(linear_shapes(models.base), torch.float32),),
    )


def _training(models: Models, width: int, folder: Path) -> Part:
    stock = copy.deepcopy(models.classifier)  # it is in train mode from here on
    return Part(
        "training",
        "Training (forward and backward of a classifier of 77 classes, dropout on)",
        (*hf.training(stock, width), *ours.training(unpad(copy.deepcopy(stock)))),
        partial(parity.gradients, lambda model: hf.training(model, width)[1], stock),
        (Floor(linear_shapes(models.base), torch.float32, passes=3),),
    )
