"""What peft tells the rows of a batch: an adapter each is honoured, all else is refused by name."""

import copy

import peft
import pytest
import torch

import yanma
from models.builders import FAMILIES, SEQ2SEQ, build, rectangle

BY_TYPE = {family.model_type: family for family in (*FAMILIES, *SEQ2SEQ)}
ORDERS = pytest.mark.parametrize("order", ["peft of unpadded", "unpadded peft"])
MIXED = [
    ("bert", "BertForTokenClassification", "TOKEN_CLS", ["query", "value", "word_embeddings"]),
    ("bert", "BertForSequenceClassification", "SEQ_CLS", ["query", "value", "dense"]),
    ("llama", "LlamaForCausalLM", "CAUSAL_LM", ["q_proj", "v_proj", "lm_head"]),
    ("bart", "BartForConditionalGeneration", "SEQ_2_SEQ_LM", ["k_proj", "v_proj"]),
]
NAMES = ["default", "second", "__base__", "second"]


def adapted(case, order="stock", **settings):
    """Two LoRAs, none of which is what it begins with."""
    model_type, name, task, targets = case
    model = build(BY_TYPE[model_type], name)
    model = yanma.unpad(model) if order == "peft of unpadded" else model
    config = peft.LoraConfig(task_type=task, target_modules=targets, r=4, **settings)
    model = peft.get_peft_model(model, config)
    model.add_adapter("second", copy.deepcopy(config))
    draw = torch.Generator().manual_seed(3)
    for key, parameter in sorted(model.named_parameters()):
        if "lora_" in key or "modules_to_save" in key:
            parameter.data.normal_(0, 0.2, generator=draw)
    return (yanma.unpad(model) if order == "unpadded peft" else model).eval()


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings")
@ORDERS
@pytest.mark.parametrize("case", MIXED, ids=lambda case: case[1])
def test_each_document_is_computed_by_its_own_adapter(case, order):
    stock, ours = adapted(case), adapted(case, order)
    head = BY_TYPE[case[0]].heads[case[1]]
    documents = rectangle(BY_TYPE[case[0]], case[1], (5, 3, 4, 3)).documents
    batch = yanma.PackedBatch.from_sequences(documents)
    more = {"decoder_input_ids": batch} if head.decodes else {}
    with torch.no_grad():
        expected = []
        for ids, name in zip(documents, NAMES, strict=True):
            own = {"decoder_input_ids": ids[None]} if head.decodes else {}
            expected.append(stock(input_ids=ids[None], **own, adapter_names=[name]).logits[0])
        expected = torch.cat(expected) if head.token_outputs else torch.stack(expected)
        packed = ours(batch, **more, adapter_names=NAMES).logits
        torch.testing.assert_close(packed, expected, rtol=1e-5, atol=2e-6)
        rows, valid = batch.pad(batch.input_ids), batch.pad(torch.ones_like(batch.input_ids))
        more = {"decoder_input_ids": rows, "decoder_attention_mask": valid} if head.decodes else {}
        padded = ours(input_ids=rows, attention_mask=valid, **more, adapter_names=NAMES).logits
        padded = padded[valid.bool()] if head.token_outputs else padded
        torch.testing.assert_close(padded, expected, rtol=1e-5, atol=2e-6)
        if not head.decodes:
            pack = yanma.PackedCollator()([{"input_ids": ids} for ids in documents])
            found = ours(**pack, adapter_names=NAMES).logits
            torch.testing.assert_close(found.view(expected.shape), expected, rtol=1e-5, atol=2e-6)
    with pytest.raises(ValueError, match="adapter_names has 1 names; there are 4 documents"):
        ours(batch, **({"decoder_input_ids": batch} if head.decodes else {}), adapter_names=NAMES[:1])


@ORDERS
def test_generate_takes_an_adapter_for_each_row_before_any_forward(order):
    stock, ours = adapted(MIXED[-1]), adapted(MIXED[-1], order)
    given = {"input_ids": torch.arange(5, 25).view(4, 5), "max_new_tokens": 4, "adapter_names": NAMES}
    assert torch.equal(ours.generate(**given), stock.generate(**given))


