"""PackedCollator and Trainer: the loss and the gradients of the padded batch."""

import copy

import pytest
import torch
import transformers
from transformers import Trainer, TrainingArguments

import yanma
from models.builders import FAMILIES, build, every_head, gradient, rectangle, scored

BY_TYPE = {family.model_type: family for family in FAMILIES}
LENGTHS = (1, 5, 33, 2, 17, 64, 3)


@pytest.mark.parametrize(
    ("family", "name"), [*every_head()], ids=lambda value: getattr(value, "model_type", value)
)
def test_a_pack_by_keywords_is_the_rectangle(family, name):
    head, data = family.heads[name], rectangle(family, name)
    model = yanma.unpad(build(family, name))
    labels = {key: data.kwargs[key] for key in (*head.token_labels, *head.document_labels)}
    for key in head.token_labels:
        if head.loss == "next_token":
            labels[key] = labels[key].clone()
            labels[key][:, 0] = -100
    flat = {k: v[data.valid][None] if k in head.token_labels else v for k, v in labels.items()}
    bounds = yanma.PackedBatch.from_sequences(data.documents).cu_seqlens
    with torch.no_grad():
        padded = scored(model(**data.kwargs | labels), head, data.valid)
        ids = torch.cat(data.documents)[None]
        found = model(input_ids=ids, cu_seq_lens_q=bounds, **flat)
    compared = 0
    for key, expected in padded.items():
        tensor = found[key]
        if key in head.token_outputs:
            assert tensor.shape[:2] == (1, int(data.valid.sum())), f"{key} is {tuple(tensor.shape)}"
            tensor = tensor[0]
        torch.testing.assert_close(tensor, expected.view(tensor.shape), rtol=1e-6, atol=1e-6, msg=key)
        compared += 1
    assert compared, "no output was compared"


def examples(kind: str) -> list[dict[str, object]]:
    draw = torch.Generator().manual_seed(0)
    found = []
    for number, length in enumerate(LENGTHS):
        ids = torch.randint(5, 100, (length,), generator=draw).tolist()
        label: object = {"document": number % 3, "token": [i % 3 for i in ids], "next": ids}[kind]
        found.append({"input_ids": ids, "labels": label})
    return found


def to_longest(rows):
    width = max(len(row["input_ids"]) for row in rows)
    fill = lambda ids, value: [*ids, *[value] * (width - len(ids))]  # noqa: E731
    by_token = isinstance(rows[0]["labels"], list)
    return {
        "input_ids": torch.tensor([fill(row["input_ids"], 0) for row in rows]),
        "attention_mask": torch.tensor([fill([1] * len(row["input_ids"]), 0) for row in rows]),
        "labels": torch.tensor([fill(row["labels"], -100) if by_token else row["labels"] for row in rows]),
    }


def trainer(model, collator, rows, folder, **more):
    args = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=2, per_device_eval_batch_size=4, seed=3,
        num_train_epochs=1, learning_rate=1e-2, optim="sgd", max_grad_norm=0.0, report_to=[], save_strategy="no",
        use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False, **more,
    )  # fmt: skip
    return Trainer(
        model=model, args=args, train_dataset=rows, eval_dataset=rows, data_collator=collator,
        compute_metrics=lambda found: {"shape": len(found.predictions)},
    )  # fmt: skip


@pytest.mark.parametrize("steps", [1, 2], ids=["each batch", "accumulated"])
@pytest.mark.parametrize(
    ("model_type", "name", "kind"),
    [
        ("bert", "BertForSequenceClassification", "document"),
        ("modernbert", "ModernBertForTokenClassification", "token"),
        ("bert", "BertForMaskedLM", "token"),
        ("roberta", "RobertaForTokenClassification", "token"),
        ("llama", "LlamaForCausalLM", "next"),
        ("qwen2", "Qwen2ForCausalLM", "next"),
    ],
)
def test_trainer_learns_the_same_weights_as_from_padded_batches(model_type, name, kind, steps, tmp_path):
    stock = build(BY_TYPE[model_type], name)
    ours, rows = yanma.unpad(copy.deepcopy(stock)), examples(kind)
    before = torch.cat([p.detach().flatten() for p in stock.parameters()])
    found = []
    for model, collator in ((stock, to_longest), (ours, yanma.PackedCollator(next_token=kind == "next"))):
        runner = trainer(model, collator, rows, tmp_path, gradient_accumulation_steps=steps)
        loss = runner.train().training_loss
        found.append((loss, torch.cat([p.detach().flatten() for p in model.parameters()]), runner.evaluate()))
    (loss, weights, evaluated), (our_loss, our_weights, our_evaluated) = found
    assert abs(loss - our_loss) < 1e-5 and (weights - before).abs().max() > 1e-4, "nothing was learned"
    torch.testing.assert_close(our_weights, weights, rtol=1e-5, atol=1e-6)
    assert abs(evaluated["eval_loss"] - our_evaluated["eval_loss"]) < 1e-5


