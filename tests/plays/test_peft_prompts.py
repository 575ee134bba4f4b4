"""peft's tokens before a text, and keys and values before it: right on padded rows, refused by name with packs."""

import copy
import inspect

import peft
import pytest
import torch
import transformers

import yanma
from models.builders import FAMILIES, SEQ2SEQ, build, head_named, rectangle

# transformers 5.24 calls keys and values `cache`; peft 0.21 hands them on by the name that they had before.
pytestmark = pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")

BY_TYPE = {family.model_type: family for family in (*FAMILIES, *SEQ2SEQ)}
VIRTUAL = 3
METHODS = {
    "prompt": lambda task: peft.PromptTuningConfig(task_type=task, num_virtual_tokens=VIRTUAL),
    "p-tuning": lambda task: peft.PromptEncoderConfig(
        task_type=task, num_virtual_tokens=VIRTUAL, encoder_hidden_size=16
    ),
    "prefix": lambda task: peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=VIRTUAL),
    "multitask": lambda task: peft.MultitaskPromptTuningConfig(
        task_type=task, num_virtual_tokens=VIRTUAL, num_tasks=2
    ),
    "cartridge": lambda task: peft.CartridgeConfig(task_type=task, num_virtual_tokens=VIRTUAL),
    "cpt": lambda task: peft.CPTConfig(
        task_type=task,
        num_virtual_tokens=VIRTUAL,
        cpt_token_ids=[7, 8, 9],
        cpt_mask=[1, 1, 1],
        cpt_tokens_type_mask=[1, 2, 3],
    ),
}
TASKS = [
    ("bert", "BertForSequenceClassification", "SEQ_CLS"),
    ("bert", "BertForTokenClassification", "TOKEN_CLS"),
    ("bert", "BertForQuestionAnswering", "QUESTION_ANS"),
    ("bert", "BertModel", "FEATURE_EXTRACTION"),
    ("llama", "LlamaForSequenceClassification", "SEQ_CLS"),
    ("llama", "LlamaForTokenClassification", "TOKEN_CLS"),
    ("llama", "LlamaForCausalLM", "CAUSAL_LM"),
    ("llama", "LlamaForQuestionAnswering", "QUESTION_ANS"),
    ("llama", "LlamaModel", "FEATURE_EXTRACTION"),
    ("gpt2", "GPT2ForQuestionAnswering", "QUESTION_ANS"),
]
CASES = [
    (*case, method)
    for case in TASKS
    for method in METHODS
    if (case[0] == "bert" or method in ("prompt", "prefix") or case[2] == "CAUSAL_LM")
    and (method != "cpt" or case[2] == "CAUSAL_LM")
    and (method != "multitask" or case[2] not in ("QUESTION_ANS", "FEATURE_EXTRACTION"))  # no task_ids there
]
EVERY_CASE = pytest.mark.parametrize(("model_type", "name", "task", "method"), CASES)
ORDERS = pytest.mark.parametrize("order", ["peft of unpadded", "unpadded peft"])


def tuned(model_type, name, task, method, order="stock"):
    model, made = build(BY_TYPE[model_type], name), yanma.unpad if order != "stock" else lambda model: model
    torch.manual_seed(7)
    if order == "peft of unpadded":
        return peft.get_peft_model(made(model), METHODS[method](task)).eval()
    return made(peft.get_peft_model(model, METHODS[method](task))).eval()


def skip_what_peft_cannot(task, method):
    """For these tasks it looks for an argument of the old name first, in the stock model too."""
    is_old = "past_key_values" in inspect.signature(transformers.BertModel.forward).parameters
    if method in ("prefix", "cartridge") and task in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS") and not is_old:
        pytest.skip("this peft says that this transformers' models take no keys and values")


def of_tasks(method, count):
    return {"task_ids": torch.zeros(count, dtype=torch.long)} if method == "multitask" else {}


