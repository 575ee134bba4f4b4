"""The demo: a pretrained model is fine-tuned on real text, then computed side by side in four ways of masking.

Weights and text are installed with the extra `demo` (packaged.py); nothing is fetched while it runs.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from . import packaged
from .errors import ConfigError
from .packing import shuffled

if TYPE_CHECKING:
    from rich.console import Console

    from .bench.compare import Comparison
    from .packaged import Conversation
    from .runs.train import Trained
    from .runs.train_config import TrainConfig

OUT = "runs/demo"
LEAST = 40
"""Utterances of the smallest topic that is learned."""
SHARES = {"train": 70, "validation": 10, "test": 20}
"""Percent of the texts of each topic."""
MAX_LENGTH = 128
EPOCHS = 6
NUM_COMPUTED, NUM_TRAINED = 128, 48
"""Utterances that are computed side by side: forward only, and forward and backward."""
ROUNDS = 3
"""Times that each is timed."""
_ABOUT = "Made by `yanma demo`; the next `yanma demo` overwrites what is in this folder.\n"


@dataclass(frozen=True)
class Utterance:
    """One line of a conversation."""

    text: str
    label: str
    """The topic of its conversation."""
    conversation: str
    """The line that opens its conversation, in plain words."""


@dataclass(frozen=True)
class Selection:
    """What of a corpus is learned, and what is not."""

    utterances: tuple[Utterance, ...]
    """No text twice."""
    num_read: int
    num_repeated: int
    """Utterances whose text was met before."""
    num_ambiguous: int
    """Texts that stand under several topics: they have no right answer and are left out."""
    too_small: Mapping[str, int]
    """Topics that are left out, and how many texts they have."""

    def describe(self) -> str:
        """Counts, in sentences."""
        sizes = ", ".join(f"{len(part):,} {name}" for name, part in split(self.utterances).items())
        num_topics = len({utterance.label for utterance in self.utterances})
        small = ", ".join(f"{label} {count}" for label, count in self.too_small.items())
        return (
            f"{self.num_read:,} utterances, of which {self.num_repeated:,} only repeat another and "
            f"{self.num_ambiguous} stand under several topics.\n"
            f"Left out, as topics of fewer than {LEAST} texts: {small or 'none'}.\n"
            f"Used: {len(self.utterances):,} texts of {num_topics} topics ({sizes}). "
            f"No conversation is in two of these parts."
        )


@dataclass(frozen=True)
class Demo:
    """What the demo came to."""

    trained: Trained
    inference: Comparison
    training: Comparison
    seconds: float


def run(out: str | Path = OUT, *, console: Console | None = None) -> Demo:
    """Fine-tune, report, compare. Files go to the folder `out`, words to `console` (default: stdout).

    Raises Unsupported where the extra `demo` is not installed, ConfigError where `out` holds something else.
    """
    from rich.console import Console

    from .runs.evaluate import table_of
    from .runs.train import train

    start = time.monotonic()
    console = console or Console(highlight=False, soft_wrap=True)
    corpus, weights = packaged.corpus(), packaged.minilm()
    folder = claim(Path(out))
    selection = select(spoken(packaged.conversations(corpus)), least=LEAST)
    console.print(
        f"The topic of an utterance, learned by MiniLM from chatterbot-corpus.\n{selection.describe()}\n"
    )
    write_parts(selection.utterances, folder / "data")
    trained = train(config(folder, weights), overwrite=True)
    if trained.test is not None:
        console.print(table_of(trained.test.report, "test"), "")
    inference, training = compare(trained.folder, weights, drawn(selection.utterances), console)
    demo = Demo(trained, inference, training, time.monotonic() - start)
    (folder / "speeds.json").write_text(json.dumps(_speeds(demo), indent=2) + "\n", encoding="utf-8")
    console.print(_last_words(demo, folder), markup=False)
    return demo


# -- text --------------------------------------------------------------------------------------------------------------


def spoken(conversations: Iterable[Conversation]) -> Iterator[Utterance]:
    """Every line of every conversation."""
    for conversation in conversations:
        for text in conversation.lines:
            yield Utterance(text, conversation.topic, plain(conversation.lines[0]))


def plain(text: str) -> str:
    """Lower-case words without punctuation: by this, two texts are the same.

    >>> plain("What is AI?") == plain("what is  ai")
    True
    """
    return " ".join(re.findall(r"\w+", text.lower())) or text


def select(utterances: Iterable[Utterance], *, least: int) -> Selection:
    """Each text once, where it is met first; topics with at least `least` texts."""
    first: dict[str, Utterance] = {}
    labels: defaultdict[str, set[str]] = defaultdict(set)
    read = list(utterances)
    for utterance in read:
        key = plain(utterance.text)
        first.setdefault(key, utterance)
        labels[key].add(utterance.label)
    clear = [utterance for key, utterance in first.items() if len(labels[key]) == 1]
    sizes = Counter(utterance.label for utterance in clear)
    return Selection(
        utterances=tuple(utterance for utterance in clear if sizes[utterance.label] >= least),
        num_read=len(read),
        num_repeated=len(read) - len(first),
        num_ambiguous=len(first) - len(clear),
        too_small={label: count for label, count in sorted(sizes.items()) if count < least},
    )


def split(utterances: Iterable[Utterance]) -> dict[str, list[Utterance]]:
    """train, validation and test, by shares of every topic; conversations stay whole and go by a hash of their opening.

    A conversation that reaches over the end of a share still belongs to it.
    """
    topics: defaultdict[str, defaultdict[str, list[Utterance]]] = defaultdict(lambda: defaultdict(list))
    for utterance in utterances:
        topics[utterance.label][utterance.conversation].append(utterance)
    parts: dict[str, list[Utterance]] = {name: [] for name in SHARES}
    for topic in topics.values():
        num_texts, placed = sum(map(len, topic.values())), 0
        for opening in sorted(topic, key=_hash):
            ends = accumulate(SHARES.values())
            part = next(
                name for name, end in zip(SHARES, ends, strict=True) if 100 * placed < end * num_texts
            )
            parts[part] += topic[opening]
            placed += len(topic[opening])
    return parts


def _hash(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()


def drawn(utterances: Sequence[Utterance]) -> list[str]:
    """Texts to compute side by side, in a random order, as they would arrive; the same in every demo."""
    order = shuffled(len(utterances), seed=0, epoch=0)
    return [utterances[index].text for index in order[:NUM_COMPUTED]]


# -- files -------------------------------------------------------------------------------------------------------------


def claim(folder: Path) -> Path:
    """The demo's folder: a new or empty one, or that of an earlier demo. ConfigError for any other."""
    mark = folder / "README.txt"
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, not a folder; name another `out`")
    ours = mark.is_file() and mark.read_text(encoding="utf-8", errors="replace") == _ABOUT
    if folder.exists() and any(folder.iterdir()) and not ours:
        raise ConfigError(f"{folder} holds something that is not a demo's; name another `out`")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(_ABOUT, encoding="utf-8")
    return folder