ROW = {"input_ids": torch.tensor([[5, 6, 7], [8, 5, 9]])}
BY_ROW = {
    "POLY": lambda: peft.PolyConfig(target_modules=["q_proj"], r=4, task_type="CAUSAL_LM"),
    "LILY": lambda: peft.LilyConfig(target_modules=["q_proj"], r=4, task_type="CAUSAL_LM"),
    "SHADOW": lambda: peft.ShadowConfig(task_type="CAUSAL_LM"),
    "VeLoRA": lambda: peft.LoraConfig(
        target_modules=["q_proj"], velora_config={"num_groups": 4, "init_type": "batch_average"}
    ),
}


# transformers 5.24 calls keys and values `cache`; peft 0.21's Shadow hands them on by the name that they had before.
@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", BY_ROW)
def test_adapters_that_are_computed_from_the_rows_of_a_batch_are_refused(kind):
    model = build(BY_TYPE["llama"], "LlamaForCausalLM")
    with pytest.raises(yanma.Unsupported, match=kind[1:] if kind == "VeLoRA" else "(?i)" + kind):
        yanma.unpad(peft.get_peft_model(copy.deepcopy(model), BY_ROW[kind]()))
    after = peft.get_peft_model(yanma.unpad(model), BY_ROW[kind]())
    with pytest.raises(yanma.Unsupported, match="use another adapter, or the stock model"):
        after(**ROW, **({"task_ids": torch.zeros(2, dtype=torch.long)} if kind == "POLY" else {}))


@ORDERS
def test_activated_lora_is_refused_and_generates_as_stock(order):
    settings = {"alora_invocation_tokens": [5]}
    stock, ours = (adapted((*MIXED[2][:3], ["q_proj"]), how, **settings) for how in ("stock", order))
    with pytest.raises(yanma.Unsupported, match="alora_invocation_tokens"):
        ours(**ROW)
    with pytest.raises(yanma.Unsupported, match="alora_invocation_tokens"):
        ours(**yanma.PackedCollator()([{"input_ids": ids} for ids in ROW["input_ids"].tolist()]))
    with pytest.raises(AttributeError, match="Activated LoRA"):
        ours(yanma.PackedBatch.from_sequences(list(ROW["input_ids"])))
    given = ROW | {"attention_mask": torch.ones(2, 3, dtype=torch.long), "max_new_tokens": 4}
    assert torch.equal(ours.generate(**given), stock.generate(**given))


@pytest.mark.parametrize(
    ("model_type", "name", "target", "settings"),
    [
        ("albert", "AlbertForSequenceClassification", "pooler", {}),
        ("modernbert", "ModernBertForSequenceClassification", "classifier", {"classifier_pooling": "mean"}),
        ("eurobert", "EuroBertForSequenceClassification", "classifier", {"classifier_pooling": "late"}),
    ],
)
def test_adapters_of_what_pools_are_right_or_refused(model_type, name, target, settings):
    family = BY_TYPE[model_type]
    config = peft.LoraConfig(target_modules=[target], r=4, init_lora_weights=False)
    data, base = rectangle(family, name), build(family, name, **settings)
    torch.manual_seed(7)
    stock = peft.get_peft_model(copy.deepcopy(base), config)
    expected = torch.cat([stock(input_ids=ids[None]).logits for ids in data.documents])
    for order in ("peft of unpadded", "unpadded peft"):
        torch.manual_seed(7)
        model = copy.deepcopy(base)
        try:
            if order == "peft of unpadded":
                model = peft.get_peft_model(yanma.unpad(model), config)
            else:
                model = yanma.unpad(peft.get_peft_model(model, config))
            found = model(**data.kwargs).logits
        except yanma.Unsupported as error:
            assert target != "classifier" or settings["classifier_pooling"] == "late", error
            continue
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)


@ORDERS
def test_an_adapter_of_a_convolution_ends_with_its_document(order):
    family, name = BY_TYPE["deberta-v2"], "DebertaV2ForTokenClassification"
    config = peft.LoraConfig(target_modules=["conv.conv", "query_proj"], r=4, init_lora_weights=False)
    data, models = rectangle(family, name), []
    for how in ("stock", order):
        torch.manual_seed(7)
        model = build(family, name)
        model = peft.get_peft_model(yanma.unpad(model) if how == "peft of unpadded" else model, config)
        models.append(yanma.unpad(model) if how == "unpadded peft" else model)
    stock, ours = models
    assert any("conv.lora_A" in key for key in stock.state_dict()), "no adapter lies on the convolution"
    with torch.no_grad():
        expected = torch.cat([stock(input_ids=ids[None]).logits[0] for ids in data.documents])
        found = ours(yanma.PackedBatch.from_sequences(data.documents)).logits
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)
