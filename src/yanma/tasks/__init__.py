"""What a model learns: rows of data to examples of token ids, logits to loss, predictions and a report.

columns = TASKS[name].columns_named({"label": "intent"})   what the task reads
rows = task_rows("train.jsonl", columns)                   Row(fields, where="train.jsonl:12")
task = TASKS[name].from_rows(rows, columns)                class names from the data; TASKS[name](labels, columns)
task.encode(rows, tokenizer, max_length=512)               Encoded(examples, and what to tell the user)
packed(examples), flat_labels(examples)                    what the model and task.loss take
"""

from .collate import flat_labels, packed, padded
from .columns import Columns
from .examples import IGNORE, Encoded, Example
from .rows import Row, json_row, read_rows
from .sentences import task_rows
from .sequence_classification import Classified, SequenceClassification
from .task import Prediction, Report, Score, Task
from .token_classification import Tagged, TokenClassification

TASKS: dict[str, type[TokenClassification] | type[SequenceClassification]] = {
    TokenClassification.name: TokenClassification,
    SequenceClassification.name: SequenceClassification,
}

__all__ = [
    "IGNORE",
    "TASKS",
    "Classified",
    "Columns",
    "Encoded",
    "Example",
    "Prediction",
    "Report",
    "Row",
    "Score",
    "SequenceClassification",
    "Tagged",
    "Task",
    "TokenClassification",
    "flat_labels",
    "json_row",
    "packed",
    "padded",
    "read_rows",
    "task_rows",
]
