"""What a finished run predicts with: task, tokenizer, model and batching that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data import Encoded, Example, Row
from ..engine import Engine
from ..objectives import Batching, Prediction, Task


@dataclass(frozen=True)
class Predictor:
    """Rows in, predictions out."""

    task: Task
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    batching: Batching
    max_length: int
    """Tokens of the longest text; longer ones are cut."""
    bf16: bool = False

    @property
    def engine(self) -> Engine[Prediction]:
        """What computes."""
        return Engine(self.model, decode=self.task.decode, batching=self.batching, bf16=self.bf16)

    def encode(self, rows: Sequence[Row]) -> Encoded:
        """Rows as examples. Raises DataError for a row that cannot be used."""
        return self.task.encode(rows, self.tokenizer, max_length=self.max_length)

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """A prediction for each example, in their order."""
        return [answer.result() for answer in self.engine.run(examples)]
