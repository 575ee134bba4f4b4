"""Texts through a DataLoader, each found again by its number."""

import hashlib

import torch

from corruption.packs import LENGTHS, texts, words_of
from yanma.corruption import Corrupted, MaskedDataset, PadMasked

SOME = [{"input_ids": text, "words": words_of(text)} for text in texts(LENGTHS * 2)]


class Tagged(MaskedDataset):
    """Says which text each is, so that it is found again in any order."""

    def __getitems__(self, indices):
        return [{**text, "number": n} for n, text in zip(indices, super().__getitems__(indices), strict=True)]


class PadTagged(PadMasked):
    def __call__(self, some):
        return {**super().__call__(some), "number": torch.tensor([text["number"] for text in some])}


def seen(loader) -> dict[int, Corrupted]:
    """Each text as it comes out of the loader, without its padding."""
    found = {}
    for batch in loader:
        for row, number in enumerate(batch["number"].tolist()):
            valid = batch["attention_mask"][row].bool()
            found[number] = Corrupted(batch["input_ids"][row][valid], batch["labels"][row][valid])
    return found


def digest(pair: Corrupted) -> str:
    return hashlib.sha256(repr([half.tolist() for half in pair]).encode()).hexdigest()
