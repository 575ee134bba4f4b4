"""peft around unpadded models, in either order: outputs and adapters' gradients are those of stock peft."""

import copy

import peft
import pytest
import torch

import yanma
from models.builders import FAMILIES, build, rectangle
from yanma.models import is_unpadded

BY_TYPE = {family.model_type: family for family in FAMILIES}
CASES = [
    ("bert", "BertForSequenceClassification", "SEQ_CLS", ["query", "value", "dense"]),
    ("roberta", "RobertaForTokenClassification", "TOKEN_CLS", ["query", "value"]),
    ("modernbert", "ModernBertForSequenceClassification", "SEQ_CLS", ["Wqkv", "Wo"]),
    ("deberta-v2", "DebertaV2ForTokenClassification", "TOKEN_CLS", ["query_proj", "value_proj"]),
    ("llama", "LlamaForCausalLM", "CAUSAL_LM", ["q_proj", "v_proj", "down_proj"]),
    ("gpt2", "GPT2LMHeadModel", "CAUSAL_LM", ["c_attn"]),
]
ADAPTERS = {
    "lora": lambda task, modules: peft.LoraConfig(
        task_type=task,
        target_modules=modules,
        r=4,
        init_lora_weights=False,
        fan_in_fan_out=modules == ["c_attn"],
    ),
    "ia3": lambda task, modules: peft.IA3Config(
        task_type=task,
        target_modules=modules,
        feedforward_modules=[],
        init_ia3_weights=False,
        fan_in_fan_out=modules == ["c_attn"],
    ),
}


def adapted(model, adapter, task, modules):
    torch.manual_seed(7)
    found = peft.get_peft_model(model, ADAPTERS[adapter](task, modules))
    for name, parameter in found.named_parameters():
        if "ia3_l" in name:
            torch.nn.init.uniform_(parameter.data, 0.5, 1.5)
    return found


def learned(model):
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("order", ["peft of unpadded", "unpadded peft"])
@pytest.mark.parametrize(("model_type", "name", "task", "modules"), CASES, ids=lambda value: str(value)[:20])
def test_adapters_learn_what_they_learn_in_the_stock_model(model_type, name, task, modules, order, adapter):
    family = BY_TYPE[model_type]
    head, data, base = family.heads[name], rectangle(family, name), build(family, name)
    stock = adapted(copy.deepcopy(base), adapter, task, modules)
    if order == "peft of unpadded":
        ours = adapted(yanma.unpad(base), adapter, task, modules)
    else:
        ours = yanma.unpad(adapted(base, adapter, task, modules))
    assert is_unpadded(ours) and yanma.unpad(ours) is ours
    expected, found = stock(**data.kwargs), ours(**data.kwargs)
    rows = data.valid if head.token_outputs else ...
    torch.testing.assert_close(found.logits[rows], expected.logits[rows], rtol=1e-5, atol=1e-5)
    expected.loss.backward()
    found.loss.backward()
    wanted = learned(stock)
    assert len(wanted) > 1 and all(
        g.abs().sum() > 0 for n, g in wanted.items() if "lora_B" in n or "ia3" in n
    )
    for key, gradient in learned(ours).items():
        torch.testing.assert_close(gradient, wanted[key], rtol=1e-4, atol=1e-6, msg=key)
    with torch.no_grad():
        packed = ours(yanma.PackedBatch.from_sequences(data.documents)).logits
        by_keyword = ours(**yanma.PackedCollator()([{"input_ids": d} for d in data.documents])).logits
    torch.testing.assert_close(packed, expected.logits[rows], rtol=1e-5, atol=1e-5)
    assert torch.equal(by_keyword.flatten(), packed.flatten())
    restored = yanma.restore(ours)
    assert torch.equal(restored(**data.kwargs).logits, stock(**data.kwargs).logits)


