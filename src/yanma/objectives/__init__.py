"""What a model learns: what is scored of each example, the sums of losses, predictions and a report.

objective.py   Objective, what the loop asks; TwoPhase, a loss over a whole step
batching.py    packed or padded: how examples meet a model
task.py        Task, an objective over rows: SequenceClassification, TokenClassification
language.py    objectives over text alone; electra.py: replaced tokens
several.py     several of them over one trunk
perplexity.py  how well a model of language does on held-back blocks
"""

from .batching import Batching, Packed, Padded
from .objective import Compute, Objective, Prepared, Terms, TwoPhase
from .sequence_classification import Classified, SequenceClassification
from .several import Of, Several
from .task import Prediction, Report, Score, Task
from .token_classification import Tagged, TokenClassification

TASKS: dict[str, type[Task]] = {
    TokenClassification.name: TokenClassification,
    SequenceClassification.name: SequenceClassification,
}
"""What `yanma train --task` knows."""

__all__ = [
    "TASKS",
    "Batching",
    "Classified",
    "Compute",
    "Objective",
    "Of",
    "Packed",
    "Padded",
    "Prediction",
    "Prepared",
    "Report",
    "Score",
    "SequenceClassification",
    "Several",
    "Tagged",
    "Task",
    "Terms",
    "TokenClassification",
    "TwoPhase",
]
