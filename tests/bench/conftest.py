"""A tiny model, texts of uneven length, and no pauses."""

import random
from pathlib import Path

import pytest

from tiny_bert import save_tiny_bert
from yanma.bench import measure
from yanma.bench.config import BenchConfig
from yanma.bench.model import Models, load
from yanma.loading.tokenizer import learn_tokenizer

WORDS = "the a lost card my app paid twice refund where is bank red blue money soon".split()
MAX_LENGTH = 24


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch) -> None:
    monkeypatch.setattr(measure, "PAUSE_S", 0.0)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A BERT of two layers with random weights, without a head, and its tokenizer."""
    tokenizer = learn_tokenizer(lambda: iter([" ".join(WORDS)] * 5))
    return save_tiny_bert(tmp_path_factory.mktemp("tiny-bert"), tokenizer, max_position_embeddings=32)


@pytest.fixture(scope="session")
def models(model_folder) -> Models:
    return load(str(model_folder), MAX_LENGTH)


@pytest.fixture
def data(tmp_path) -> Path:
    """60 texts of 1 to 40 words: some are longer than the model's limit."""
    draw = random.Random(1)
    lines = [" ".join(draw.choices(WORDS, k=draw.choice([1, 2, 3, 5, 9, 40]))) for _ in range(60)]
    path = tmp_path / "texts.csv"
    path.write_text("\n".join(["said", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def settings(model_folder, data) -> BenchConfig:
    """A quick run of everything."""
    return BenchConfig(
        model=str(model_folder), data=str(data), text_column="said", max_length=MAX_LENGTH, quick=True
    )
