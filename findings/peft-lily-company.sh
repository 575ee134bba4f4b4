#!/usr/bin/env bash
# peft 0.21.2, transformers 5.23.0, torch 2.13.0, seen 2026-11-28.
# Guess: an adapter makes of a text what it makes of it alone, whatever other texts are in the batch.
# Seen:  Lily weighs its experts by scores averaged over all tokens of the batch: the same three texts of one length differ in the
#        first digit between a batch of three and batches of one. Without the adapter, or with LoRA, they agree to rounding.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq torch==2.13.0
"$folder/venv/bin/python" -m pip install -qq transformers==5.23.0 peft==0.21.2 numpy
cat >"$folder/company.py" <<'PYTHON'
import torch
from peft import LilyConfig, LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaModel

SIZE = dict(vocab_size=100, hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64)
texts = torch.randint(5, 100, (3, 8), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def off(config):
    """The largest difference of texts in one batch from the same texts one at a time."""
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**SIZE, pad_token_id=0)).eval()
    if config is not None:
        model = get_peft_model(model, config).eval()
        for parameter in model.parameters():
            if parameter.requires_grad:  # as if it had been trained: fresh adapters change nothing
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    alone = torch.cat([model(input_ids=text[None]).last_hidden_state for text in texts])
    return float((model(input_ids=texts).last_hidden_state - alone).abs().max())


targets = dict(r=4, target_modules=["q_proj", "v_proj"])
found = {"no adapter": off(None), "LoRA": off(LoraConfig(**targets)), "Lily": off(LilyConfig(**targets))}
for name, difference in found.items():
    print(f"{name}: off by {difference:.1e}")
assert max(found["no adapter"], found["LoRA"]) < 1e-5, "others depend on company too"
assert found["Lily"] > 1e-2, "Lily no longer depends on company: this finding is out of date"
PYTHON
"$folder/venv/bin/python" "$folder/company.py"