def taught(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_document(output, head, lengths):
    """Each document's own outputs, virtual tokens among them where they are."""
    for name in (*head.token_outputs, *head.document_outputs):
        if output.get(name) is None:
            continue
        rows = output[name]
        if name in head.document_outputs:
            yield from rows
        else:
            virtual = rows.shape[1] - max(lengths)
            yield from (row[: virtual + length] for row, length in zip(rows, lengths, strict=True))


@ORDERS
@EVERY_CASE
def test_padded_rows_are_what_stock_documents_are_one_at_a_time(model_type, name, task, method, order):
    skip_what_peft_cannot(task, method)
    family = BY_TYPE[model_type]
    head, lengths = family.heads[name], (5, 3)
    data = rectangle(family, name, lengths, 5)
    kwargs = {key: value for key, value in data.kwargs.items() if "label" not in key and "pos" not in key}
    stock, ours = (tuned(model_type, name, task, method, how) for how in ("stock", order))
    found = list(by_document(ours(**kwargs, **of_tasks(method, 2)), head, lengths))
    alone = [stock(input_ids=ids[None], **of_tasks(method, 1)) for ids in data.documents]
    parts = [list(by_document(out, head, lengths[i : i + 1])) for i, out in enumerate(alone)]
    expected = [part for output in zip(*parts, strict=True) for part in output]
    assert len(found) == len(expected) >= 2
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=2e-6)
    for outputs in (found, expected):
        sum(output.square().sum() for output in outputs).backward()
    wanted, got = taught(stock), taught(ours)
    assert "prompt" in str(list(wanted)) and wanted.keys() == got.keys()
    assert any(gradient.abs().max() > 1e-6 for name, gradient in wanted.items() if "prompt" in name)
    for key, gradient in wanted.items():
        torch.testing.assert_close(
            got[key], gradient, rtol=1e-4, atol=1e-6 * float(gradient.abs().max() + 10)
        )


@EVERY_CASE
def test_packs_are_refused_by_name(model_type, name, task, method):
    skip_what_peft_cannot(task, method)
    model, documents = tuned(model_type, name, task, method, "unpadded peft"), [[5, 6, 7], [8, 9]]
    by_keyword = yanma.PackedCollator()([{"input_ids": ids} for ids in documents])
    with pytest.raises(yanma.Unsupported, match=r"(?i)pr\w+ tuning.*input_ids and attention_mask"):
        model(**by_keyword, **of_tasks(method, 1))
    with pytest.raises(AttributeError, match=r"prompt tuning.*give them input_ids and attention_mask"):
        model(yanma.PackedBatch.from_sequences(documents), **of_tasks(method, 2))


BEGIN_AGAIN = {"input_ids": torch.tensor([[5, 6, 7, 8, 9]]), "position_ids": torch.tensor([[0, 1, 2, 0, 1]])}
LEFT_OUT = r"position_ids say that a row holds several documents, but peft's PeftModelFor\w+ with \w+ leaves"


@EVERY_CASE
def test_documents_told_by_positions_alone_are_refused_where_peft_leaves_these_out(
    model_type, name, task, method
):
    skip_what_peft_cannot(task, method)
    model = tuned(model_type, name, task, method, "unpadded peft")
    with pytest.raises(
        yanma.Unsupported, match=LEFT_OUT + r".*give padded rows \(input_ids and attention_mask\)$"
    ):
        model(**BEGIN_AGAIN, **of_tasks(method, 1))


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("BertForSequenceClassification", "SEQ_CLS"),
        ("BertForTokenClassification", "TOKEN_CLS"),
        ("RobertaForSequenceClassification", "SEQ_CLS"),
        ("ElectraForTokenClassification", "TOKEN_CLS"),
        ("BertModel", "FEATURE_EXTRACTION"),
    ],
)
def test_prefix_tuning_of_an_encoder_refuses_them_in_the_other_order_too(name, task):
    """It calls the base model by itself, which is given positions behind the prefix."""
    skip_what_peft_cannot(task, "prefix")
    family = next(family for family in FAMILIES if name in family.heads)
    model = tuned(family.model_type, name, task, "prefix", "peft of unpadded")
    first = family.reserved_positions(model.config.pad_token_id)
    with pytest.raises(yanma.Unsupported, match=r"position_ids.*prefix tuning.*give .*padded rows"):
        model(BEGIN_AGAIN["input_ids"], position_ids=BEGIN_AGAIN["position_ids"] + first)


@pytest.mark.parametrize("method", ["prompt", "p-tuning", "prefix"])
def test_unpad_called_again_on_what_peft_made_sees_what_peft_leaves_out(method):
    model = tuned("bert", "BertForTokenClassification", "TOKEN_CLS", method, "peft of unpadded")
    with pytest.raises(yanma.Unsupported, match=LEFT_OUT):
        yanma.unpad(model)(**BEGIN_AGAIN)


