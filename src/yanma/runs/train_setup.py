"""From a config, or a run's folder, to what can be computed: rows are read, a model is loaded or made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.columns import Columns
from ..data.examples import Example
from ..data.hold_out import hold_out
from ..data.rows import Row
from ..data.sentences import task_rows
from ..errors import ConfigError
from ..loading import pretrained, scratch
from ..loading.freeze import freeze
from ..loading.special_tokens import add_special_tokens, left_out
from ..loading.tokenizer import learn_tokenizer
from ..masks import parse
from ..objectives import TASKS, Task
from ..objectives.labels import seen_once
from ..objectives.tags import is_bioes
from .card import CUT_BY_PIPELINE
from .folder import RunFolder
from .masking import Dynamic, Masking, Static
from .ready import Data, Ready
from .train_config import Config

Note = Callable[[str], None]
"""Takes a line that the user should read."""

_MOST_WARNINGS = 5


def set_up(config: Config, device: torch.device, note: Note) -> tuple[Ready, Data]:
    """Read the data, load or make the model.

    Raises ConfigError, DataError or Unsupported for whatever keeps the run from starting.
    """
    if config.model.path is not None:
        if pretrained.is_elsewhere(config.model.path):
            note(f"{config.model.path}: no such folder here; the hub is asked for it")
        pretrained.check_place(config.model.path)
    rows = task_rows(config.data.train, _columns(config))
    task = TASKS[config.task.name].from_rows(rows, _columns(config))
    if task.name == "token-classification" and is_bioes(task.labels):
        note(f"the tags are BIOES, which yanma predict reads; {CUT_BY_PIPELINE}")
    tokenizer = _tokenizer(config, task, rows)
    if config.model.add_special_tokens:
        add_special_tokens(tokenizer)
    torch.manual_seed(config.seed)  # fresh weights
    loaded = _load(config, task, tokenizer)
    task = TASKS[task.name](loaded.labels, task.columns)  # in the order of the model's outputs
    for said in loaded.notes:
        note(said)
    name = config.model.path or config.model.from_scratch
    note(f"{name}: weights that start at random, and are learned: {_some(loaded.fresh)}")
    pretrained.check_vocabulary(loaded.model, tokenizer)
    if said_of_ends := left_out(tokenizer, loaded.model):
        note(f"warning: {said_of_ends}")
    config = _with_max_length(config, pretrained.longest_text(loaded.model, tokenizer))
    frozen = freeze(loaded.model, config.model.freeze)
    if frozen:
        note(f"frozen: {', '.join(frozen)}")
    ready = _ready(config, task, tokenizer, _on(device, loaded.model))
    dtype = torch.bfloat16 if config.optim.bf16 else ready.model.dtype
    note(f"masking: {ready.masking.describe(dtype, device)}")
    return ready, _data(ready, rows, note)


def open_run(folder: RunFolder, device: torch.device) -> Ready:
    """The best model of a run. Raises ConfigError where the folder is no run, or has no model yet."""
    config, name = folder.finished_config(), str(folder.model)
    labels = pretrained.labels(name)
    task = TASKS[config.task.name](labels, _columns(config))
    loaded = pretrained.load_finished(name, task.name)
    if loaded.fresh:
        raise ConfigError(f"{name}: weights are missing: {_some(loaded.fresh)}")
    return _ready(config, task, pretrained.load_tokenizer(name), _on(device, loaded.model))


def read_examples(ready: Ready, source: str, note: Note) -> tuple[Example, ...]:
    """The rows of a source with their truth, as examples; `note` is told what was done to them."""
    return _encoded(ready, task_rows(source, ready.task.columns), source, note)


def _columns(config: Config) -> Columns:
    try:
        return TASKS[config.task.name].columns_named(config.task.columns)
    except ConfigError as error:
        raise ConfigError(f"[task] columns (--columns): {error}") from None


def _tokenizer(config: Config, task: Task, rows: Sequence[Row]) -> PreTrainedTokenizerBase:
    given = config.model.path or config.model.tokenizer
    if given is not None:
        return pretrained.load_tokenizer(given)
    words = (row.words(column) for row in rows for column in task.columns.inputs)
    texts = [" ".join(some) for some in words]
    return learn_tokenizer(lambda: iter(texts))


def _load(config: Config, task: Task, tokenizer: PreTrainedTokenizerBase) -> pretrained.Loaded:
    wish = config.model
    if wish.path is not None:
        return pretrained.load_model(wish.path, task.name, task.labels, dropout=wish.dropout)
    fresh = scratch.config(cast(str, wish.from_scratch), len(tokenizer), cast(int, tokenizer.pad_token_id))
    return pretrained.fresh_model(fresh, task.name, task.labels, dropout=wish.dropout)


def _with_max_length(config: Config, limit: int | None) -> Config:
    """`max_length` as the config says, else what the model allows (`limit`; None where it does not say)."""
    max_length, budget = config.model.max_length or limit, config.optim.max_batch_tokens
    if max_length is None:
        raise ConfigError("[model] max_length (--max-length): this model sets no limit; say one")
    if limit is not None and max_length > limit:
        raise ConfigError(
            f"[model] max_length (--max-length): the model reads at most {limit} tokens; got {max_length}"
        )
    if max_length > budget:
        raise ConfigError(
            f"[optim] max_batch_tokens (--max-batch-tokens): {budget} is less than one text of {max_length} tokens "
            f"([model] max_length, --max-length)"
        )
    return config.model_copy(update={"model": config.model.model_copy(update={"max_length": max_length})})


def _ready(config: Config, task: Task, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Ready:
    if model.config.pad_token_id is None:
        # By which plain transformers finds where a row ends.
        model.config.pad_token_id = tokenizer.pad_token_id
    masking: Masking
    if config.masking == "dynamic":
        mask = None if config.model.mask is None else parse(config.model.mask)
        masking = Dynamic(config.optim.max_batch_tokens, mask)
    else:
        masking = Static(
            config.optim.max_batch_tokens,
            cast(int, config.model.max_length),
            _pad_token(tokenizer, model, task),
            per_token=task.name == "token-classification",
        )
    return Ready(config, task, tokenizer, masking.prepare(model), masking)


def _pad_token(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, task: Task) -> int:
    """The id that rows are padded with. Raises ConfigError where there is none, or the model takes it for a word."""
    own, padding = model.config.pad_token_id, cast(int | None, tokenizer.pad_token_id)
    if padding is None:
        raise ConfigError(
            "masking (--masking): static needs a padding token, and this tokenizer has none; dynamic needs none, or "
            "give it one, in a copy of the model: tokenizer.pad_token = tokenizer.eos_token is usual"
        )
    # Decoders that score a text look for the last token of its row that is no padding.
    if own != padding and task.name == "sequence-classification" and hasattr(model, "score"):
        raise ConfigError(
            f"masking (--masking): static: the tokenizer pads with id {padding}, and the model's config has "
            f"pad_token_id {own}, by which it finds where a text ends; make them one, or take dynamic"
        )
    return padding


def _data(ready: Ready, rows: Sequence[Row], note: Note) -> Data:
    named = ready.config.data
    train = _encoded(ready, rows, named.train, note)
    if isinstance(named.validation, str):
        validation = read_examples(ready, named.validation, note)
    else:
        kept, held = hold_out(train, named.validation, seed=ready.config.seed)
        train, validation = tuple(kept), tuple(held)
        note(
            f"{named.train}: {len(validation)} of its {len(rows)} rows, drawn by the seed, are kept for validation"
        )
    for said in _hardly_learned(ready.task, train, validation):
        note(said)
    test = () if named.test is None else read_examples(ready, named.test, note)
    return Data(train, validation, test)


def _encoded(ready: Ready, rows: Sequence[Row], name: str, note: Note) -> tuple[Example, ...]:
    encoded = ready.task.encode(rows, ready.tokenizer, max_length=cast(int, ready.config.model.max_length))
    for said in encoded.notes:
        note(f"{name}: {said}")
    return encoded.examples


def _hardly_learned(task: Task, train: Sequence[Example], validation: Sequence[Example]) -> Iterator[str]:
    """A sentence on each of the first few classes with one example to learn from, or with none, and on their number."""
    once = seen_once((name, example.where) for example in train for name in sorted(task.classes(example)))
    taught = {name for example in train for name in task.classes(example)}
    asked = {name for example in validation for name in task.classes(example)}
    few = [f"{where}: the only example of class {name!r} to learn from" for name, where in once]
    few += [
        f"class {name!r} has no example to learn from, only to validate" for name in sorted(asked - taught)
    ]
    yield from few[:_MOST_WARNINGS]
    if len(few) > _MOST_WARNINGS:
        yield f"{len(few)} classes have one example to learn from, or none"


def _on(device: torch.device, model: PreTrainedModel) -> PreTrainedModel:
    return model.to(device)  # type: ignore[arg-type, no-any-return]  # transformers types its own `to` wrongly


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4]) or "none"
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
