"""From a config of `yanma train` to what can be computed: rows are read, a model is loaded or made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data import Columns, Example, Row, stream_task_rows, task_rows
from ..data.hold_out import hold_out
from ..data.order import Shuffled, StepSize, Streamed
from ..data.reading import Reading
from ..data.unusable import Unusable
from ..errors import ConfigError
from ..loading import pretrained
from ..loading.freeze import freeze
from ..loading.shapes import SHAPES
from ..loading.special_tokens import left_out
from ..loading.tokenizer import learn_tokenizer
from ..masks import parse
from ..objectives import TASKS, Task
from ..seeded import seeded
from .card import card, told
from .doubts import alike, hardly_learned, said_once, seen_in
from .evaluate import Evaluation, evaluate
from .folder import RunFolder
from .predictor import Predictor
from .setup import Note, Setup, batching_of, check_model, some, tokenizer_of, with_length
from .train_config import CheckedConfig, TrainConfig

_COMPARED = 64
"""Examples of a stream that a run which goes on must find again."""
_AT_ONCE = 1024
"""Rows of a stream that are encoded together."""


@dataclass(frozen=True)
class Stream:
    """The rows of a source, read anew each time they are gone over."""

    source: str
    files: Sequence[str]
    columns: Columns
    reading: Reading

    def __iter__(self) -> Iterator[Row]:
        return stream_task_rows(self.files, self.columns, self.reading)


Rows = Sequence[Row] | Stream


@dataclass
class StreamedExamples:
    """The examples of a stream, encoded some rows at a time."""

    predictor: Predictor
    rows: Stream
    note: Note
    is_told: bool = False
    """Whether it was said that rows were cut, or the like."""

    def read(self) -> Iterator[Example]:
        """From its first row on."""
        predictor, first, stream = self.predictor, 0, iter(self.rows)
        while some_rows := list(islice(stream, _AT_ONCE)):
            found = predictor.task.encode(
                some_rows, predictor.tokenizer, max_length=predictor.max_length, first=first
            )
            if found.notes and not self.is_told:
                self.is_told = True
                for said in found.notes:
                    self.note(f"{self.rows.source}, rows {first + 1} to {first + len(some_rows)}: {said}")
            yield from found.examples
            first += len(some_rows)


@dataclass(frozen=True)
class TaskJudge:
    """Measures by the task's report."""

    predictor: Predictor
    validation: Sequence[Example]
    test: Sequence[Example]
    """Empty where the config names none."""

    def validate(self, accelerator: Accelerator) -> Evaluation:
        """See Judge."""
        return evaluate(self.predictor, self.validation, accelerator)

    def finish(self, model: Path, accelerator: Accelerator, note: Note) -> dict[str, Any]:
        """The best model's report on the test rows."""
        if not self.test:
            return {"test": None}
        folder = RunFolder(model.parent, TrainConfig)
        best = open_run(folder, accelerator.device)
        return {"test": evaluate(best, self.test, accelerator).as_dict()}


def set_up(
    config: TrainConfig,
    device: torch.device,
    note: Note,
    begun: Path | None = None,
) -> Setup:
    """Read the data, load or make the model; `begun` is the tokenizer's folder of a run that goes on.

    Raises ConfigError, DataError or Unsupported for whatever keeps the run from starting.
    """
    if config.masking is not None:
        note(
            f"masking (--masking) is now called batching: --batching {config.batching}; "
            f"the old name goes with the next version"
        )
    kind = TASKS[config.task.name]
    check_model(config, note)
    columns = columns_of(config, kind)
    names = _label_names(config, kind)
    rows = _train_rows(config, kind, columns, note)
    task = kind.from_rows(rows, columns, **names)
    if not isinstance(rows, Stream):
        rows = _settled(task, rows, _named(config.data.train), config.data, note)
    if said_of_tags := told(task):
        note(said_of_tags)
    inputs = task.columns.inputs
    tokenizer = tokenizer_of(
        config,
        begun,
        lambda: learn_tokenizer(lambda: (" ".join(row.words(column)) for row in rows for column in inputs)),
    )
    with seeded(config.seed):  # of fresh weights
        loaded = _load(config, task, tokenizer)
    task = replace(task, labels=loaded.labels or task.labels)  # in the order of the model's outputs
    for said in loaded.notes:
        note(said)
    name = config.model.path or config.model.from_scratch
    note(f"{name}: weights that start at random, and are learned: {some(loaded.fresh)}")
    pretrained.check_vocabulary(loaded.model, tokenizer)
    if said_of_ends := left_out(tokenizer, loaded.model):
        note(f"warning: {said_of_ends}")
    limit = pretrained.longest_text(loaded.model, tokenizer)
    config = with_length(config, config.model.max_length or _most(config, loaded.model, limit), limit)
    if frozen := freeze(loaded.model, config.model.freeze):
        note(f"frozen: {', '.join(frozen)}")
    predictor = _predictor(config, task, tokenizer, loaded.model.to(device))  # type: ignore[arg-type]
    dtype = torch.bfloat16 if config.optim.bf16 else predictor.model.dtype
    note(f"batching: {predictor.batching.describe(dtype, device)}")
    return _with_data(config, predictor, rows, note)


