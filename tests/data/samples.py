"""Rows in every format, a WordPiece tokenizer small enough to read, and logits that know the truth."""

import csv
import gzip
import json
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer

from yanma.data.examples import IGNORE
from yanma.data.rows import Row

PIECES = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] a b c ##b ##c un ##believ ##able card lost in new york 我 们 北 京 , ."
)


@pytest.fixture(scope="session")
def tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(PIECES.split())})


@pytest.fixture
def pieces(tokenizer):
    """The tokens of an example, readable."""
    return lambda example: tokenizer.convert_ids_to_tokens(example.tokens.input_ids)


def rows_of(*fields: dict) -> list[Row]:
    return [Row(each, f"data.jsonl:{line}") for line, each in enumerate(fields, start=1)]


def tagged(words: str, tags: str) -> dict:
    return {"tokens": words.split(" "), "tags": tags.split()}


def flat_labels(examples) -> torch.Tensor:
    """What is scored of the examples: a label a token, or one a text."""
    labels = [getattr(e.targets, "labels", (e.targets,)) for e in examples]
    return torch.tensor([label for own in labels for label in own])


def gold_logits(task, examples) -> torch.Tensor:
    """One-hot logits of what is scored; elsewhere the last class, which no test takes for right by chance."""
    labels = flat_labels(examples)
    best = torch.where(labels == IGNORE, len(task.labels) - 1, labels)
    return torch.nn.functional.one_hot(best, len(task.labels)).float()


def write(path: Path, rows: list[dict]) -> Path:
    """The rows in the format that the name says; lists are words."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        import pyarrow
        from pyarrow import parquet

        plain = path.with_name(name)
        parquet.write_table(pyarrow.Table.from_pylist(rows), plain)
        content = plain.read_bytes()
    else:
        content = _text(name.rpartition(".")[2], rows, path).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def _text(kind: str, rows: list[dict], path: Path) -> str:
    flat = [[" ".join(v) if isinstance(v, list) else str(v) for v in row.values()] for row in rows]
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if kind == "tsv":
        return "".join("\t".join(fields) + "\n" for fields in [list(rows[0]), *flat])
    if kind == "conll":
        sentences = [zip(row["tokens"], row["tags"], strict=True) for row in rows]
        return "\n".join("".join(f"{token}\t{tag}\n" for token, tag in words) for words in sentences)
    table = path.with_name("table")
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([list(rows[0]), *flat])
    return table.read_bytes().decode()
