"""Tiny models, tokenizers and data, made on the spot."""

import json
import random
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaModel,
)

from yanma.training.pretrained import quiet
from yanma.training.scratch import learn_tokenizer

WORDS = "the a lost card my app paid twice refund where is Ann Bob Paris London bank red blue money soon".split()
PEOPLE, CITIES = ("Ann", "Bob"), ("Paris", "London")


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return learn_tokenizer([" ".join(WORDS)] * 5)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, tokenizer) -> Path:
    """A BERT of two layers with random weights, without a head, and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=48,
    )
    with quiet():
        BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def sentences(count: int, *, seed: int) -> list[dict[str, str]]:
    """Rows of very different lengths whose label a model can learn: which colour stands in the text."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        label = draw.choice(["red", "blue"])
        rest = [word for word in WORDS if word not in ("red", "blue")]
        words = [draw.choice(rest) for _ in range(draw.choice([1, 2, 3, 5, 9, 30]))]
        words.insert(draw.randrange(len(words) + 1), label)
        rows.append({"text": " ".join(words), "label": label})
    return rows


def tagged(count: int, *, seed: int) -> list[dict[str, list[str]]]:
    """Rows of words with BIO tags: people and cities."""
    rows = []
    for row in sentences(count, seed=seed):
        words = row["text"].split()
        tags = ["B-PER" if w in PEOPLE else "B-LOC" if w in CITIES else "O" for w in words]
        rows.append({"tokens": words, "tags": tags})
    return rows


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
