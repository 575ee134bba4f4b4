"""Other runtimes: the stock model, exported or converted in this run, and sentence-transformers from text.

Who cannot take part is told in the report with the reason; that fails nothing.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.collate import padded
from ..data.examples import Example
from ..errors import Unsupported
from ..models import unpad
from .apart import apart
from .contestant import Compute, Contestant, Rows, Run, batched
from .hf import BY_LENGTH, SIZES
from .outputs import mean_of_rows
from .workloads import Workload

CT2_SIZES = (16, 32, 64, 128)
ENCODE, UNPADDED = "sentence-transformers, encode", "sentence-transformers, unpadded"


class Absent(Exception):
    """A baseline cannot take part; the message says why."""


def present(
    makers: Mapping[str, Callable[[], Sequence[Contestant]]],
) -> tuple[list[Contestant], tuple[tuple[str, str], ...]]:
    """Those who can take part, and of those who cannot the names with the reasons."""
    found: list[Contestant] = []
    absent = []
    for name, make in makers.items():
        try:
            found += make()
        except Absent as reason:
            absent.append((name, str(reason)))
    return found, tuple(absent)


def _need(*modules: str) -> None:
    """Raise Absent, with what to install, where a module is not installed."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise Absent(f"not installed: {', '.join(missing)} (pip install 'yanma[bench]')")


# -- ONNX Runtime ------------------------------------------------------------------------------------------------------


def onnx_runtime(
    model: nn.Module, folder: Path, threads: int, sizes: tuple[int, ...] = SIZES
) -> list[Contestant]:
    """With its own graph optimisations, in the order of arrival and sorted by length; the export goes to `folder`."""
    _need("onnxruntime", "onnx", "onnxscript")
    exported = _export(model, folder / "model.onnx")
    config: Any = model.config
    return apart(partial(_onnx_runtime, exported, int(config.pad_token_id or 0), threads, sizes), threads)


def _onnx_runtime(
    exported: Path, pad_token_id: int, threads: int, sizes: tuple[int, ...]
) -> list[Contestant]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(str(exported), options, providers=["CPUExecutionProvider"])

    def compute(pack: Sequence[Example]) -> list[Tensor]:
        inputs = padded(pack, max(each.num_tokens for each in pack), pad_token_id)
        (hidden,) = session.run(None, {name: x.numpy() for name, x in inputs.items()})
        return list(mean_of_rows(torch.from_numpy(hidden), inputs["attention_mask"]).unbind())

    return _two_orders("ONNX Runtime", compute, sizes)


class _LastHiddenState(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden


def _export(model: nn.Module, path: Path) -> Path:
    ids = torch.ones(2, 5, dtype=torch.int64)
    config: Any = model.config
    batch = torch.export.Dim("batch", min=1, max=4096)
    slots = torch.export.Dim("slots", min=1, max=int(config.max_position_embeddings))
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


# -- CTranslate2 -------------------------------------------------------------------------------------------------------


def ctranslate2(
    model_folder: Path, folder: Path, threads: int, sizes: tuple[int, ...] = CT2_SIZES
) -> list[Contestant]:
    """fp32 and int8, each in the order of arrival and sorted by length. Absent where it cannot convert the model."""
    _need("ctranslate2")
    converted = _convert(model_folder, folder / "ctranslate2")
    return apart(partial(_ctranslate2, converted, threads, sizes), threads)


def _ctranslate2(converted: Path, threads: int, sizes: tuple[int, ...]) -> list[Contestant]:
    fp32, int8 = (_encoder(converted, kind, threads) for kind in ("float32", "int8"))
    return [
        *_two_orders("CTranslate2", fp32, sizes),
        *_two_orders("CTranslate2, int8", int8, sizes, precision="int8"),
    ]


def _convert(model_folder: Path, folder: Path) -> Path:
    from ctranslate2.converters import TransformersConverter

    _complete(model_folder)
    try:
        TransformersConverter(str(model_folder)).convert(str(folder))
    except (ValueError, NotImplementedError, AttributeError) as error:
        reason = str(error).partition(" (supported")[0]  # behind it: all configurations that there are
        raise Absent(f"cannot convert this model: {reason}") from error
    return folder


def _complete(model_folder: Path) -> None:
    """Say what its converter asks for: the kind of positions, and a token for every row of the embedding.

    transformers 5 no longer writes the one; a model of random weights may have more rows than its tokenizer has tokens.
    """
    place = model_folder / "config.json"
    settings = json.loads(place.read_text(encoding="utf-8"))
    settings.setdefault("position_embedding_type", "absolute")
    place.write_text(json.dumps(settings), encoding="utf-8")

    place = model_folder / "tokenizer.json"
    tokenizer = json.loads(place.read_text(encoding="utf-8"))
    tokens = tokenizer["model"]["vocab"]
    if isinstance(tokens, dict) and len(tokens) < settings["vocab_size"]:
        tokens |= {f"[row {row}]": row for row in range(len(tokens), settings["vocab_size"])}
        place.write_text(json.dumps(tokenizer), encoding="utf-8")


def _encoder(converted: Path, compute_type: str, threads: int) -> Compute:
    from ctranslate2 import Encoder

    encoder: Any = Encoder(
        str(converted), device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=threads
    )

    def compute(pack: Sequence[Example]) -> list[Tensor]:
        ids = [each.tokens.input_ids for each in pack]
        hidden = torch.from_numpy(np.array(encoder.forward_batch(ids).last_hidden_state))
        lengths = torch.tensor([each.num_tokens for each in pack])
        return list(mean_of_rows(hidden, torch.arange(hidden.shape[1]) < lengths[:, None]).unbind())

    return compute


def _two_orders(
    name: str, compute: Compute, sizes: tuple[int, ...], precision: str = "fp32"
) -> list[Contestant]:
    return [
        batched(name, compute, sizes, Rows, precision),
        batched(f"{name}, length-sorted", compute, sizes, BY_LENGTH, precision),
    ]


# -- from text ---------------------------------------------------------------------------------------------------------


def sentence_transformers(
    model_folder: Path, max_length: int, sizes: tuple[int, ...] = SIZES
) -> list[Contestant]:
    """`encode` of the same model, stock and unpadded; it sorts by length by itself. Mean pooling, nothing after it."""
    _need("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    modules = _modules()

    def model() -> Any:
        transformer = modules.Transformer(str(model_folder), max_seq_length=max_length)
        pooling = modules.Pooling(transformer.auto_model.config.hidden_size, "mean")
        return SentenceTransformer(modules=[transformer, pooling], device="cpu").eval()

    found = [Contestant(ENCODE, _encode(model()), sizes)]
    try:
        found.append(Contestant(UNPADDED, _encode(unpad(model())), sizes))
    except Unsupported:  # a version before 6: only the stock model takes part
        pass
    return found


def _encode(model: Any) -> Run:
    def run(workload: Workload, size: int) -> list[Tensor]:
        encoded = model.encode(
            list(workload.texts), batch_size=size, convert_to_tensor=True, show_progress_bar=False
        )
        return list(encoded.unbind())

    return run


def _modules() -> Any:
    """Where sentence-transformers keeps Transformer and Pooling; they have moved in version 6."""
    try:
        return import_module("sentence_transformers.sentence_transformer.modules")
    except ModuleNotFoundError:
        return import_module("sentence_transformers.models")
