"""What all runs share, made once: text, tokenizer, collocations, and each seed's initial weights.

OUT/shared/train.jsonl, validation.jsonl   the texts, the second held out
OUT/shared/tokenizer/                      learned from train
OUT/shared/collocations.tsv                of train, for the arm pmi
OUT/shared/initial-SEED/                   a model with random weights, and the tokenizer
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from transformers import AutoModelForMaskedLM, PreTrainedTokenizerBase

from ..corruption import pmi
from ..data.corpus import Document, check_used, read_documents
from ..data.hold_out import hold_out
from ..errors import DataError
from ..files import write
from ..loading.pretrained import fresh_with, load_tokenizer, quiet
from ..loading.shapes import SHAPES
from ..loading.tokenizer import learn_tokenizer
from ..report.progress import ProgressReporter
from ..seeded import seeded
from .config import ComparisonConfig

_HELD_OUT_SEED = 0  # the same texts for all seeds: only then are all judged on the same tokens
_MOST_COLLOCATIONS = 10_000


@dataclass(frozen=True)
class Shared:
    """Where it is."""

    folder: Path

    @property
    def train(self) -> Path:
        return self.folder / "train.jsonl"

    @property
    def validation(self) -> Path:
        return self.folder / "validation.jsonl"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    @property
    def collocations(self) -> Path:
        return self.folder / "collocations.tsv"

    def initial(self, seed: int) -> Path:
        """A folder with a model."""
        return self.folder / f"initial-{seed}"

    def fingerprints(self, seed: int) -> dict[str, str]:
        """Of what a seed's runs begin with, as it is on the disk now."""
        files = {
            "initial weights": self.initial(seed) / "model.safetensors",
            "tokenizer": self.initial(seed) / "tokenizer.json",
            "training text": self.train,
            "validation text": self.validation,
        }
        return {name: sha256(path.read_bytes()).hexdigest()[:16] for name, path in files.items()}


def prepare(config: ComparisonConfig, folder: Path, reporter: ProgressReporter) -> Shared:
    """Make what is not there.

    Raises DataError for texts that cannot be used.
    """
    shared = Shared(folder / "shared")
    with reporter.counting(config.seeds + 2):
        reporter.turn("texts and tokenizer")
        if not shared.folder.is_dir():
            _whole(shared.folder, lambda fresh: _texts_and_tokenizer(config, Shared(fresh)))
        else:
            reporter.note(f"{shared.folder}: texts and tokenizer are there already")
        tokenizer = load_tokenizer(str(shared.tokenizer))
        reporter.turn("collocations")
        if "pmi" in config.arms and not shared.collocations.is_file():
            _collocations(shared)
        for seed in range(config.seeds):
            reporter.turn(f"weights of seed {seed}")
            if not shared.initial(seed).is_dir():
                _whole(shared.initial(seed), partial(_initial, config, tokenizer, seed))
    return shared


def _whole(place: Path, fill: Callable[[Path], None]) -> None:
    """A folder that appears when it is filled."""
    fresh = place.with_name(f".{place.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        fill(fresh)
        fresh.replace(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _texts_and_tokenizer(config: ComparisonConfig, shared: Shared) -> None:
    corpus = config.corpus
    source = ", ".join(corpus.train)
    validation = [corpus.validation] if isinstance(corpus.validation, str) else []
    check_used([*corpus.train, *validation], column=corpus.column)
    train = list(read_documents(corpus.train, column=corpus.column))
    if not train:
        raise DataError(f"{source}: no text in it")
    if isinstance(corpus.validation, float):
        try:
            train, held = hold_out(train, corpus.validation, seed=_HELD_OUT_SEED, what="text")
        except DataError as error:
            raise DataError(f"{source}: {error}") from None
    else:
        held = list(read_documents([corpus.validation], column=corpus.column))
    if not held:
        raise DataError(f"{corpus.validation}: no text in it")
    for path, documents in ((shared.train, train), (shared.validation, held)):
        write(path, "".join(_row(document) for document in documents))
    tokenizer = learn_tokenizer(
        lambda: (document.text for document in train), "wordpiece", config.model.vocab_size, style="bert"
    )
    tokenizer.model_max_length = max(512, config.model.max_length)
    tokenizer.save_pretrained(shared.tokenizer)


def _row(document: Document) -> str:
    return json.dumps({"text": document.text}, ensure_ascii=False) + "\n"


def _collocations(shared: Shared) -> None:
    found = pmi.collocations(lambda: _texts(shared.train), _MOST_COLLOCATIONS)
    if not found:
        raise DataError(
            f"{shared.train}: no words stand together often enough to be a collocation, so that the arm pmi would be "
            f"the arm word; give more text, or leave it out of `arms`"
        )
    fresh = shared.collocations.with_name(".collocations.new")
    pmi.save(found, fresh)
    fresh.replace(shared.collocations)


def _texts(path: Path) -> Iterator[str]:
    return (document.text for document in read_documents([str(path)]))


def _initial(config: ComparisonConfig, tokenizer: PreTrainedTokenizerBase, seed: int, folder: Path) -> None:
    shape = SHAPES[config.model.from_scratch].config(tokenizer, config.model.max_length)
    with quiet(), seeded(seed):
        fresh_with(AutoModelForMaskedLM, shape).model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