def open_run(
    folder: RunFolder[TrainConfig], device: torch.device, columns: Mapping[str, str] | None = None
) -> Predictor:
    """The best model of a run; `columns` are names of columns where they differ from those of its training data.

    Raises ConfigError where the folder is no run, or has no model yet, and for columns that it does not read.
    """
    config, name = folder.finished_config(), str(folder.model)
    kind = TASKS[config.task.name]
    labels = pretrained.labels(name) if kind.has_classes else ()
    task = kind(labels, columns_of(config, kind, columns), **_label_names(config, kind))
    loaded = pretrained.load_finished(name, task.head)
    if loaded.fresh:
        raise ConfigError(f"{name}: weights are missing: {some(loaded.fresh)}")
    return _predictor(config, task, pretrained.load_tokenizer(name), loaded.model.to(device))  # type: ignore[arg-type]


def read_examples(
    predictor: Predictor, source: str | Sequence[str], note: Note, how: CheckedConfig | None = None
) -> tuple[Example, ...]:
    """The rows of a source with their truth, as examples; `note` is told what was done to them."""
    task, how = predictor.task, how or CheckedConfig()
    rows = _read(source, type(task), task.columns, how, note)
    return _encoded(predictor, _settled(task, rows, _named(source), how, note), _named(source), note)


def _train_rows(config: TrainConfig, kind: type[Task], columns: Columns, note: Note) -> Rows:
    data = config.data
    if not data.streaming:
        return _read(data.train, kind, columns, data, note)
    if data.on_bad_row != "refuse":
        raise ConfigError(
            f"`on_bad_row` is {data.on_bad_row!r}; rows of a stream are not counted: refuse them"
        )
    return Stream(_named(data.train), data.train, columns, data.reading(said_once(note)))


def _read(
    source: str | Sequence[str], kind: type[Task], columns: Columns, how: CheckedConfig, note: Note
) -> list[Row]:
    """All rows of a source that can be used."""
    if how.on_bad_row == "repair" and kind.repair is Task.repair:
        raise ConfigError(f"`on_bad_row` is 'repair', but {kind.name} has no rows that could be repaired")
    if how.on_bad_row != "refuse" and columns.sentence is not None:
        raise ConfigError(
            f"`on_bad_row` is {how.on_bad_row!r}, but a row is a word here (`columns` sentence={columns.sentence}), "
            f"and its sentence would be learned without it"
        )
    check = partial(kind.check_row, columns=columns)
    return task_rows(source, columns, how.reading(note), Unusable(how.on_bad_row), check)


def _settled(task: Task, rows: Sequence[Row], name: str, how: CheckedConfig, note: Note) -> list[Row]:
    """Rows whose truth is one that the task knows: others are refused, left out or repaired."""
    if how.on_bad_row == "repair":
        repaired = [task.repair(row) for row in rows]
        changed = [new.where for new, old in zip(repaired, rows, strict=True) if new is not old]
        if changed:
            note(
                f"{name}: tags that break their scheme are repaired in {len(changed)} of {len(rows)} rows; the first: "
                f"{changed[0]}"
            )
        return repaired
    bad = Unusable(how.on_bad_row)
    kept = list(bad.checked(rows, task.check_truth))
    if said := bad.told(len(rows)):
        note(f"{name}: {said}")
    return kept


def _label_names(config: TrainConfig, kind: type[Task]) -> dict[str, Any]:
    """What classes are called that stand in the rows as numbers, as the task takes it."""
    names = config.task.label_names
    if names and "label_names" not in {field.name for field in fields(kind)}:
        raise ConfigError(f"`label_names` is given, but {kind.name} has no classes that it could name")
    return {"label_names": names} if names else {}


def _named(source: str | Sequence[str]) -> str:
    return source if isinstance(source, str) else ", ".join(source)


def columns_of(config: TrainConfig, kind: type[Task], other: Mapping[str, str] | None = None) -> Columns:
    """The columns that the task reads, of a run's data or of other data whose names differ.

    Raises ConfigError for names that it has not.
    """
    trained = config.task.columns
    try:
        found = kind.columns_named({**trained, **(other or {})})
    except ConfigError as error:
        raise ConfigError(f"`columns`: {error}") from None
    if other and len(found.inputs) != len(kind.columns_named(trained).inputs):
        raise ConfigError("`columns`: this run reads one text of a row, not a pair; leave text_pair out")
    return found