@pytest.mark.parametrize("order", ["peft of unpadded", "unpadded peft"])
@pytest.mark.parametrize(
    ("model_type", "name", "modules"),
    [
        ("bert", "BertForTokenClassification", ["query", "dense"]),
        ("deberta-v2", "DebertaV2ForTokenClassification", ["query_proj", "key_proj"]),
    ],
    ids=lambda value: str(value)[:20],
)
def test_adapters_drop_what_a_documents_id_and_the_seed_say(model_type, name, modules, order):
    family = BY_TYPE[model_type]
    torch.manual_seed(7)
    config = peft.LoraConfig(
        task_type="TOKEN_CLS", target_modules=modules, lora_dropout=0.5, init_lora_weights=False
    )
    base = build(family, name)
    if order == "peft of unpadded":
        model = peft.get_peft_model(yanma.unpad(base), config)
    else:
        model = yanma.unpad(peft.get_peft_model(base, config))
    documents, model = rectangle(family, name).documents, model.train()

    def logits(chosen, seed):
        batch = yanma.PackedBatch.from_sequences([documents[i] for i in chosen], ids=chosen)
        with torch.no_grad():
            return batch.unpack(model(batch, seed=seed).logits)

    state = torch.get_rng_state()
    together, turned, other = logits([0, 1, 2, 3], 1), logits([3, 2, 1, 0], 1)[::-1], logits([0, 1, 2, 3], 2)
    assert torch.equal(torch.get_rng_state(), state), "torch's own stream was drawn from"
    for index, expected in enumerate(together):
        assert torch.equal(expected, turned[index]) and torch.equal(expected, logits([index], 1)[0])
        assert not torch.equal(expected, other[index]), "another seed drops the same"
    with torch.no_grad():
        batch = yanma.PackedBatch.from_sequences(documents)
        assert not torch.allclose(model(batch).logits, model.eval()(batch).logits), "nothing is dropped"
    kinds = {type(module).__name__ for module in yanma.restore(model).modules()}
    assert "Dropout" in kinds and not any(
        hasattr(type(module), "_yanma_stock") or "_yanma_site" in vars(module) for module in model.modules()
    )


@pytest.mark.parametrize("order", ["peft of unpadded", "unpadded peft"])
def test_adapters_live_as_in_the_stock_model(order, tmp_path):
    """Another one added and chosen, all switched off, merged, taken apart again, saved and loaded."""
    family, name = BY_TYPE["bert"], "BertForSequenceClassification"
    data, base = rectangle(family, name), build(family, name)
    batch = yanma.PackedBatch.from_sequences(data.documents)
    config = peft.LoraConfig(
        task_type="SEQ_CLS", target_modules=["query", "dense"], r=4, init_lora_weights=False
    )
    models = []
    for which in (None, order):
        model = copy.deepcopy(base)
        model = peft.get_peft_model(yanma.unpad(model) if which == "peft of unpadded" else model, config)
        model = yanma.unpad(model) if which == "unpadded peft" else model
        model.add_adapter("second", config)
        draw = torch.Generator().manual_seed(3)
        for key, parameter in sorted(model.named_parameters()):
            if "lora_" in key or "modules_to_save" in key:
                parameter.data.normal_(0, 0.2, generator=draw)
        models.append(model.eval())
    stock, ours = models
    seen = []

    def check(ours=ours, stock=stock):
        with torch.no_grad():
            expected = torch.cat([stock(input_ids=ids[None]).logits for ids in data.documents])
            torch.testing.assert_close(ours(batch).logits, expected, rtol=1e-5, atol=2e-6)
            torch.testing.assert_close(ours(**data.kwargs).logits, expected, rtol=1e-5, atol=2e-6)
        seen.append(expected)

    check()
    for model in models:
        model.set_adapter("second")
    check()
    with stock.disable_adapter(), ours.disable_adapter():
        check()
    assert not any(torch.allclose(a, b) for a, b in ((seen[0], seen[1]), (seen[1], seen[2])))
    for model in models:
        model.merge_adapter()
    check()
    for model in models:
        model.unmerge_adapter()
    check()
    ours.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(yanma.unpad(copy.deepcopy(base)), tmp_path / "second")
    check(again.eval())
    check(yanma.unpad(peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "second")).eval())
    for model in models:
        model.delete_adapter("default")
    check()
    plain, stock_plain = ours.merge_and_unload(), stock.merge_and_unload()
    assert is_unpadded(plain)
    check(plain, stock_plain)
    yanma.restore(plain)
    assert not any(hasattr(type(module), "_yanma_stock") for module in plain.modules())
