"""Trainer's bf16 and peft's float32 adapters in a bfloat16 model: rotary models learn as the stock ones do."""

from __future__ import annotations

import copy

import peft
import pytest
import torch

import yanma
from models.builders import FAMILIES, build, rectangle, relative
from plays.test_collator import examples, to_longest, trainer

BY_TYPE = {family.model_type: family for family in FAMILIES}


@pytest.mark.usefixtures("own_accelerator")
@pytest.mark.parametrize(
    ("model_type", "name", "kind"),
    [
        ("llama", "LlamaForCausalLM", "next"),
        ("gemma2", "Gemma2ForCausalLM", "next"),
        ("eurobert", "EuroBertForTokenClassification", "token"),
    ],
)
def test_trainer_learns_from_packs_under_bf16(model_type: str, name: str, kind: str, tmp_path):
    stock = build(BY_TYPE[model_type], name)
    before = torch.cat([p.detach().flatten() for p in stock.parameters()])
    ours, rows, moved = yanma.unpad(copy.deepcopy(stock)), examples(kind), []
    for model, collator in ((stock, to_longest), (ours, yanma.PackedCollator(next_token=kind == "next"))):
        trainer(model, collator, rows, tmp_path, bf16=True, gradient_checkpointing=True).train()
        moved.append(torch.cat([p.detach().flatten() for p in model.parameters()]) - before)
    assert moved[0].norm() > 0 and relative(moved[1], moved[0]) < 0.05
    assert all(p.dtype == torch.float32 for p in ours.parameters())


@pytest.mark.parametrize("order", ["peft of unpadded", "unpadded peft"])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=str)
def test_adapters_learn_under_autocast_what_they_learn_in_the_stock_model(order: str, weights: torch.dtype):
    data = rectangle(BY_TYPE["qwen3"], "Qwen3ForCausalLM")
    base = build(BY_TYPE["qwen3"], "Qwen3ForCausalLM").to(weights)
    config = peft.LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "v_proj"])

    def adapted(model: torch.nn.Module) -> torch.nn.Module:
        torch.manual_seed(7)
        return peft.get_peft_model(model, config).train()

    stock = adapted(copy.deepcopy(base))
    ours = adapted(yanma.unpad(base)) if order == "peft of unpadded" else yanma.unpad(adapted(base))
    learned = []
    for model in (stock, ours):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**data.kwargs).loss
        loss.backward()
        parts = [p.grad.flatten() for p in model.parameters() if p.requires_grad]
        assert parts and all(part.dtype == torch.float32 for part in parts)
        learned.append(torch.cat(parts))
    assert learned[0].norm() > 0 and relative(learned[1], learned[0]) < 0.05
