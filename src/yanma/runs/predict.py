"""Predictions for rows that arrive one by one: in order, a window at a time, answered as soon as the input pauses."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import torch

from ..data.examples import Example
from ..data.formats import SUFFIXES, format_of, no_format, read_file
from ..data.reading import Reading, Record, picked
from ..data.rows import Row
from ..data.sources import DataFile, StandardInput, files_of, nearest
from ..errors import ConfigError, DataError
from ..machine import bound_kernel_caches, keep_buffers
from .answers import Write, writer_of
from .folder import RunFolder
from .predictor import Predictor
from .train_config import PredictConfig, TrainConfig
from .train_setup import open_run

_PLAIN = Reading()
WINDOW = 1024
"""Lines that are answered together at most; as many are read ahead."""

_PAUSE_S = 0.02

Item = TypeVar("Item")
Fields = dict[str, Any]
Told = Callable[[str], None]
"""Takes a sentence: of a line that cannot be used, or of what was done to others."""


def windows(items: Iterable[Item], *, size: int = WINDOW, pause_s: float = _PAUSE_S) -> Iterator[list[Item]]:
    """Cut a stream into windows.

    A window ends when it holds `size` items, or when no further one comes for `pause_s`: whoever waits for an answer
    before writing the next line gets it. What reading raises is raised here, after the items before it.

    >>> list(windows(["a", "b", "c"], size=2))
    [['a', 'b'], ['c']]
    """
    waiting: queue.Queue[Item | _End] = queue.Queue(maxsize=size)
    threading.Thread(target=_read, args=(items, waiting), daemon=True).start()
    while True:
        window, end = _window(waiting, size, pause_s)
        if window:
            yield window
        if end is not None:
            if end.error is not None:
                raise end.error
            return


class _End:
    """The stream is over, or reading it failed."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def _read(items: Iterable[Item], waiting: queue.Queue[Item | _End]) -> None:
    error = None
    try:
        for item in items:
            waiting.put(item)
    except BaseException as reason:  # a thread's error is nobody's unless it is handed over
        error = reason
    waiting.put(_End(error))


def _window(waiting: queue.Queue[Item | _End], size: int, pause_s: float) -> tuple[list[Item], _End | None]:
    item = waiting.get()
    window = []
    while not isinstance(item, _End):
        window.append(item)
        if len(window) == size:
            return window, None
        try:
            item = waiting.get(timeout=pause_s)
        except queue.Empty:
            return window, None
    return window, item


def predict_run(
    folder: Path,
    file: str | None,
    out: Path | None,
    complain: Told,
    note: Told,
    how: PredictConfig | None = None,
) -> int:
    """Answer the rows of `file` (None: JSON lines of stdin) in `out` (None: stdout) by the best model of a run.

    `how` says how the file is read. `out` appears when all is answered; what was answered before an error or Ctrl-C is
    left in `out`.partial.
    Returns how many rows got no answer. Raises ConfigError where the folder is no run, DataError for a file that cannot
    be read.
    """
    keep_buffers()
    bound_kernel_caches()
    run, how = RunFolder(folder, TrainConfig), how or PredictConfig()
    run.finished_config()  # a folder that is none is told before anything else
    given, kind = _asked_file(file, how)
    if (
        file is not None
        and out is not None
        and out.exists()
        and given.path.exists()
        and out.samefile(given.path)
    ):
        raise ConfigError(f"`out` is the file that is read, {file}; name another")
    writer = writer_of(kind, out)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predictor = open_run(run, device, how.columns)
    inputs = predictor.task.columns.inputs
    records = read_file(given, inputs, replace(how.reading(note), format=kind, all_fields=True))
    with ExitStack() as files:
        target = sys.stdout.buffer if out is None else files.enter_context(_whole(out))
        return predict(predictor, records, writer(target), complain, note, source=str(given))


