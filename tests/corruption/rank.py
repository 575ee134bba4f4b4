"""One of some processes that train together: what it sees of the texts, loaded in several ways, for test_datasets.py.

As a program, told by the environment which of them it is; rank 0 writes what all saw into the file that is named.
"""

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from corruption.loaders import SOME, PadTagged, Tagged, digest, seen
from yanma.corruption import Plan, Spans, Vocabulary

PLAN = Plan(Vocabulary(size=1000, special_ids=(0, 1, 2, 3), mask_id=4), Spans.geometric())
EPOCHS = 2


def by_sampler(batch_size: int, workers: int):
    """(name, epoch, its texts) under torch's DistributedSampler, from the beginning and resumed at every step."""
    dataset = Tagged(SOME, PLAN, seed=5)
    sampler = DistributedSampler(dataset, seed=1)
    loader = DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=PadTagged(0),
        persistent_workers=workers > 0,
    )  # fmt: skip
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        dataset.set_epoch(epoch)
        whole = seen(loader)
        yield f"sampler, batches of {batch_size}, {workers} workers", epoch, whole
        order = list(sampler)
        for place in range(batch_size, len(order), batch_size) if not workers else ():
            rest = seen(DataLoader(dataset, batch_size, sampler=order[place:], collate_fn=PadTagged(0)))
            yield f"sampler, batches of {batch_size}, resumed at {place}", epoch, rest


def by_accelerate(accelerator: Accelerator, batch_size: int, workers: int):
    """The same through a loader that accelerate prepared, which tells the data set the epoch itself."""
    dataset = Tagged(SOME, PLAN, seed=5)
    loader = accelerator.prepare(
        DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, collate_fn=PadTagged(0))
    )
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        yield f"accelerate, batches of {batch_size}, {workers} workers", epoch, seen(loader)
        for step in range(1, len(loader)) if not workers else ():
            rest = accelerator.skip_first_batches(loader, step)
            rest.set_epoch(epoch)
            yield f"accelerate, batches of {batch_size}, resumed at step {step}", epoch, seen(rest)


def main(out: Path) -> None:
    accelerator = Accelerator(cpu=True)
    found = []
    for batch_size, workers in ((1, 0), (4, 0), (4, 1), (3, 2), (3, 4)):
        ways = (*by_sampler(batch_size, workers), *by_accelerate(accelerator, batch_size, workers))
        found += [
            (way, epoch, {number: digest(pair) for number, pair in texts.items()})
            for way, epoch, texts in ways
        ]
    everyone = [None] * accelerator.num_processes
    torch.distributed.all_gather_object(everyone, found)
    if accelerator.is_main_process:
        out.write_text(json.dumps(everyone), encoding="utf-8")
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
