"""README.md of a saved tagger: how plain transformers reads its tags, and where it does not."""

from __future__ import annotations

from itertools import groupby

from ..objectives import Task, TokenClassification
from ..objectives.tags import Scheme


def told(task: Task) -> str | None:
    """What is said of a task before it is learned; None where nothing is to be."""
    if not isinstance(task, TokenClassification):
        return None
    cut = _cut(task)
    return f"the tags are {task.scheme}" + (f", which yanma predict reads; {cut}" if cut else "")


def card(task: Task) -> str | None:
    """What the folder of the task's model says of itself; None where there is nothing to mind."""
    if not isinstance(task, TokenClassification):
        return None
    if cut := _cut(task):
        how = f"{cut}.\n`yanma predict` reads these tags rightly. For the pipeline, train on BIO tags with types.\n"
    else:
        how = (
            'With transformers\' pipeline take `aggregation_strategy="first"`; the others ask tokens that were not '
            "trained.\n"
        )
    if task.scheme is Scheme.CLASSES:
        how += "It makes one group of neighbours that have the same tag.\n"
    trained = "The first token of a word has its tag; the others were not trained."
    return f"# Tags of words\n\nThe tags are {task.scheme}. {trained}\n\n{how}"


def _cut(task: TokenClassification) -> str | None:
    """How transformers' pipeline misreads the tags of entities, in two examples; None where it does not."""
    scheme, kind = task.scheme, "-PER" if any("-" in tag for tag in task.labels) else ""
    if not scheme.marks_ends and (kind or "B" not in scheme.letters):
        return None
    long, single = (scheme.letters[:3], scheme.letters[3]) if scheme.marks_ends else ("BII", "B")
    tags = [letter + kind for letter in long]
    groups = len(list(groupby(tags, lambda tag: tag.removeprefix("B-").removeprefix("I-"))))
    return (
        f"transformers' pipeline knows B- and I- alone: it cuts entities of {scheme} tags ({' '.join(tags)} gives "
        f"{'three' if groups == 3 else 'two'} groups) and runs neighbours together ({single}{kind} {single}{kind} "
        f"gives one)"
    )
