"""A failure inside `unpad` leaves a model as it was, whatever has been changed by then."""

from __future__ import annotations

import copy
import sys

import pytest
import torch

import yanma
from models.builders import FAMILIES, SEQ2SEQ, build, rectangle
from yanma.models import is_unpadded

BERT = next(family for family in FAMILIES if family.model_type == "bert")


def final(kind: type) -> type:
    """The class under its own name, but one of which no subclass can be made."""

    def refuse(cls: type, **more: object) -> None:
        raise TypeError(f"{kind.__name__} is final")

    made = type(kind.__name__, (kind,), {"__module__": kind.__module__})
    made.__init_subclass__ = classmethod(refuse)
    return made


def state(model: torch.nn.Module):
    """All that `unpad` changes: classes, attributes and hooks of every module, and the attention of the config."""
    modules = list(model.modules())
    hooks = [len(module._forward_pre_hooks) + len(module._forward_hooks) for module in modules]
    attributes = [
        {name: value for name, value in vars(module).items() if isinstance(value, int | str | bool)}
        for module in modules
    ]
    return [*map(type, modules)], [set(vars(m)) for m in modules], attributes, hooks


FAILING = [
    ("bert", "BertForTokenClassification", "BertSelfOutput"),
    ("bert", "BertForSequenceClassification", "BertPooler"),
    ("bert", "BertForMaskedLM", "BertModel"),
    ("bert", "BertForTokenClassification", "BertForTokenClassification"),
    ("albert", "AlbertForSequenceClassification", "AlbertTransformer"),
    ("deberta-v2", "DebertaV2ForTokenClassification", "DisentangledSelfAttention"),
    ("llama", "LlamaForCausalLM", "SiLUActivation"),
    ("bart", "BartForConditionalGeneration", "BartEncoder"),
    ("t5", "T5ForConditionalGeneration", "T5Attention"),
]


@pytest.mark.parametrize(("model_type", "name", "kind"), FAILING)
def test_a_module_that_cannot_be_changed_leaves_all_others_as_they_were(model_type, name, kind):
    family = next(family for family in (*FAMILIES, *SEQ2SEQ) if family.model_type == model_type)
    model = build(family, name, chunk_size_feed_forward=4)
    stubborn = [module for module in model.modules() if type(module).__name__ == kind]
    stubborn[-1].__class__ = final(type(stubborn[-1]))
    before, attention = state(model), model.config._attn_implementation
    ids = torch.arange(5, 13)[None]
    data = {"input_ids": ids} | ({"decoder_input_ids": ids} if family.cross_attention else {})
    with torch.no_grad():
        expected = model(**data)[0]
    with pytest.raises(TypeError, match=f"{kind} is final"):
        yanma.unpad(model)
    assert state(model) == before and model.config._attn_implementation == attention
    assert not is_unpadded(model)
    with torch.no_grad():
        assert torch.equal(model(**data)[0], expected)


def test_once_the_module_can_be_changed_the_model_can_be_unpadded():
    name = "BertForTokenClassification"
    stock = build(BERT, name)
    model, data = copy.deepcopy(stock), rectangle(BERT, name)
    pooler = model.bert.encoder.layer[-1].attention.output
    pooler.__class__ = final(type(pooler))
    with pytest.raises(TypeError, match="is final"):
        yanma.unpad(model)
    pooler.__class__ = type(stock.bert.encoder.layer[-1].attention.output)
    found, expected = (each(**data.kwargs).logits[data.valid] for each in (yanma.unpad(model), stock))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_interrupt_leaves_the_model_as_it_was(monkeypatch):
    model = build(BERT, "BertForTokenClassification")
    before = state(model)

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["yanma.models.unpad"], "adopt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        yanma.unpad(model)
    assert state(model) == before and not is_unpadded(model)


def test_what_was_unpadded_before_stays_so():
    """A second `unpad` that is refused undoes nothing of the first."""
    model = yanma.unpad(build(BERT, "BertForTokenClassification"))
    before = state(model)
    with pytest.raises(yanma.Unsupported, match="unpadded with other masks"):
        yanma.unpad(model, mask=yanma.masks.window(2, 2))
    assert state(model) == before and is_unpadded(model)
