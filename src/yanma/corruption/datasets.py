"""For Hugging Face's Trainer and any DataLoader: a data set that is corrupted anew in each epoch, on any workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from .hardness import RunningLoss
from .plan import IGNORE, Plan
from .rates import Decay
from .shared import SharedLosses
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

    Told `set_progress` or `set_losses`, texts are a function of these, too: of what was told last when the text is
    drawn. DataLoader's workers draw up to prefetch_factor * num_workers batches ahead, so that a word in the midst of
    an epoch reaches the texts up to so many batches late, on one run sooner than on another. What is told between two
    epochs holds for each text of the next one, whatever the workers.

    >>> from yanma.corruption import Vocabulary
    >>> plan = Plan(Vocabulary(size=100, special_ids=(0, 1), mask_id=2))
    >>> dataset = MaskedDataset([{"input_ids": [0, 17, 18, 19, 1]}], plan, seed=0)
    >>> dataset.set_epoch(3)
    >>> dataset[0]["labels"].equal(plan([0, 17, 18, 19, 1], seed=0, epoch=3, example=0).labels)
    True
    """

    def __init__(
        self,
        texts: Encoded,
        plan: Plan,
        *,
        seed: int = 0,
        num_epochs: int | None = None,
        losses: RunningLoss | None = None,
    ) -> None:
        """`num_epochs` are those of the training, for a rate that decays: it is at its end in the last one.

        Without them such a rate follows `set_progress`. `losses` make hard tokens likelier; `set_losses` replaces them.
        """
        self.texts, self.plan, self.seed, self.num_epochs = texts, plan, seed, num_epochs
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._progress = torch.full((), torch.nan, dtype=torch.float64).share_memory_()  # NaN: not told
        self._losses = None if losses is None else SharedLosses(losses)

    def set_epoch(self, epoch: int) -> None:
        """From now on texts are as they are in this epoch, counted from 0."""
        self._epoch.fill_(epoch)

    def set_progress(self, progress: float) -> None:
        """From now on a rate that decays is as it is at this share of the training, 0 to 1.

        Raises ValueError where the plan's rate does not decay, or does so by num_epochs.
        """
        if not isinstance(self.plan.rate, Decay) or self.num_epochs is not None:
            why = "does not decay" if self.num_epochs is None else "follows the epochs; leave num_epochs out"
            raise ValueError(f"set_progress: the plan's rate {why}")
        self.plan.rate.at(progress)  # raises ValueError for what is no share, here and not in a worker
        self._progress.fill_(progress)

    def set_losses(self, losses: RunningLoss) -> None:
        """From now on these say which tokens are hard.

        Raises ValueError where no losses were given at the beginning: workers look for them only then.
        """
        if self._losses is None:
            raise ValueError("set_losses: begin with losses=RunningLoss.start(size of the vocabulary)")
        self._losses.tell(losses)

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
            epoch=int(self._epoch),
            examples=numbers,
            words=_end_to_end(texts, "words") if needs_words(self.plan.unit) else None,
            progress=self._done(),
            losses=None if self._losses is None else self._losses.last(),
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

    def _done(self) -> float | None:
        """The share of the training that is done; None where no rate asks for it."""
        if not isinstance(self.plan.rate, Decay):
            return None
        if self.num_epochs is not None:
            return min(1.0, int(self._epoch) / max(1, self.num_epochs - 1))
        if self._progress.isnan():
            raise ValueError(
                "the plan's rate decays over training: say num_epochs, or call set_progress first"
            )
        return float(self._progress)


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