def test_peft_s_wrapper_for_questions_leaves_positions_out_whatever_the_adapter():
    stock = build(BY_TYPE["bert"], "BertForQuestionAnswering")
    config = peft.LoraConfig(task_type="QUESTION_ANS", target_modules=["query", "value"], r=2)
    model = yanma.unpad(peft.get_peft_model(stock, config)).eval()
    with pytest.raises(yanma.Unsupported, match=LEFT_OUT + ".*or say it by cu_seq_lens_q or seq_idx"):
        model(**BEGIN_AGAIN)
    row, bounds = BEGIN_AGAIN["input_ids"], torch.tensor([0, 3, 5])
    by_index = model(row, seq_idx=torch.tensor([[0, 0, 0, 1, 1]])).start_logits
    assert torch.equal(model(row, cu_seq_lens_q=bounds).start_logits, by_index)


@pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning")
@pytest.mark.parametrize("way", ["one text", "restored", "restored within", "a copy"])
def test_positions_are_heard_only_where_they_would_be_lost(way):
    name, method = "BertForTokenClassification", "prompt"
    model = tuned("bert", name, "TOKEN_CLS", method, "unpadded peft")
    stock = tuned("bert", name, "TOKEN_CLS", method)
    if way == "one text":  # the stock model does not see them either
        given = BEGIN_AGAIN | {"position_ids": torch.arange(5)[None]}
        torch.testing.assert_close(model(**given).logits, stock(**given).logits, rtol=1e-5, atol=1e-5)
    elif way == "a copy":
        with pytest.raises(yanma.Unsupported, match=LEFT_OUT):
            copy.deepcopy(model)(**BEGIN_AGAIN)
    else:
        yanma.restore(model if way == "restored" else model.get_base_model())
        assert torch.equal(model(**BEGIN_AGAIN).logits, stock(**BEGIN_AGAIN).logits)


def test_prompts_that_are_switched_off_leave_nothing_out():
    """Of a decoder, as peft cannot switch them off in models that do not generate."""
    model = tuned("llama", "LlamaForCausalLM", "CAUSAL_LM", "prompt", "unpadded peft")
    with model.disable_adapter():
        found = model(**BEGIN_AGAIN).logits[0]
    pack = yanma.PackedBatch.from_sequences([[5, 6, 7], [8, 9]])
    assert torch.equal(found, model.get_base_model()(pack).logits)


@ORDERS
@pytest.mark.parametrize("method", ["prompt", "p-tuning", "prefix", "multitask", "cartridge"])
@pytest.mark.parametrize("model_type", ["bart", "t5"])
def test_pairs_are_padded_rows_too(model_type, method, order):
    family = BY_TYPE[model_type]
    name = head_named(family, "ForConditionalGeneration")
    data, losses, learned = rectangle(family, name), [], []
    extra = of_tasks(method, len(data.valid))
    for how in ("stock", order):
        model = tuned(model_type, name, "SEQ_2_SEQ_LM", method, how)
        losses.append(model(**data.kwargs, **extra).loss)
        losses[-1].backward()
        learned.append(taught(model))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-6)
    for key, gradient in learned[0].items():
        torch.testing.assert_close(learned[1][key], gradient, rtol=1e-4, atol=1e-6, msg=key)
    with pytest.raises(AttributeError, match="prompt tuning"):
        model(yanma.PackedBatch.from_sequences(data.documents), **extra)


@pytest.mark.parametrize("family", BY_TYPE.values(), ids=lambda family: family.model_type)
def test_a_part_by_itself_takes_no_pack(family):
    """As prefix tuning calls the base model of a model with a head."""
    models = ((name, yanma.unpad(build(family, name))) for name in family.heads)
    name, model = next((name, model) for name, model in models if model.base_model is not model)
    part = model.base_model
    target = {"decoder_input_ids": torch.tensor([[3, 4]])} if family.heads[name].decodes else {}
    pack = yanma.PackedCollator()([{"input_ids": [5, 6, 7]}, {"input_ids": [8, 9]}])
    with pytest.raises(yanma.Unsupported, match="called by itself, as peft's prefix tuning does"):
        part(**pack, **target)
