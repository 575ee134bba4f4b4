#!/usr/bin/env bash
# transformers 5.23.0, torch 2.13.0, seen 2026-11-27.
# Guess: texts that lie end to end in one row, their position_ids beginning anew with each (as DataCollatorWithFlattening gives
#        them), are kept apart by every model that takes position_ids.
# Seen:  BERT mixes them always. Llama keeps them apart with use_cache=False and no attention_mask alone: with its default cache,
#        or with a mask of ones, which hides nothing, it mixes them. Nothing warns.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq torch==2.13.0
"$folder/venv/bin/python" -m pip install -qq transformers==5.23.0 numpy
cat >"$folder/packed.py" <<'PYTHON'
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

SIZE = dict(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
draw = torch.Generator().manual_seed(1)
texts = [torch.randint(5, 100, (1, length), generator=draw) for length in (5, 9)]
row = torch.cat(texts, 1)
positions = torch.cat([torch.arange(text.shape[1]) for text in texts])[None]
ones = torch.ones_like(row)


@torch.no_grad()
def off(model, **arguments):
    """The largest difference of the packed row from the same texts one at a time."""
    alone = torch.cat([model(text).last_hidden_state for text in texts], 1)
    packed = model(row, position_ids=positions, **arguments).last_hidden_state
    return float((packed - alone).abs().max())


def small(model, config):
    torch.manual_seed(0)
    return model(config(**SIZE)).eval()


bert, llama = small(BertModel, BertConfig), small(LlamaModel, LlamaConfig)
found = {
    "BERT": off(bert),
    "Llama": off(llama),
    "Llama, use_cache=False": off(llama, use_cache=False),
    "Llama, use_cache=False, attention_mask of ones": off(llama, use_cache=False, attention_mask=ones),
}
for how, difference in found.items():
    print(f"{how}: off by {difference:.1e}")
apart = found.pop("Llama, use_cache=False")
assert apart < 1e-5, "Llama without a cache mixes texts as well: this finding is out of date"
assert min(found.values()) > 1e-3, "texts are kept apart where they were mixed: this finding is out of date"
PYTHON
"$folder/venv/bin/python" "$folder/packed.py"