def test_gradients_of_one_pack_are_those_of_the_rectangle():
    stock = build(BY_TYPE["bert"], "BertForTokenClassification")
    ours, rows = yanma.unpad(copy.deepcopy(stock)), examples("token")
    stock(**to_longest(rows)).loss.backward()
    ours(**yanma.PackedCollator()(rows)).loss.backward()
    torch.testing.assert_close(gradient(ours), gradient(stock), rtol=1e-5, atol=1e-6)


def test_transformers_own_flattening_collator_works_too():
    ours = yanma.unpad(build(BY_TYPE["llama"], "LlamaForCausalLM"))
    collate = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_seq_idx=True)
    rows = examples("next")
    found, expected = ours(**collate(rows)), ours(**yanma.PackedCollator(next_token=True)(rows))
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.loss, expected.loss)


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma2", "gpt2"])
def test_trainers_first_loss_from_flattened_rows_is_that_of_one_document_at_a_time(model_type, tmp_path):
    family = BY_TYPE[model_type]
    name = next(name for name, head in family.heads.items() if head.loss == "next_token")
    stock, rows = build(family, name), examples("next")[1:3]
    with torch.no_grad():
        logits = [stock(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1] for row in rows]
    targets = torch.cat([torch.tensor(row["input_ids"][1:]) for row in rows])
    expected = torch.nn.functional.cross_entropy(torch.cat(logits), targets)
    collator = transformers.DataCollatorWithFlattening()
    assert set(collator(rows)) == {"input_ids", "labels", "position_ids"}
    runner = trainer(yanma.unpad(stock), collator, rows, tmp_path, max_steps=1)
    assert abs(runner.train().training_loss - float(expected)) < 1e-5


ONE = {"input_ids": [5, 6], "labels": 1}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no examples"),
        ([ONE | {"text": "a"}], "'text', which a pack has no place for"),
        ([ONE, {"input_ids": [5]}], "example 1 lacks 'labels'"),
        ([ONE | {"attention_mask": [1, 0]}], "example 0 is padded"),
        ([ONE | {"labels": [1, 2, 3]}], "labels of example 0"),
        ([ONE | {"label": 1}], "label and labels"),
        ([{"labels": 1}], "example 0 has no input_ids; tokenise the texts first"),
        ([{}], "example 0 has no input_ids"),
        ([ONE, "a text"], "example 1 is a str; give dicts as a tokenizer gives them"),
    ],
)
def test_examples_that_cannot_be_packed_are_refused_by_name(rows, words):
    with pytest.raises(ValueError, match=words):
        yanma.PackedCollator()(rows)


@pytest.mark.parametrize("wrong", [{"next_token": object()}, {"seq_idx": "no"}])
def test_a_tokenizer_in_the_place_of_a_setting_is_refused(wrong):
    with pytest.raises(TypeError, match="True or False"):
        yanma.PackedCollator(**wrong)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cu_seq_lens_q": torch.tensor([0, 3])}, "ends with the number of tokens, here 4"),
        ({"cu_seq_lens_q": None, "max_length_q": 3}, "cu_seq_lens_q is missing"),
        ({"input_ids": torch.ones(2, 2, dtype=torch.long)}, "one row"),
        ({"position_ids": torch.arange(4)[None]}, "count otherwise"),
        ({"attention_mask": torch.tensor([[1, 1, 1, 0]])}, "attention_mask hides slots"),
        ({"labels": torch.ones(5)}, "labels is"),
    ],
)
def test_contradictory_keywords_are_refused_by_name(change, words):
    model = yanma.unpad(build(BY_TYPE["bert"], "BertForTokenClassification"))
    given = {"input_ids": torch.tensor([[7, 8, 9, 9]]), "cu_seq_lens_q": torch.tensor([0, 3, 4])}
    assert model(**given).logits.shape == (1, 4, 3)
    with pytest.raises(ValueError, match=words):
        model(**given | change)


def test_labels_that_nobody_predicts_are_refused_as_trainer_would_count_them():
    model = yanma.unpad(build(BY_TYPE["llama"], "LlamaForCausalLM"))
    batch = yanma.PackedCollator()(examples("next"))
    with pytest.raises(ValueError, match="next_token=True"):
        model(**batch, num_items_in_batch=9)
    ends = torch.tensor(LENGTHS).cumsum(0)[:-1]
    expected = model(**batch | {"labels": batch["labels"].index_fill(1, ends, -100)}).loss
    assert torch.equal(model(**batch).loss, expected), "who does not count is not told to"
