"""For Hugging Face's Trainer and any DataLoader: a data set that is corrupted anew in each epoch, on any workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from .plan import IGNORE, Plan
from .rates import Decay
from .units import needs_words


class Encoded(Protocol):
    """Encoded texts by their number, such as a `datasets.Dataset` or a list: `input_ids`, and perhaps `words`."""

    def __len__(self) -> int:
        """Number of texts."""

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        """One of them."""


class MaskedDataset(Dataset[dict[str, Any]]):
    """Encoded texts, corrupted: `input_ids` and `labels` are a function of (seed, epoch, number of the text) alone.

    `set_epoch` says the epoch to all workers, also those that live on; Trainer and accelerate call it themselves. Other
    columns pass as they are, but `words` (which word each token is of, for plans that ask) ends here.

    >>> from yanma.corruption import Vocabulary
    >>> plan = Plan(Vocabulary(size=100, special_ids=(0, 1), mask_id=2))
    >>> dataset = MaskedDataset([{"input_ids": [0, 17, 18, 19, 1]}], plan, seed=0)
    >>> dataset.set_epoch(3)
    >>> dataset[0]["labels"].equal(plan([0, 17, 18, 19, 1], seed=0, epoch=3, example=0).labels)
    True
    """

    def __init__(self, texts: Encoded, plan: Plan, *, seed: int = 0, num_epochs: int | None = None) -> None:
        """`num_epochs` are those of the training, for a rate that decays: it is at its end in the last one."""
        if isinstance(plan.rate, Decay) and num_epochs is None:
            raise ValueError("the plan's rate decays over training: say num_epochs")
        self.texts, self.plan, self.seed, self.num_epochs = texts, plan, seed, num_epochs
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """From now on texts are as they are in this epoch, counted from 0."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One text."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Some texts at once, which is faster; DataLoader asks for a batch in this way."""
        numbers = [range(len(self))[index] for index in indices]  # -1 is the last text, with its own number
        texts = [self.texts[number] for number in numbers]
        lengths = [len(text["input_ids"]) for text in texts]
        corrupted = self.plan.flat(
            _end_to_end(texts, "input_ids"),
            lengths,
            seed=self.seed,
            epoch=(epoch := int(self._epoch)),
            examples=numbers,
            words=_end_to_end(texts, "words") if needs_words(self.plan.unit) else None,
            progress=None if self.num_epochs is None else min(1.0, epoch / max(1, self.num_epochs - 1)),
        )
        parts = zip(corrupted.input_ids.split(lengths), corrupted.labels.split(lengths), strict=True)
        return [
            {
                **{name: value for name, value in text.items() if name != "words"},
                "input_ids": ids,
                "labels": labels,
            }
            for text, (ids, labels) in zip(texts, parts, strict=True)
        ]


@dataclass(frozen=True)
class PadMasked:
    """Collates what a MaskedDataset gives into int64 rectangles (N, S): input_ids, attention_mask, labels, ...

    >>> ids, labels = torch.tensor([5, 6]), torch.tensor([-100, 7])
    >>> batch = PadMasked(0)([{"input_ids": ids, "labels": labels}, {"input_ids": ids[:1], "labels": labels[:1]}])
    >>> batch["input_ids"].tolist(), batch["labels"].tolist()
    ([[5, 6], [5, 0]], [[-100, 7], [-100, -100]])
    """

    pad_token_id: int
    side: Literal["left", "right"] = "right"

    def __call__(self, texts: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Raises ValueError where nothing is to be scored in any text: the mean loss over nothing is NaN."""
        if not any(bool((text["labels"] != IGNORE).any()) for text in texts):
            raise ValueError(
                f"none of these {len(texts)} texts has a token that may be hidden; leave such texts out"
            )
        batch = {
            "input_ids": self._padded([text["input_ids"] for text in texts], self.pad_token_id),
            "labels": self._padded([text["labels"] for text in texts], IGNORE),
            "attention_mask": self._padded([torch.ones_like(text["input_ids"]) for text in texts], 0),
        }
        if "token_type_ids" in texts[0]:
            batch["token_type_ids"] = self._padded(
                [torch.as_tensor(text["token_type_ids"]) for text in texts], 0
            )
        return batch

    def _padded(self, rows: list[Tensor], value: int) -> Tensor:
        return pad_sequence(rows, batch_first=True, padding_value=value, padding_side=self.side)


def _end_to_end(texts: Sequence[Mapping[str, Any]], column: str) -> Tensor:
    if any(column not in text for text in texts):
        raise ValueError(f"the texts have no column {column!r}, which the plan needs")
    return torch.cat([torch.zeros(0, dtype=torch.int64), *(_numbers(text[column]) for text in texts)])


def _numbers(column: Sequence[int | None] | Tensor) -> Tensor:
    if isinstance(column, Tensor):
        return column.long()
    return torch.tensor([-1 if number is None else number for number in column], dtype=torch.int64)
