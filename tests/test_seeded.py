"""Nobody's generator is seeded or moved: what is drawn comes of a seed that is given, or of the library's own."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, BertForSequenceClassification

import yanma
from yanma.attention import AdaptiveSpan, adaptive_attention, topk_keys
from yanma.bench.compare import side_by_side, training_side_by_side
from yanma.bench.pretraining import QUICK_SHAPES, bench_pretraining
from yanma.bench.workloads import NUM_LABELS
from yanma.corruption import MaskedDataset, Plan, Vocabulary
from yanma.loading.pretrained import fresh_with, load_as_saved, load_with, quiet
from yanma.masks import causal, documents, random_blocks, random_drop
from yanma.seeded import seeded

PACKAGE = Path(yanma.__file__).parent
SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 60,
}
TEXTS = [[2, 7, 8, 3], [2, 9], [2, 5, 3]]


def bert(head: Any = BertForMaskedLM, **more: Any) -> Any:
    return head(BertConfig(**SIZES, **more))


def qkv() -> list[Tensor]:
    return list(torch.ones(3, 9, 2, 4))


def states() -> dict[str, bytes]:
    """Of every generator that a process has without asking."""
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": repr(np.random.get_state()).encode(),
        "random": repr(random.getstate()).encode(),
    }


@pytest.fixture
def moved() -> Callable[[], list[str]]:
    """Names of the generators that have moved since the test began."""
    before = states()
    return lambda: [name for name, state in states().items() if state != before[name]]


MODEL, TRAINED, CLASSIFIER = (
    bert(),
    yanma.unpad(bert()).train(),
    bert(BertForSequenceClassification, num_labels=NUM_LABELS),
)
BATCH = yanma.PackedBatch.from_sequences(TEXTS)
LABELS = torch.tensor([-100, 7, 8, -100, -100, 9, -100, 5, -100])
PLAN = Plan(Vocabulary(size=50, special_ids=(0, 1, 2, 3), mask_id=4))

CALLS: dict[str, Callable[[], object]] = {
    "attention with dropout": lambda: yanma.attention(*qkv(), documents([4, 5]), dropout=0.5, seed=3),
    "adaptive attention": lambda: adaptive_attention(*qkv(), causal(), topk_keys(2)),
    "an adaptive span": lambda: AdaptiveSpan(2, 8),
    "random masks": lambda: (random_blocks(2, 1, seed=0) & random_drop(0.5, seed=1)).dense(9),
    "unpad": lambda: yanma.unpad(bert_there(), exact="bits")(BATCH),
    "explain": lambda: yanma.explain(TRAINED),
    "a step in training, with a seed": lambda: TRAINED(BATCH, seed=1).logits.sum().backward(),
    "scored_loss": lambda: yanma.scored_loss(TRAINED, BATCH, LABELS, seed=2).loss.backward(),
    "PackedCollator": lambda: yanma.PackedCollator()([{"input_ids": text} for text in TEXTS]),
    "audit of a stock model": lambda: yanma.audit(MODEL),
    "audit of an unpadded model": lambda: yanma.audit(MODEL, way="unpadded"),
    "audit of a function that draws": lambda: yanma.audit(drawing, TEXTS),
    "a corruption": lambda: MaskedDataset([{"input_ids": text} for text in TEXTS], PLAN)[0],
    "side_by_side": lambda: side_by_side(MODEL, TEXTS, rounds=1, width=12),
    "training_side_by_side": lambda: training_side_by_side(CLASSIFIER, TEXTS, rounds=1, width=12),
    "fresh weights of a bench": lambda: QUICK_SHAPES[0].model(),
}


def bert_there() -> Any:
    with seeded(0):
        return bert().eval()


def drawing(texts: list[list[int]]) -> list[Tensor]:
    return [torch.rand(len(text), 1) for text in texts]


@pytest.mark.parametrize("name", CALLS)
def test_a_call_moves_no_generator(name: str, moved):
    CALLS[name]()
    assert not moved()


def test_a_bench_moves_no_generator(moved):
    bench_pretraining(1, quick=True)
    assert not moved()


def test_a_draw_is_noticed(moved):
    with torch.random.fork_rng(devices=[]):
        torch.rand(1)
        assert moved() == ["torch"]
    assert not moved()


def test_weights_that_a_saved_model_lacks_are_the_same_and_move_no_generator(tmp_path, moved):
    with seeded(1), quiet():
        bert().bert.save_pretrained(tmp_path)
        config = BertConfig.from_pretrained(tmp_path)
        config.architectures = ["BertForMaskedLM"]
        config.save_pretrained(tmp_path)
    one, other = (load_as_saved(str(tmp_path)).state_dict() for _ in range(2))
    assert "cls.predictions.transform.dense.weight" in one
    assert all(torch.equal(x, other[name]) for name, x in one.items())
    assert not moved()


def test_a_model_that_is_whole_is_loaded_without_a_draw(tmp_path, moved):
    with seeded(1):
        bert().save_pretrained(tmp_path)
    assert not load_with(AutoModelForMaskedLM, str(tmp_path)).fresh
    assert not moved()


def test_fresh_weights_are_those_of_torchs_seed(moved):
    with seeded(3):
        ours = fresh_with(AutoModelForMaskedLM, BertConfig(**SIZES)).model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = AutoModelForMaskedLM.from_config(BertConfig(**SIZES))
    assert all(torch.equal(x, y) for x, y in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert not moved()


def test_a_seed_holds_within_and_where_something_is_raised_the_state_is_put_back(moved):
    with pytest.raises(KeyError), seeded(5):
        first = torch.rand(3)
        raise KeyError
    with seeded(5):
        assert torch.equal(torch.rand(3), first)
    assert not moved()


@pytest.mark.gpu
def test_a_seed_of_the_cpu_leaves_the_gpus_generator_alone():
    torch.cuda.manual_seed(1)
    torch.rand(3, device="cuda")
    before = torch.cuda.get_rng_state()
    with seeded(5):
        torch.rand(3)
    assert torch.equal(torch.cuda.get_rng_state(), before)


# -- the source --------------------------------------------------------------------------------------------------------

GLOBAL = re.compile(
    r"^(torch\.(random\.)?(manual_seed|seed|set_rng_state)|torch\.cuda\.manual_seed(_all)?|random\.\w+|"
    r"(np|numpy)\.random\.(?!default_rng)\w+|set_seed|torch\.default_generator\.\w+)$"
)
DRAWS = re.compile(r"^torch\.(rand|randn|randint|randperm|normal|bernoulli|multinomial|poisson)(_like)?$|"
                   r"\.(normal|uniform|bernoulli|random|exponential)_$")  # fmt: skip
MAY = {
    ("seeded.py", "torch.default_generator.manual_seed"),
    # within fork_rng: stock dropout of padded batches
    ("objectives/batching.py", "torch.cuda.manual_seed"),
    ("objectives/batching.py", "torch.default_generator.manual_seed"),
    # dropout without a seed follows torch's generator, as stock dropout does
    ("models/inputs.py", "torch.randint"),
}


def global_draws(source: str) -> Iterator[str]:
    """Calls by name that seed or draw from a generator that the process has."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {keyword.arg for keyword in node.keywords}
            if GLOBAL.search(name) or (DRAWS.search(name) and "generator" not in given):
                yield name


def test_no_source_seeds_or_draws_from_a_generator_that_is_not_its_own():
    sources = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = {
        (where, name)
        for where, path in sources.items()
        for name in global_draws(path.read_text(encoding="utf-8"))
    }
    assert found == MAY


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("torch.manual_seed(0)", ["torch.manual_seed"]),
        ("x = torch.randn(3) + 1", ["torch.randn"]),
        ("weight.normal_()", ["weight.normal_"]),
        ("np.random.shuffle(x)", ["np.random.shuffle"]),
        ("random.choice(x)", ["random.choice"]),
        ("torch.randn(3, generator=draw); np.random.default_rng(0); torch.Generator().manual_seed(0)", []),
    ],
)
def test_draws_are_found_in_a_source(source: str, found: list[str]):
    assert list(global_draws(source)) == found
