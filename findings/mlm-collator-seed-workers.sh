#!/usr/bin/env bash
# transformers 5.23.0, torch 2.13.0, seen 2026-11-27.
# Guess: DataCollatorForLanguageModeling(seed=...) makes dynamic masking repeatable, and each epoch still has masks of its own.
# Seen:  with worker processes that end with the epoch, as DataLoader has them unless told otherwise, every epoch begins with
#        fresh copies of the collator: all 64 texts have the masks of epoch 1 in epochs 2 and 3. Without workers they differ.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq torch==2.13.0
"$folder/venv/bin/python" -m pip install -qq transformers==5.23.0 numpy
cat >"$folder/masks.py" <<'PYTHON'
import torch
from torch.utils.data import DataLoader
from transformers import BertTokenizerFast, DataCollatorForLanguageModeling

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [f"w{i}" for i in range(95)]
tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
draw = torch.Generator().manual_seed(0)
texts = [{"input_ids": torch.randint(5, 100, (20,), generator=draw).tolist()} for _ in range(64)]


def unchanged(num_workers: int) -> list[int]:
    """How many of the texts have the masks of the first epoch in the second and in the third."""
    collator = DataCollatorForLanguageModeling(tokenizer, seed=42)
    loader = DataLoader(texts, batch_size=8, collate_fn=collator, num_workers=num_workers)
    first, *others = (torch.cat([batch["labels"] != -100 for batch in loader]) for _ in range(3))
    return [int((first == other).all(1).sum()) for other in others]


if __name__ == "__main__":
    found = {workers: unchanged(workers) for workers in (0, 1, 2)}
    for workers, (second, third) in found.items():
        print(f"{workers} workers: {second} of 64 texts have epoch 1's masks in epoch 2, {third} in epoch 3")
    assert max(found[0]) < 8, "without workers, epochs repeat"
    assert found[1] == found[2] == [64, 64], "with workers, epochs no longer repeat: this finding is out of date"
PYTHON
"$folder/venv/bin/python" "$folder/masks.py"
