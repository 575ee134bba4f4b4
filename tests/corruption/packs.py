"""Texts of odd lengths between special tokens, and what a corruption makes of each."""

import torch

from yanma.corruption import Corrupted

LENGTHS = (1, 2, 3, 127, 128, 129, 40, 7, 2000)
BEGIN, END = 2, 3


def texts(lengths=LENGTHS) -> list[list[int]]:
    """Ordinary tokens between BEGIN and END; `lengths` are without those two."""
    return [[BEGIN, *((i * 7 + n * 13) % 900 + 50 for i in range(n)), END] for n in lengths]


def words_of(text: list[int]) -> list[int]:
    """Words of one to three tokens; -1 for the special tokens."""
    numbers, word, left = [], -1, 0
    for place, token in enumerate(text):
        if token in (BEGIN, END):
            numbers.append(-1)
            continue
        if not left:
            word, left = word + 1, place * place * 7 % 11 % 3 + 1
        left -= 1
        numbers.append(word)
    return numbers


def flat(plan, some, examples, *, seed=0, epoch=0, **more) -> list[Corrupted]:
    """Each text's part of one call."""
    words = torch.tensor([word for text in some for word in words_of(text)])
    lengths = [len(text) for text in some]
    ids = torch.tensor([token for text in some for token in text])
    made = plan.flat(ids, lengths, seed=seed, epoch=epoch, examples=examples, words=words, **more)
    return [Corrupted(*parts) for parts in zip(*(half.split(lengths) for half in made), strict=True)]


def same(one: Corrupted, other: Corrupted) -> bool:
    return torch.equal(one.input_ids, other.input_ids) and torch.equal(one.labels, other.labels)
