"""An unpadded model stays a Hugging Face model: copies, pickles, saving, restoring, threads, refusals."""

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
from models.builders import FAMILIES, SEQ2SEQ, build, every_head, rectangle
from models.pairs import generator
from yanma.models import is_unpadded
from yanma.models.classes import mix, unmix
from yanma.models.family import Family

BY_TYPE = {family.model_type: family for family in FAMILIES}
BERT = BY_TYPE["bert"]
TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
TOKENS, CLASSES = "BertForTokenClassification", "BertForSequenceClassification"


def valid_logits(model: torch.nn.Module, data, **changes) -> torch.Tensor:
    kwargs = {k: v for k, v in data.kwargs.items() if k != "labels"} | changes
    with torch.no_grad():
        logits = model(**kwargs).logits
    return logits[kwargs["attention_mask"].bool()] if logits.dim() == 3 else logits


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
        before, after = (each(**data.kwargs, use_cache=False).to_tuple() for each in (model, loaded))
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


def test_threads_that_come_upon_a_new_adapter_together_change_it_once():
    class Knows(torch.nn.Module):
        pass

    layer = torch.nn.Linear(2, 2)
    mix(layer, Knows)
    once = type(layer)
    mix(layer, Knows)
    assert type(layer) is once
    unmix(layer)
    assert type(layer) is torch.nn.Linear


def test_explain_tells_family_and_kernels():
    text = str(yanma.explain(yanma.unpad(build(BERT, TOKENS))))
    assert "family bert" in text and "forward" in text and "Linear" in text
    refused = str(yanma.explain(transformers.RemBertModel(transformers.RemBertConfig(**TINY))))
    assert "cannot be unpadded" in refused and "bert" in refused


def test_other_families_and_unknown_heads_are_refused_by_name():
    with pytest.raises(yanma.Unsupported, match=r"rembert.*bert.*roberta.*distilbert, electra.*llama"):
        yanma.unpad(transformers.RemBertModel(transformers.RemBertConfig(**TINY)))

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


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("family", SEQ2SEQ, ids=lambda family: family.model_type)
def test_attention_of_a_stack_switched_after_unpad_is_refused(family: Family, part: str):
    model, ids = yanma.unpad(build(family, generator(family))), torch.arange(10, 16)[None]
    getattr(model, f"get_{part}")().set_attn_implementation("eager")
    with pytest.raises(yanma.Unsupported, match="set to 'eager' after unpad"):
        model(input_ids=ids, decoder_input_ids=ids)
    model.set_attn_implementation("yanma")
    model(input_ids=ids, decoder_input_ids=ids)
