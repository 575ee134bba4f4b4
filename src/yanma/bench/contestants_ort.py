"""ONNX Runtime: the stock model, exported in this run, with the runtime's own graph optimisations."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .absent import need
from .apart import Apart, apart
from .batching import Rows, rectangle
from .contestant import Batched, Compute, Sequences
from .outputs import mean_of_rows

SIZES = (8, 16, 32, 64)
NAME, SORTED = "ONNX Runtime", "ONNX Runtime, length-sorted"


def contestants(model: nn.Module, folder: Path, threads: int, sizes: tuple[int, ...] = SIZES) -> list[Apart]:
    """In the order of arrival and sorted by length; the export goes to `folder`. Absent without onnxruntime."""
    need("onnxruntime", "onnx", "onnxscript")
    exported = _export(model, folder / "model.onnx")
    pad_token_id = int(model.config.pad_token_id or 0)  # type: ignore[union-attr, arg-type]
    return apart(partial(_everyone, exported, pad_token_id, threads, sizes), threads)


def _everyone(exported: Path, pad_token_id: int, threads: int, sizes: tuple[int, ...]) -> list[Batched]:
    compute = _compute(_session(exported, threads), pad_token_id)
    return [
        Batched(NAME, Rows(), sizes, compute),
        Batched(SORTED, Rows(by_length=True), sizes, compute),
    ]


class _LastHiddenState(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden


def _export(model: nn.Module, path: Path) -> Path:
    ids = torch.ones(2, 5, dtype=torch.int64)
    batch = torch.export.Dim("batch", min=1, max=4096)
    slots = torch.export.Dim("slots", min=1, max=int(model.config.max_position_embeddings))  # type: ignore[union-attr, arg-type]
    shape = {0: batch, 1: slots}
    with _quiet():
        torch.onnx.export(
            _LastHiddenState(model).eval(),
            (ids, torch.ones_like(ids)),
            path,
            dynamo=True,
            input_names=["input_ids", "attention_mask"],
            output_names=["last_hidden_state"],
            dynamic_shapes={"input_ids": shape, "attention_mask": shape},
            verbose=False,
        )
    return path


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _compute(session: Any, pad_token_id: int) -> Compute:
    def compute(sequences: Sequences) -> list[Tensor]:
        ids, valid = rectangle(sequences, pad_token_id)
        (hidden,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": valid.numpy()})
        return list(mean_of_rows(torch.from_numpy(hidden), valid).unbind())

    return compute


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of packages that it does not need, and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
