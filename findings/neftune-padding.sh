#!/usr/bin/env bash
# transformers 5.23.0, torch 2.13.0, seen 2026-11-27.
# Guess: NEFTune adds noise up to alpha / sqrt(L * d) to a text of L tokens (Jain et al. 2023), so that a text has as much noise
#        in any batch.
# Seen:  L is the width of the batch, padding included: a text of 8 tokens beside one of 512 gets an eighth of the noise that it
#        gets alone; texts laid end to end in one row share what one text of their whole length would get.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq torch==2.13.0
"$folder/venv/bin/python" -m pip install -qq transformers==5.23.0 numpy
cat >"$folder/noise.py" <<'PYTHON'
import torch
from torch import nn
from transformers.integrations.neftune import neftune_post_forward_hook

WIDTH, ALPHA, TOKENS = 32, 5, 8
torch.manual_seed(0)
embedding = nn.Embedding(100, WIDTH, padding_idx=0).train()
text = torch.randint(1, 100, (TOKENS,))


def most_noise(slots: int) -> float:
    """The largest noise on the text's tokens in a batch that is `slots` wide."""
    rows = torch.zeros(1000, slots, dtype=torch.long)
    rows[:, :TOKENS] = text
    hook = embedding.register_forward_hook(neftune_post_forward_hook)
    with torch.no_grad():
        noisy = embedding(rows)
    hook.remove()
    return float((noisy - embedding(rows).detach())[:, :TOKENS].abs().max())


embedding.neftune_noise_alpha = ALPHA
found = {slots: most_noise(slots) for slots in (8, 32, 128, 512)}
for slots, noise in found.items():
    print(f"a text of {TOKENS} tokens in a batch {slots} wide: noise up to {noise:.4f}")
expected = ALPHA / (TOKENS * WIDTH) ** 0.5
assert abs(found[8] - expected) < 0.01, "alone, the noise is not as the paper has it"
assert abs(found[512] * 8 - expected) < 0.01, "padding no longer counts: this finding is out of date"
PYTHON
"$folder/venv/bin/python" "$folder/noise.py"