def write_parts(utterances: Iterable[Utterance], folder: Path) -> None:
    """train.jsonl, validation.jsonl and test.jsonl."""
    folder.mkdir(exist_ok=True)
    for name, part in split(utterances).items():
        rows = ({"text": utterance.text, "label": utterance.label} for utterance in part)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def config(folder: Path, weights: Path) -> TrainConfig:
    """The training run: what a file for `yanma train --config` would say."""
    from .runs.train_config import load

    data = {name: str(folder / "data" / f"{name}.jsonl") for name in SHARES}
    # Half of MiniLM's weights are word vectors: a thousand texts teach them little, and moving them takes a third
    # of a step.
    model = {"model": str(weights), "max_length": MAX_LENGTH, "dropout": 0.05, "freeze": "embeddings"}
    optim = {"learning_rate": 3e-4, "epochs": EPOCHS, "batch_size": 16}
    return load(
        flags={"task": "sequence-classification", "out": str(folder / "run"), **data, **model, **optim}
    )


# -- side by side ------------------------------------------------------------------------------------------------------


def compare(
    run: Path, weights: Path, texts: Sequence[str], console: Console
) -> tuple[Comparison, Comparison]:
    """Inference of the fine-tuned model and training of the pretrained one, each padded in three ways and packed."""
    import torch

    from .bench.compare import side_by_side, training_side_by_side
    from .bench.model import load
    from .report.progress import ProgressReporter
    from .runs.folder import RunFolder
    from .runs.train_config import TrainConfig
    from .runs.train_setup import open_run

    predictor = open_run(RunFolder(run, TrainConfig), torch.device("cpu"))
    encoded = predictor.tokenizer(list(texts), truncation=True, max_length=MAX_LENGTH)["input_ids"]
    sequences = [tuple(ids) for ids in encoded]
    reporter = ProgressReporter()
    with reporter.counting(4 * (1 + ROUNDS), name="side by side: inference"):
        inference = side_by_side(
            predictor.model, sequences, rounds=ROUNDS, width=MAX_LENGTH, told=reporter.turn
        )
    _show(inference, "inference", "outputs differ by", console)
    with reporter.counting(4 * (1 + ROUNDS), name="side by side: training"):
        training = training_side_by_side(
            load(str(weights), MAX_LENGTH).classifier,
            sequences[:NUM_TRAINED],
            rounds=ROUNDS,
            width=MAX_LENGTH,
            told=reporter.turn,
        )
    _show(training, "training (forward and backward)", "gradient's error", console)
    return inference, training


def _show(comparison: Comparison, title: str, what_differs: str, console: Console) -> None:
    table = comparison.table()
    title = f"{title} of {comparison.num_texts} utterances, {comparison.num_tokens:,} tokens"
    console.print(replace(table, title=title, columns=(*table.columns[:-1], what_differs)), "")


def _speeds(demo: Demo) -> dict[str, object]:
    return {
        "seconds": demo.seconds,
        "inference": demo.inference.as_dict(),
        "training": demo.training.as_dict(),
    }


def _last_words(demo: Demo, folder: Path) -> str:
    run = demo.trained.folder
    command = _command()
    return (
        f"The largest difference between outputs, packed and padded: {demo.inference.largest_difference:.0e}.\n"
        f"Done in {demo.seconds:.0f} s. Data, model, figures and curves are in {folder}.\n"
        f"""Ask the model: echo '{{"text": "who wrote hamlet"}}' | {command} predict {run}\n"""
        f"The same run with padding: {command} train --config {run / 'config.toml'} --batching padded "
        f"--out {folder}-padded"
    )


def _command() -> str:
    """What a shell here knows the command line by."""
    if shutil.which("yanma"):
        return "yanma"
    beside = Path(sys.executable).parent / "yanma"  # not resolved: in a virtual environment, python is a link
    if not beside.exists():
        return f"{sys.executable} -m yanma"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)