def _load(config: TrainConfig, task: Task, tokenizer: PreTrainedTokenizerBase) -> pretrained.Loaded:
    named = config.model
    if named.path is not None:
        return pretrained.load_model(named.path, task.head, task.labels, dropout=named.dropout)
    fresh = SHAPES[cast(str, named.from_scratch)].config(tokenizer, named.max_length or 0)
    return pretrained.fresh_model(fresh, task.head, task.labels, dropout=named.dropout)


def _most(config: TrainConfig, model: PreTrainedModel, limit: int | None) -> int:
    """The most tokens that the model can read or was made for, and that are computed at once."""
    budget = config.optim.max_batch_tokens
    # Angles and distances end nowhere; the model was trained up to a length all the same.
    made_for = getattr(model.config, "max_position_embeddings", None)
    return min(limit or budget, made_for or budget, budget)


def _predictor(
    config: TrainConfig, task: Task, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> Predictor:
    if model.config.pad_token_id is None:
        # By which plain transformers finds where a row ends.
        model.config.pad_token_id = tokenizer.pad_token_id
    mask = None if config.model.mask is None else parse(config.model.mask)
    batching = batching_of(
        config, tokenizer, model, asks_end=task.head == "SequenceClassification", mask=mask
    )
    max_length = cast(int, config.model.max_length)
    return Predictor(task, tokenizer, batching.prepare(model), batching, max_length, config.optim.bf16)


def _with_data(config: TrainConfig, predictor: Predictor, rows: Rows, note: Note) -> Setup:
    """Examples, and in which order they are learned from."""
    named, optim, task = config.data, config.optim, predictor.task
    size = StepSize(optim.batch_size, optim.batch_tokens)
    sizes: dict[str, Any] = {}
    order: Shuffled | Streamed
    if isinstance(rows, Stream):
        validation = read_examples(predictor, cast(str, named.validation), note, named)
        order = Streamed(StreamedExamples(predictor, rows, note).read, config.seed, size)
        first = list(islice(order.items(), _COMPARED))
    else:
        train: Sequence[Example] = _encoded(predictor, rows, _named(named.train), note)
        if isinstance(named.validation, str):
            validation = read_examples(predictor, named.validation, note, named)
        else:
            train, held = hold_out(train, named.validation, seed=config.seed)
            validation = tuple(held)
            note(
                f"{_named(named.train)}: {len(validation)} of its {len(rows)} rows, drawn by the seed, are kept for "
                f"validation"
            )
        for said in (*alike(task.labels), *hardly_learned(task, train, validation)):
            note(said)
        sizes["train"] = _size(train)
        order = Shuffled(train, [example.num_tokens for example in train], config.seed, size)
        first = list(train)
    test = read_examples(predictor, named.test, note, named) if named.test else ()
    for name, others in (("validation", validation), ("test", test)):
        if not isinstance(rows, Stream) and (twice := seen_in(first, others)):
            note(f"warning: {twice} of {len(others)} examples of {name} stand in train too, token by token")
    sizes |= {"validation": _size(validation), "test": _size(test)}
    num_steps = optim.steps or cast(Shuffled, order).count(cast(int, optim.epochs))
    return Setup(
        config,
        task,
        predictor.batching,
        predictor.tokenizer,
        predictor.model,
        predictor.model,
        order,
        num_steps,
        TaskJudge(predictor, validation, test),
        {"task": task.name, "labels": list(task.labels), "data": sizes},
        {"train": _fingerprint(first, task), "validation": _fingerprint(validation, task)},
        card=card(task),
    )


def _encoded(predictor: Predictor, rows: Sequence[Row], name: str, note: Note) -> tuple[Example, ...]:
    predictor.task.check(rows)
    encoded = predictor.task.encode(rows, predictor.tokenizer, max_length=predictor.max_length)
    for said in encoded.notes:
        note(f"{name}: {said}")
    return encoded.examples


def _size(examples: Sequence[Example]) -> dict[str, int]:
    lengths = [example.num_tokens for example in examples]
    return {"examples": len(lengths), "tokens": sum(lengths), "longest": max(lengths, default=0)}


def _fingerprint(examples: Sequence[Example], task: Task) -> str:
    """Of all that is learned from: keys, tokens, targets and what they mean."""
    found = blake2b(repr(task.labels).encode(), digest_size=16)
    for example in examples:
        ids = chain.from_iterable(own.input_ids for own in example.sequences)
        found.update(f"{example.key}:{list(ids)}:{example.targets};".encode())
    return found.hexdigest()
