"""README.md of a saved tagger: how plain transformers reads its tags, and where it does not."""

from __future__ import annotations

from ..objectives import Task
from ..objectives.tags import is_bioes

CUT_BY_PIPELINE = (
    "transformers' pipeline knows B- and I- alone: it cuts entities of BIOES tags (B-PER I-PER E-PER gives two groups) "
    "and runs neighbours together (S-PER S-PER gives one)"
)


def card(task: Task) -> str | None:
    """What the folder of the task's model says of itself; None where there is nothing to mind."""
    if task.name != "token-classification":
        return None
    if is_bioes(task.labels):
        how = f"{CUT_BY_PIPELINE}.\n`yanma predict` reads these tags rightly. For the pipeline, train on BIO tags.\n"
    else:
        how = (
            'With transformers\' pipeline take `aggregation_strategy="first"`; the others ask tokens that were not '
            "trained.\n"
        )
    tags = "BIOES" if is_bioes(task.labels) else "BIO"
    trained = "The first token of a word has its tag; the others were not trained."
    return f"# Tags of words\n\nThe tags are {tags}. {trained}\n\n{how}"
