"""Tiny models, tokenizers and data, made on the spot."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from tiny_bert import save_tiny_bert
from yanma.loading.tokenizer import learn_tokenizer
from yanma.runs.train_config import TrainConfig as Config
from yanma.runs.train_config import load

WORDS = (
    "the a lost card my app paid twice refund where is Ann Bob Paris London bank red blue money soon".split()
)
TAGS = {"Ann": "B-PER", "Bob": "B-PER", "Paris": "B-LOC", "London": "B-LOC"}
LENGTHS = (1, 2, 3, 5, 9, 30)
TASKS = ("sequence-classification", "token-classification")


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return learn_tokenizer(lambda: iter([" ".join(WORDS)] * 5))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, tokenizer) -> Path:
    """A BERT of two layers with random weights and no head, and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-bert")
    # Texts differ in their outputs by weights so large, and an error in one shows.
    return save_tiny_bert(folder, tokenizer, max_position_embeddings=48, initializer_range=0.2)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    """train (90 rows), dev (20) and test (30) of either task, as `{task}.{part}.jsonl`."""
    folder = tmp_path_factory.mktemp("data")
    for seed, (part, count) in enumerate({"train": 90, "dev": 20, "test": 30}.items()):
        texts = sentences(count, seed=seed)
        write_jsonl(folder / f"sequence-classification.{part}.jsonl", texts)
        write_jsonl(folder / f"token-classification.{part}.jsonl", [tagged(row) for row in texts])
    return folder


@pytest.fixture
def settings(model_folder, data_folder, tmp_path) -> Callable[..., dict[str, Any]]:
    """Flags of a short run, in which all three parts are named; what is given overrides them."""

    def make(task: str = TASKS[0], **flags: Any) -> dict[str, Any]:
        parts = {"train": "train", "validation": "dev", "test": "test"}
        files = {flag: str(data_folder / f"{task}.{part}.jsonl") for flag, part in parts.items()}
        short = {"epochs": 1, "batch_size": 16, "learning_rate": 3e-3, "dropout": 0}
        return {
            "task": task,
            **files,
            "model": str(model_folder),
            "out": str(tmp_path / "run"),
            **short,
        } | flags

    return make


@pytest.fixture
def config(settings) -> Callable[..., Config]:
    """The config of a short run."""
    return lambda *args, **flags: load(flags=settings(*args, **flags))


def sentences(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Texts of very different lengths; the label is the one colour that stands in each."""
    draw = random.Random(seed)
    rest = [word for word in WORDS if word not in ("red", "blue")]
    rows = []
    for _ in range(count):
        label = draw.choice(["red", "blue"])
        words = draw.choices(rest, k=draw.choice(LENGTHS))
        words.insert(draw.randrange(len(words) + 1), label)
        rows.append({"text": " ".join(words), "label": label})
    return rows


def tagged(row: dict[str, Any]) -> dict[str, Any]:
    """The same text as words with tags."""
    words = row["text"].split()
    return {"tokens": words, "tags": [TAGS.get(word, "O") for word in words]}


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
