"""Short runs of tiny models on a text made on the spot."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yanma.runs.pretrain_config import PretrainConfig as Config
from yanma.runs.pretrain_config import load

SHAPES = {
    "mlm": "bert-tiny",
    "rtd": "electra-tiny",
    "span-corruption": "t5-tiny",
    "causal-lm": "gpt2-tiny",
}
SUBJECTS = "the red fox,a small bird,my old neighbour,this quiet river,the baker in town".split(",")
VERBS = "watches,follows,remembers,crosses,paints".split(",")
OBJECTS = "the bridge,a heavy stone,three white boats,the evening train,an unbelievable story".split(",")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Sentences of very different lengths, one text a line."""
    draw = random.Random(0)
    lines = []
    for _ in range(120):
        parts = [
            f"{draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(OBJECTS)}."
            for _ in range(draw.choice([1, 1, 2, 4]))
        ]
        lines.append(" ".join(parts))
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def settings(corpus, tmp_path) -> Callable[..., dict[str, Any]]:
    """Flags of a short run; what is given overrides them."""

    def make(objective: str = "mlm", **flags: Any) -> dict[str, Any]:
        short = {
            "steps": 3,
            "batch_tokens": 300,
            "max_batch_tokens": 120,
            "max_length": 48,
            "vocab_size": 150,
        }
        return {
            "objective": objective,
            "train": str(corpus),
            "from_scratch": SHAPES.get(objective),
            "learning_rate": 2e-3,
            "out": str(tmp_path / "run"),
            **short,
        } | flags

    return make


@pytest.fixture
def config(settings) -> Callable[..., Config]:
    """The config of a short run."""
    return lambda *args, **flags: load(flags=settings(*args, **flags))
