"""An unpadded model stays a Hugging Face model: arguments, copies, saving, modes, dropout, threads, refusals."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading

import pytest
import torch
import transformers

import yanma
from models.builders import FAMILIES, build, every_head, gradient, rectangle
from yanma.models import is_unpadded, kernels
from yanma.models.families import Family

BY_TYPE = {family.model_type: family for family in FAMILIES}
BERT = BY_TYPE["bert"]
TOKENS, CLASSES = "BertForTokenClassification", "BertForSequenceClassification"


def valid_logits(model: torch.nn.Module, data, **changes) -> torch.Tensor:
    kwargs = {k: v for k, v in data.kwargs.items() if k != "labels"} | changes
    with torch.no_grad():
        logits = model(**kwargs).logits
    return logits[kwargs["attention_mask"].bool()] if logits.dim() == 3 else logits


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_other_ways_to_give_input_are_the_stock_models(family: Family):
    name = next(n for _, n in every_head() if n in family.heads and n.endswith("ForTokenClassification"))
    stock, data = build(family, name), rectangle(family, name)
    ours = yanma.unpad(copy.deepcopy(stock))
    embeddings = stock.get_input_embeddings()(data.kwargs["input_ids"]).detach()
    holes = data.kwargs["attention_mask"].clone()
    holes[0, 4:6] = 0
    left = torch.flip(data.kwargs["attention_mask"], [1])
    places = torch.arange(20).flip(0)[None] + 2
    ways = {
        "inputs_embeds": {"input_ids": None, "inputs_embeds": embeddings},
        "position_ids": {"position_ids": places},
        "holes in the mask": {"attention_mask": holes},
        "padding on the left": {"attention_mask": left, "input_ids": data.kwargs["input_ids"].flip(1)},
    }
    if family.model_type in ("bert", "electra"):
        ways["token_type_ids"] = {"token_type_ids": (torch.arange(20) > 3).long().expand(6, 20)}
    for way, changes in ways.items():
        assert close(valid_logits(stock, data, **changes), valid_logits(ours, data, **changes)), way
        if way in ("position_ids", "token_type_ids"):
            before, after = valid_logits(stock, data), valid_logits(stock, data, **changes)
            assert not close(before, after), f"{way} changes nothing, so the test shows nothing"


def test_tuples_hidden_states_and_positional_arguments_are_the_stock_models():
    stock, data = build(BERT, TOKENS), rectangle(BERT, TOKENS)
    ours = yanma.unpad(copy.deepcopy(stock))
    arguments = data.kwargs["input_ids"], data.kwargs["attention_mask"]
    with torch.no_grad():
        expected = stock(*arguments, output_hidden_states=True, return_dict=False)
        found = ours(*arguments, output_hidden_states=True, return_dict=False)
    assert isinstance(found, tuple) and len(found) == len(expected) == 2
    assert close(found[0][data.valid], expected[0][data.valid])
    assert all(close(a[data.valid], b[data.valid]) for a, b in zip(found[1], expected[1], strict=True))


def test_padding_slots_are_zero():
    data = rectangle(BERT, TOKENS)
    logits = yanma.unpad(build(BERT, TOKENS))(**data.kwargs).logits
    assert not logits[~data.valid].any()


@pytest.mark.parametrize("name", [TOKENS, CLASSES, "BertForMaskedLM"])
def test_dropout_does_not_depend_on_what_shares_the_batch(name: str):
    dropout = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
    model = yanma.unpad(build(BERT, name, **dropout)).train()
    documents = rectangle(BERT, name).documents
    ids = list(range(10, 10 + len(documents)))
    batch = yanma.PackedBatch.from_sequences(documents, ids=ids)
    together = model(batch, seed=3).logits
    assert not torch.equal(together, model(batch, seed=4).logits), "the seed changes nothing"
    rows = together.split(1) if name == CLASSES else batch.unpack(together)
    for index, document in enumerate(documents):
        alone = model(yanma.PackedBatch.from_sequences([document], ids=[ids[index]]), seed=3).logits
        assert torch.equal(rows[index], alone), f"document {index} of {len(document)} tokens differs"


def test_gradients_of_two_halves_add_up_to_the_whole_with_dropout():
    model = yanma.unpad(
        build(BERT, CLASSES, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    ).train()
    documents = rectangle(BERT, CLASSES).documents

    def summed(*cuts: list[int]) -> torch.Tensor:
        model.zero_grad()
        for cut in cuts:
            batch = yanma.PackedBatch.from_sequences([documents[i] for i in cut], ids=cut)
            model(batch, seed=1).logits.square().sum().backward()
        return gradient(model)

    whole, halves = summed([0, 1, 2, 3, 4, 5]), summed([5, 0, 3], [1, 4, 2])
    assert (whole - halves).norm() <= 1e-5 * whole.norm() and whole.norm() > 0


def test_documents_with_equal_ids_keep_their_order():
    model = yanma.unpad(build(BERT, CLASSES))
    long, short = torch.tensor([5, 6, 7, 8]), torch.tensor([9])
    with torch.no_grad():
        twice = model(yanma.PackedBatch.from_sequences([long, short], ids=[4, 4])).logits
        alone = model(yanma.PackedBatch.from_sequences([long])).logits
    assert torch.equal(twice[:1], alone)


def test_a_drawn_seed_follows_torchs_generator():
    model = yanma.unpad(build(BERT, CLASSES, hidden_dropout_prob=0.5)).train()
    batch = yanma.PackedBatch.from_sequences(rectangle(BERT, CLASSES).documents)
    outputs = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        outputs.append(model(batch).logits)
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[1], outputs[2])


def test_copies_and_saved_models_are_the_model(tmp_path):
    stock, data = build(BERT, CLASSES), rectangle(BERT, CLASSES)
    before = {key: tensor.clone() for key, tensor in stock.state_dict().items()}
    ours = yanma.unpad(stock)
    assert ours is stock and yanma.unpad(ours) is ours and is_unpadded(ours)
    after = ours.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    copied = copy.deepcopy(ours)
    assert torch.equal(valid_logits(copied, data), valid_logits(ours, data))
    ours.save_pretrained(tmp_path)
    loaded = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.architectures == [CLASSES] and not is_unpadded(loaded)
    assert loaded.config._attn_implementation == "sdpa", "the saved config remembers yanma's attention"
    assert torch.equal(valid_logits(yanma.unpad(loaded), data), valid_logits(ours, data))
    yanma.restore(copied)
    assert is_unpadded(ours) and not is_unpadded(copied), "restoring a copy touched the original"


@pytest.mark.parametrize(
    ("family", "name"), [*every_head()], ids=lambda value: getattr(value, "model_type", value)
)
def test_a_pickle_is_the_model(family: Family, name: str):
    model, data = yanma.unpad(build(family, name)), rectangle(family, name)
    loaded = pickle.loads(pickle.dumps(model))
    assert is_unpadded(loaded) and [*map(type, loaded.modules())] == [*map(type, model.modules())]
    with torch.no_grad():
        before, after = model(**data.kwargs).to_tuple(), loaded(**data.kwargs).to_tuple()
    assert before and all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert type(yanma.restore(loaded)) is getattr(transformers, name)


def test_another_process_opens_what_torch_saved(tmp_path):
    model, data = yanma.unpad(build(BERT, TOKENS)), rectangle(BERT, TOKENS)
    torch.save((model, data.kwargs), tmp_path / "whole.pt")
    code = (
        "import sys, torch\n"
        "model, kwargs = torch.load(sys.argv[1] + '/whole.pt', weights_only=False)\n"
        "torch.save(model(**kwargs).logits.detach(), sys.argv[1] + '/logits.pt')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "logits.pt"), model(**data.kwargs).logits)


def test_restore_gives_back_the_stock_classes_and_bits():
    stock, data = build(BERT, TOKENS), rectangle(BERT, TOKENS)
    classes = [type(module) for module in stock.modules()]
    attributes = [set(vars(module)) for module in stock.modules()]
    expected = valid_logits(stock, data)
    restored = yanma.restore(yanma.unpad(stock))
    assert [type(module) for module in restored.modules()] == classes
    assert [set(vars(module)) for module in restored.modules()] == attributes
    assert torch.equal(valid_logits(restored, data), expected)
    with pytest.raises(ValueError, match="not unpadded"):
        yanma.restore(restored)


def test_a_stock_model_that_shares_the_config_keeps_its_numbers():
    stock, data = build(BERT, TOKENS), rectangle(BERT, TOKENS)
    other = transformers.BertForTokenClassification(stock.config).eval()
    expected = valid_logits(other, data)
    yanma.unpad(stock)
    assert torch.equal(valid_logits(other, data), expected)


def test_tied_weights_stay_tied():
    model = yanma.unpad(build(BERT, "BertForMaskedLM"))
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_threads_do_not_see_each_others_documents():
    model = yanma.unpad(build(BERT, TOKENS))
    documents = rectangle(BERT, TOKENS).documents
    batches = [yanma.PackedBatch.from_sequences(documents[i : i + 3]) for i in range(4)]
    with torch.no_grad():
        expected = [model(batch).logits for batch in batches]
    wrong = []

    def work(index: int) -> None:
        with torch.no_grad():
            for _ in range(20):
                if not torch.equal(model(batches[index]).logits, expected[index]):
                    wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("kernel", ["torch", "onednn"])
def test_either_kernel_gives_the_stock_numbers_and_gradients(kernel: str, monkeypatch: pytest.MonkeyPatch):
    choice = kernels.Kernels(kernel, kernel, {}, "told by the test")
    monkeypatch.setattr("yanma.models.linear.fastest", lambda dtype, device: choice)
    stock, data = build(BERT, TOKENS), rectangle(BERT, TOKENS)
    ours = yanma.unpad(copy.deepcopy(stock))
    assert close(valid_logits(ours, data), valid_logits(stock, data))
    for model in (stock, ours):
        model(**data.kwargs).loss.backward()
    assert (gradient(stock) - gradient(ours)).norm() <= 1e-5 * gradient(stock).norm()
    rows = torch.randn(40, 32)
    layer = ours.bert.encoder.layer[0].attention.self.query
    with torch.no_grad():
        assert all(torch.equal(layer(rows)[i : i + 1], layer(rows[i : i + 1])) for i in range(40))


def test_autocast_computes_in_bfloat16():
    stock, data = build(BERT, TOKENS), rectangle(BERT, TOKENS)
    ours = yanma.unpad(copy.deepcopy(stock))
    with torch.autocast("cpu", torch.bfloat16):
        theirs, found = valid_logits(stock, data), valid_logits(ours, data)
    assert found.dtype == theirs.dtype == torch.bfloat16
    assert (found - theirs).abs().max() <= 0.05 * theirs.abs().max()


def test_the_kernels_choice_is_remembered_and_an_unreadable_file_is_not_fatal(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels.chosen.cache_clear()
    path = kernels.cache_file(torch.float32)
    measured = kernels.fastest(torch.float32, torch.device("cpu"))
    assert path.is_file() and measured.gflops
    path.write_text(path.read_text().replace(measured.reason, "from the file"))
    kernels.chosen.cache_clear()
    assert kernels.fastest(torch.float32, torch.device("cpu")).reason == "from the file"
    path.write_text("{")
    kernels.chosen.cache_clear()
    assert kernels.fastest(torch.float32, torch.device("cpu")).gflops
    kernels.chosen.cache_clear()


def test_explain_tells_family_and_kernels():
    text = str(yanma.explain(yanma.unpad(build(BERT, TOKENS))))
    assert "family bert" in text and "forward" in text and "Linear" in text
    refused = str(
        yanma.explain(transformers.GPT2Model(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1)))
    )
    assert "cannot be unpadded" in refused and "bert" in refused


def refusals():
    """Name, head, keyword arguments, and a part of the message."""
    data, classes = rectangle(BERT, TOKENS), rectangle(BERT, CLASSES)
    ids, mask = data.kwargs["input_ids"], data.kwargs["attention_mask"]
    yield "attention weights", TOKENS, {"input_ids": ids, "output_attentions": True}, "output_attentions"
    yield "a cache", TOKENS, {"input_ids": ids, "past_key_values": object()}, "past_key_values"
    yield (
        "a 4-D mask",
        TOKENS,
        {"input_ids": ids, "attention_mask": mask[:, None, None]},
        "attention_mask must be",
    )
    yield "an empty row", TOKENS, {"input_ids": ids, "attention_mask": mask * 0}, "row 0 has no token"
    yield "nothing", TOKENS, {"attention_mask": mask}, "exactly one of input_ids"
    yield (
        "scored padding",
        TOKENS,
        {"input_ids": ids, "attention_mask": mask, "labels": ids * 0},
        "must be -100",
    )
    left = classes.kwargs["attention_mask"].flip(1)
    yield "pooled padding", CLASSES, {"input_ids": ids, "attention_mask": left}, "begins with padding"
    long = torch.full((1, 81), 7)
    yield "too long", TOKENS, {"input_ids": long}, "81 tokens; this model has 80 positions"


@pytest.mark.parametrize(("name", "kwargs", "message"), [pytest.param(*r[1:], id=r[0]) for r in refusals()])
def test_what_cannot_be_honoured_is_refused(name: str, kwargs: dict, message: str):
    with pytest.raises(ValueError, match=message):
        yanma.unpad(build(BERT, name))(**kwargs)


def test_other_families_and_unknown_heads_are_refused_by_name():
    with pytest.raises(yanma.Unsupported, match=r"gpt2.*bert, roberta, xlm-roberta, distilbert, electra"):
        yanma.unpad(transformers.GPT2Model(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1)))

    class Mine(transformers.BertPreTrainedModel):
        pass

    with pytest.raises(yanma.Unsupported, match="Mine is not a head of bert"):
        yanma.unpad(Mine(build(BERT, TOKENS).config))
    with pytest.raises(yanma.Unsupported, match="summary_type='mean'"):
        yanma.unpad(build(BY_TYPE["electra"], "ElectraForMultipleChoice", summary_type="mean"))
    with pytest.raises(yanma.Unsupported, match="cross-attention"):
        yanma.unpad(build(BERT, "BertLMHeadModel", add_cross_attention=True))


def test_attention_switched_after_unpad_is_refused():
    model, data = yanma.unpad(build(BERT, TOKENS)), rectangle(BERT, TOKENS)
    model.set_attn_implementation("eager")
    with pytest.raises(yanma.Unsupported, match="set to 'eager' after unpad"):
        model(**data.kwargs)


def test_gradient_checkpointing_is_refused_in_training():
    model, data = yanma.unpad(build(BERT, TOKENS)), rectangle(BERT, TOKENS)
    model.activation_checkpointing_enable()
    model.eval()(**data.kwargs)
    with pytest.raises(yanma.Unsupported, match="gradient checkpointing"):
        model.train()(**data.kwargs)


def test_a_packed_batch_stands_alone():
    model, data = yanma.unpad(build(BERT, TOKENS)), rectangle(BERT, TOKENS)
    batch = yanma.PackedBatch.from_sequences(data.documents)
    with pytest.raises(ValueError, match="attention_mask is part of a PackedBatch"):
        model(batch, attention_mask=data.kwargs["attention_mask"])
    with pytest.raises(ValueError, match="only positional argument"):
        model(batch, data.kwargs["attention_mask"])
    typed = yanma.PackedBatch.from_sequences([[1, 2]], [[0, 1]])
    distil = yanma.unpad(build(BY_TYPE["distilbert"], "DistilBertModel"))
    with pytest.raises(yanma.Unsupported, match="no token types"):
        distil(typed)
