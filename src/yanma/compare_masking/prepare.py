"""What all runs share, made once: text, tokenizer, collocations, and each seed's initial weights.

OUT/shared/train.jsonl, validation.jsonl   the texts, the second held out
OUT/shared/tokenizer/                      learned from train
OUT/shared/collocations.tsv                of train, for the arm pmi
OUT/shared/initial-SEED/                   a model with random weights, and the tokenizer
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerBase

from ..corruption import pmi
from ..data.blocks import Blocks, cut_blocks
from ..data.corpus import Document, check_used, read_documents
from ..data.hold_out import hold_out
from ..data.order import Shuffled, StepSize
from ..errors import ConfigError, DataError
from ..files import write
from ..loading.pretrained import fresh_with, load_tokenizer, quiet
from ..loading.shapes import SHAPES
from ..loading.tokenizer import learn_tokenizer
from ..report.progress import ProgressReporter
from ..seeded import seeded
from .arms import ARMS
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


@dataclass(frozen=True)
class Sizes:
    """How much text there is, and how long a run is."""

    train_texts: int
    train_tokens: int
    validation_tokens: int
    vocabulary: int
    parameters: int
    steps: int
    epochs: int
    """That are begun."""


def counted(number: int, one: str, more: str) -> str:
    """A number with its noun.

    >>> counted(1, "copy", "copies"), counted(1000, "copy", "copies")
    ('1 copy', '1,000 copies')
    """
    return f"{number:,} {one if number == 1 else more}"


def prepare(config: ComparisonConfig, folder: Path, reporter: ProgressReporter) -> tuple[Shared, Sizes]:
    """Make what is not there.

    Raises DataError for texts that cannot be used, ConfigError for arms that would be the same as dynamic.
    """
    shared = Shared(folder / "shared")
    with reporter.counting(config.seeds + 3):
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
        reporter.turn("blocks")
        sizes = _sizes(config, shared, tokenizer)
    _check_copies(config, sizes)
    return shared, sizes


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


def _sizes(config: ComparisonConfig, shared: Shared, tokenizer: PreTrainedTokenizerBase) -> Sizes:
    train, validation = (
        _blocks(read_documents([str(path)]), tokenizer, config) for path in (shared.train, shared.validation)
    )
    order = Shuffled(train, train.lengths, 0, StepSize(batch_tokens=config.budget.batch_tokens))
    epochs = config.budget.epochs
    if epochs is None:
        assert config.budget.steps is not None  # the config has one of them
        steps, epochs = config.budget.steps, 1
        while order.count(epochs) < steps:
            epochs += 1
    else:
        steps = order.count(epochs)
    shape = SHAPES[config.model.from_scratch].config(tokenizer, config.model.max_length)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in fresh_with(AutoModelForMaskedLM, shape).model.parameters())
    return Sizes(
        train.num_documents, int(sum(train.lengths)), int(sum(validation.lengths)), len(tokenizer), parameters, steps,
        epochs,
    )  # fmt: skip


def _blocks(
    documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase, config: ComparisonConfig
) -> Blocks:
    return cut_blocks(documents, tokenizer, max_length=config.model.max_length, rule="join")


def _check_copies(config: ComparisonConfig, sizes: Sizes) -> None:
    """Raise ConfigError for an arm whose masks would not come twice: it would be dynamic under another name."""
    for name in config.arms:
        copies = ARMS[name].copies
        if copies is not None and copies >= sizes.epochs:
            raise ConfigError(
                f"arm {name} has {counted(copies, 'copy', 'copies')} of each text and a run has "
                f"{counted(sizes.epochs, 'epoch', 'epochs')}: no mask would come "
                f"twice, as in dynamic. Give more `epochs` (or `steps`), or leave it out of `arms`"
            )
