"""Predictions for rows that arrive one by one: in order, a window at a time, answered as soon as the input pauses."""

from __future__ import annotations

import gzip
import json
import queue
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from ..data.examples import Example
from ..data.formats import format_of, read_jsonl
from ..data.rows import json_row
from ..errors import ConfigError, DataError
from ..machine import bound_kernel_caches, keep_buffers
from .folder import RunFolder
from .predictor import Predictor
from .train_config import TrainConfig
from .train_setup import open_run

WINDOW = 1024
"""Lines that are answered together at most; as many are read ahead."""

_PAUSE_S = 0.02

Line = tuple[int, bytes]
"""Its number, from 1, and its text."""
Fields = dict[str, Any]
Told = Callable[[str], None]
"""Takes a sentence: of a line that cannot be used, or of what was done to others."""


def windows(lines: Iterable[bytes], *, size: int = WINDOW, pause_s: float = _PAUSE_S) -> Iterator[list[Line]]:
    """Cut a stream of lines into windows.

    A window ends when it holds `size` lines, or when no further line comes for `pause_s`: whoever waits for an answer
    before writing the next line gets it. What reading raises is raised here, after the lines before it.

    >>> list(windows([b"a", b"b", b"c"], size=2))
    [[(1, b'a'), (2, b'b')], [(3, b'c')]]
    """
    waiting: queue.Queue[Line | _End] = queue.Queue(maxsize=size)
    threading.Thread(target=_read, args=(lines, waiting), daemon=True).start()
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


def _read(lines: Iterable[bytes], waiting: queue.Queue[Line | _End]) -> None:
    error = None
    try:
        for line in enumerate(lines, start=1):
            waiting.put(line)
    except BaseException as reason:  # a thread's error is nobody's unless it is handed over
        error = reason
    waiting.put(_End(error))


def _window(waiting: queue.Queue[Line | _End], size: int, pause_s: float) -> tuple[list[Line], _End | None]:
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


def predict_run(folder: Path, file: Path | None, out: Path | None, complain: Told, note: Told) -> int:
    """Answer the lines of `file` (None: stdin) in `out` (None: stdout) by the best model of a run.

    `out` appears when all is answered; what was answered before an error or Ctrl-C is left in `out`.partial.
    Returns how many lines got no answer. Raises ConfigError where the folder is no run, or the file no JSON lines.
    """
    keep_buffers()
    bound_kernel_caches()
    if file is not None and format_of(file) not in (None, read_jsonl):
        raise ConfigError(
            f"{file}: predict reads JSON lines, one object a line; this is named as another format"
        )
    if file is not None and out is not None and out.exists() and out.samefile(file):
        raise ConfigError(f"--out is the file that is read, {file}; name another")
    predictor = open_run(
        RunFolder(folder, TrainConfig), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )
    with ExitStack() as files:
        source = _opened(file) if file is None else files.enter_context(_opened(file))
        target = sys.stdout.buffer if out is None else files.enter_context(_whole(out))
        try:
            return predict(predictor, source, target, complain, note, source=str(file or "stdin"))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{file}: broken as a .gz file: {error}") from None


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
    predictor: Predictor, lines: Iterable[bytes], out: BinaryIO, complain: Told, note: Told, *, source: str
) -> int:
    """Answer JSON objects, one a line, in their order: each with its own fields and `predicted_...` ones.

    A line that cannot be used gets no answer: `complain` is told why, with `source:line`, and the next one is read.
    Returns how many lines that were. Empty lines are passed over. `note` hears, at the end, how many texts were cut
    because they are longer than the model's `max_length`, or that there was no line at all.
    """
    refused = cut = num_asked = 0
    for window in windows(lines):
        asked = _asked(predictor, [(f"{source}:{number}", line) for number, line in window if line.strip()])
        errors = [reason for _, reason in asked.rows if isinstance(reason, DataError)]
        usable = [(fields, example) for fields, example in asked.rows if isinstance(example, Example)]
        predictions = predictor.predict([example for _, example in usable])
        for (fields, example), prediction in zip(usable, predictions, strict=True):
            answer = {f"predicted_{name}": value for name, value in prediction.as_dict().items()}
            taken = [name for name in answer if name in fields]
            if taken:
                errors.append(_would_be_lost(taken, example.where))
            else:
                out.write(_json(fields | answer))
        out.flush()
        for error in errors:
            complain(str(error))
        refused += len(errors)
        num_asked += len(asked.rows)
        cut += asked.truncated
    if cut:
        texts, were = ("1 text is", "was") if cut == 1 else (f"{cut} texts are", "were")
        note(f"{source}: {texts} longer than {predictor.max_length} tokens and {were} cut")
    if not num_asked:
        note(f"{source}: no lines in it, so there are no answers")
    return refused


def _would_be_lost(names: Sequence[str], where: str) -> DataError:
    return DataError(
        f"{where}: it has a field {names[0]!r} already, and so has the answer; rename the row's own"
    )


def _opened(file: Path | None) -> BinaryIO:
    if file is None:
        # Not sys.stdin: its lock, held by the thread that waits for a line, would crash an interpreter that exits.
        return open(0, "rb", closefd=False)
    return cast(BinaryIO, gzip.open(file)) if file.name.lower().endswith(".gz") else file.open("rb")


@dataclass(frozen=True)
class _Asked:
    """What some lines ask."""

    rows: tuple[tuple[Fields, Example | DataError], ...]
    """One a line: its fields with its example, or with why it cannot be used."""
    truncated: int
    """Texts that were cut."""


def _asked(predictor: Predictor, lines: Sequence[tuple[str, bytes]]) -> _Asked:
    """Of each (place, line) all its fields, and what the model reads of them or why it cannot."""
    try:
        fields, rows = [], []
        for where, line in lines:
            text = _decoded(line, where)
            rows.append(json_row(text, where, predictor.task.columns.inputs))
            fields.append(json.loads(text))
        encoded = predictor.encode(rows)
        return _Asked(tuple(zip(fields, encoded.examples, strict=True)), encoded.truncated)
    except DataError as error:  # one of them cannot be used: find it by taking each alone
        if len(lines) == 1:
            return _Asked((({}, error),), 0)
        each = [_asked(predictor, [line]) for line in lines]
        return _Asked(tuple(row for one in each for row in one.rows), sum(one.truncated for one in each))


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8: {error.reason} at byte {error.start}") from None


def _json(fields: Fields) -> bytes:
    try:
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a field holds half a surrogate pair, which JSON can spell and UTF-8 cannot
        return json.dumps(fields).encode() + b"\n"
