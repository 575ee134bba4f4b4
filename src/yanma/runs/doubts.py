"""What looks odd in the data of a run, and is told: nothing here changes what is learned."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from ..data import Example
from ..objectives import Task
from ..objectives.labels import seen_once
from .setup import Note

_MOST = 5


def hardly_learned(task: Task, train: Sequence[Example], validation: Sequence[Example]) -> Iterator[str]:
    """A sentence on each of the first few classes with one example to learn from, or with none, and on their number."""
    once = seen_once((name, example.where) for example in train for name in sorted(task.classes(example)))
    taught = {name for example in train for name in task.classes(example)}
    asked = {name for example in validation for name in task.classes(example)}
    few = [f"{where}: the only example of class {name!r} to learn from" for name, where in once]
    few += [
        f"class {name!r} has no example to learn from, only to validate" for name in sorted(asked - taught)
    ]
    yield from few[:_MOST]
    if len(few) > _MOST:
        yield f"{len(few)} classes have one example to learn from, or none"


def alike(labels: Sequence[str]) -> Iterator[str]:
    """A sentence on classes whose names differ in spaces, case or the way that Unicode spells them alone.

    >>> list(alike(["joy", "joy ", "fear"]))
    ["warning: classes 'joy' and 'joy ' differ in spaces, case or Unicode form alone; they are learned as two"]
    """
    groups = defaultdict(list)
    for label in labels:
        groups[" ".join(unicodedata.normalize("NFKC", label).casefold().split())].append(label)
    for names in groups.values():
        if len(names) > 1:
            yield (
                f"warning: classes {names[0]!r} and {names[1]!r} differ in spaces, case or Unicode form alone; they "
                f"are learned as two"
            )


def seen_in(train: Sequence[Example], others: Sequence[Example]) -> int:
    """How many of the others have the tokens of an example that is learned from."""
    known = {_tokens(example) for example in train}
    return sum(_tokens(example) in known for example in others)


def said_once(note: Note) -> Callable[[str], None]:
    """Tells each sentence once, of a source that is read again and again."""
    said: set[str] = set()

    def tell(words: str) -> None:
        if words not in said:
            said.add(words)
            note(words)

    return tell


def _tokens(example: Example) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, tokens.input_ids)) for tokens in example.sequences)
