"""CTranslate2: the stock model, converted in this run, in fp32 and in int8."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .absent import Absent, need
from .apart import Apart, apart
from .batching import Rows
from .contestant import Batched, Compute, Sequences
from .outputs import mean_of_rows

SIZES = (16, 32, 64, 128)
NAME, SORTED = "CTranslate2", "CTranslate2, length-sorted"
INT8, INT8_SORTED = "CTranslate2, int8", "CTranslate2, int8, length-sorted"


def contestants(
    model_folder: Path, folder: Path, threads: int, sizes: tuple[int, ...] = SIZES
) -> list[Apart]:
    """fp32 and int8, each in the order of arrival and sorted by length. Absent where it cannot convert the model."""
    need("ctranslate2")
    converted = _convert(model_folder, folder / "ctranslate2")
    return apart(partial(_everyone, converted, threads, sizes), threads)


def _everyone(converted: Path, threads: int, sizes: tuple[int, ...]) -> list[Batched]:
    fp32, int8 = (_compute(converted, kind, threads) for kind in ("float32", "int8"))
    return [
        Batched(NAME, Rows(), sizes, fp32),
        Batched(SORTED, Rows(by_length=True), sizes, fp32),
        Batched(INT8, Rows(), sizes, int8, precision="int8"),
        Batched(INT8_SORTED, Rows(by_length=True), sizes, int8, precision="int8"),
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


def _compute(converted: Path, compute_type: str, threads: int) -> Compute:
    import ctranslate2

    encoder: Any = ctranslate2.Encoder(
        str(converted), device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=threads
    )

    def compute(sequences: Sequences) -> list[Tensor]:
        hidden = torch.from_numpy(np.array(encoder.forward_batch(sequences).last_hidden_state))
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        return list(mean_of_rows(hidden, torch.arange(hidden.shape[1]) < lengths[:, None]).unbind())

    return compute
