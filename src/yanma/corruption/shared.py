"""Losses that the training process tells and the workers of a DataLoader read, forked or spawned: in shared memory."""

from __future__ import annotations

import torch

from .hardness import RunningLoss


class SharedLosses:
    """The last RunningLoss that was told, for any process that was handed this object.

    Two places take turns, so that readers get one RunningLoss, never parts of two: the place that is read is written
    again only after the next telling is done, and a reader that sees this happen reads again.

    >>> shared = SharedLosses(RunningLoss.start(4))
    >>> shared.tell(RunningLoss.start(4).updated(torch.tensor([2]), torch.tensor([6.0])))
    >>> shared.last().values.tolist()
    [0.0, 0.0, 6.0, 0.0]
    """

    def __init__(self, first: RunningLoss) -> None:
        """Say the losses that hold until others are told."""
        self._decay = first.decay
        self._values = torch.stack([first.values] * 2).share_memory_()
        self._seen = torch.stack([first.seen] * 2).share_memory_()
        self._told = torch.zeros((), dtype=torch.int64).share_memory_()

    def tell(self, losses: RunningLoss) -> None:
        """From now on these are read. One process may tell.

        Raises ValueError for a vocabulary of another size.
        """
        if losses.values.shape != self._values[0].shape:
            raise ValueError(
                f"losses are of {len(losses.values)} tokens; those at the beginning were of {self._values.shape[1]}"
            )
        told = int(self._told) + 1
        self._values[told % 2], self._seen[told % 2] = losses.values, losses.seen
        self._told.fill_(told)

    def last(self) -> RunningLoss:
        """A copy of what was told last."""
        while True:
            told = int(self._told)
            losses = RunningLoss(self._values[told % 2].clone(), self._seen[told % 2].clone(), self._decay)
            if told == int(self._told):
                return losses