def _asked_file(file: str | None, how: PredictConfig) -> tuple[DataFile, str]:
    """The file that is read, and its format; one without a suffix, as a pipe has none, holds JSON lines."""
    if file is None:
        return StandardInput(), how.format or "jsonl"
    files = files_of(file, SUFFIXES)
    if files is None:
        raise DataError(f"{file}: no such file{nearest(Path(file))}")
    if len(files) > 1:
        raise DataError(f"{file}: {len(files)} files; they are predicted one at a time")
    kind = format_of(files[0], how.reading(lambda said: None)) or (None if files[0].suffix else "jsonl")
    if kind is None:
        raise DataError(f"{files[0]}: {no_format(files[0])}")
    return files[0], kind


def partial(out: Path) -> Path:
    """Where answers stand while they are not complete; a device or a pipe takes them as they come."""
    return out if out.exists() and not out.is_file() else out.with_name(f"{out.name}.partial")


@contextmanager
def _whole(out: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is complete."""
    unfinished = partial(out)
    try:
        with unfinished.open("wb") as file:
            yield file
        if unfinished != out:
            unfinished.replace(out)
    except OSError as error:
        error.filename = error.filename or str(unfinished)  # a full disk names no file
        raise


def predict(
    predictor: Predictor, records: Iterable[Record], write: Write, complain: Told, note: Told, *, source: str
) -> int:
    """Answer rows in their order: each with its own fields and `predicted_...` ones.

    A row that cannot be used gets no answer: `complain` is told why, with where it stands, and the next one is read.
    Returns how many rows that were. `note` hears, at the end, how many texts were cut because they are longer than the
    model's `max_length`, or that there was no row at all.
    """
    refused = cut = num_asked = 0
    for window in windows(records):
        asked = _asked(predictor, window)
        errors = [reason for _, reason in asked.rows if isinstance(reason, DataError)]
        usable = [(fields, example) for fields, example in asked.rows if isinstance(example, Example)]
        predictions = predictor.predict([example for _, example in usable])
        answers = []
        for (fields, example), prediction in zip(usable, predictions, strict=True):
            answer = {f"predicted_{name}": value for name, value in prediction.as_dict().items()}
            taken = [name for name in answer if name in fields]
            if taken:
                errors.append(_would_be_lost(taken, example.where))
            else:
                answers.append(fields | answer)
        write(answers)
        for error in errors:
            complain(str(error).replace("`", ""))
        refused += len(errors)
        num_asked += len(asked.rows)
        cut += asked.truncated
    if cut:
        texts, were = ("1 text is", "was") if cut == 1 else (f"{cut} texts are", "were")
        note(f"{source}: {texts} longer than {predictor.max_length} tokens and {were} cut")
    if not num_asked:
        note(f"{source}: no rows in it, so there are no answers")
    return refused


def _would_be_lost(names: Sequence[str], where: str) -> DataError:
    return DataError(
        f"{where}: it has a field {names[0]!r} already, and so has the answer; rename the row's own"
    )


@dataclass(frozen=True)
class _Asked:
    """What some lines ask."""

    rows: tuple[tuple[Fields, Example | DataError], ...]
    """One a line: its fields with its example, or with why it cannot be used."""
    truncated: int
    """Texts that were cut."""


def _asked(predictor: Predictor, records: Sequence[Record]) -> _Asked:
    """Of each row all its fields, and what the model reads of them or why it cannot."""
    inputs = predictor.task.columns.inputs
    try:
        rows = [_row(fields, where, inputs) for fields, where in records]
        encoded = predictor.encode(rows)
    except DataError as error:  # one of them cannot be used: find it by taking each alone
        if len(records) == 1:
            return _Asked((({}, error),), 0)
        each = [_asked(predictor, [record]) for record in records]
        return _Asked(tuple(row for one in each for row in one.rows), sum(one.truncated for one in each))
    all_fields = (cast(Fields, fields) for fields, _ in records)
    return _Asked(tuple(zip(all_fields, encoded.examples, strict=True)), encoded.truncated)


def _row(fields: Fields | DataError, where: str, inputs: Sequence[str]) -> Row:
    if isinstance(fields, DataError):
        raise fields
    return Row(picked(fields, inputs, where, _PLAIN), where)
