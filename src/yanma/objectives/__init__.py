"""What a model learns: what is scored of each example, the sums of losses, predictions and a report."""

from .sequence_classification import Classified, SequenceClassification
from .task import Prediction, Report, Score, Task
from .token_classification import Tagged, TokenClassification

TASKS: dict[str, type[TokenClassification] | type[SequenceClassification]] = {
    TokenClassification.name: TokenClassification,
    SequenceClassification.name: SequenceClassification,
}

__all__ = [
    "TASKS",
    "Classified",
    "Prediction",
    "Report",
    "Score",
    "SequenceClassification",
    "Tagged",
    "Task",
    "TokenClassification",
]
