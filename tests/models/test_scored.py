"""scored_loss: the numbers of the stock model on one document at a time, from logits of the scored tokens alone."""

from __future__ import annotations

import copy
import gc
import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import yanma
from models.builders import LENGTHS, TABLE, VOCABULARY, build, doubled, gradient, relative
from models.pairs import SOURCES, TARGETS, documents
from yanma import PackedBatch, Unsupported, restore, scored_loss, unpad
from yanma.models import vocabulary_loss
from yanma.models.family import Family
from yanma.models.layout import Scoring

HEADS = [
    pytest.param(family, name, id=name)
    for family in TABLE
    for name, head in family.heads.items()
    if head.scores_vocabulary
]
"""Every model of language of the table."""
BY_NAME = {param.values[1]: param.values[0] for param in HEADS}


@pytest.fixture
def narrow_chunks(monkeypatch) -> None:
    """Chunks that end within the vocabulary, the last one thinner."""
    monkeypatch.setattr(vocabulary_loss, "COLUMNS", 7)


@dataclass
class Case:
    """Documents, and labels of some of their tokens; of an encoder-decoder what is read and what is written."""

    family: Family
    name: str
    texts: list[Tensor]
    labels: list[Tensor]
    sources: list[Tensor] | None = None

    @classmethod
    def of(cls, family: Family, name: str, share: float = 0.4) -> Case:
        head = family.heads[name]
        texts = documents(TARGETS if head.decodes else LENGTHS, 1)
        draw = torch.Generator().manual_seed(2)
        truths = texts if head.loss == "next_token" else documents(tuple(map(len, texts)), 3)
        labels = [x.where(torch.rand(x.shape, generator=draw) < share, -100) for x in truths]
        return cls(family, name, texts, labels, documents(SOURCES, 4) if head.decodes else None)

    @property
    def pack(self) -> PackedBatch:
        ids = None if self.sources else [i + 40 for i in range(len(self.texts))]
        return PackedBatch.from_sequences(self.texts, ids=ids)

    @property
    def flat_labels(self) -> Tensor:
        return torch.cat(self.labels)

    def scored(self, model: nn.Module, **settings) -> yanma.Scored:
        if self.sources is None:
            return scored_loss(model, self.pack, self.flat_labels, **settings)
        read = PackedBatch.from_sequences(self.sources)
        return scored_loss(model, read, self.flat_labels, decoder=self.pack, **settings)

    def targets(self) -> Tensor:
        """(T,): what each token's logits must find, -100 where they are not scored."""
        if self.family.heads[self.name].loss != "next_token":
            return self.flat_labels
        return torch.cat([F.pad(x[1:], (0, 1), value=-100) for x in self.labels])

    def alone(self, stock: nn.Module) -> Tensor:
        """(T, V): logits of a stock model, one document at a time."""
        if self.sources is None:
            return torch.cat([stock(input_ids=x[None]).logits[0] for x in self.texts])
        pairs = zip(self.sources, self.texts, strict=True)
        return torch.cat([stock(input_ids=s[None], decoder_input_ids=t[None]).logits[0] for s, t in pairs])


@pytest.mark.parametrize(("family", "name"), HEADS)
def test_loss_and_gradient_are_those_of_one_document_at_a_time(family, name, narrow_chunks):
    """In float64, so that what remains of a difference is no rounding; some families take norms in float32."""
    case, stock = Case.of(family, name), doubled(build(family, name)).train()
    model = unpad(copy.deepcopy(stock))
    logits, targets = case.alone(stock), case.targets()
    expected = F.cross_entropy(logits, targets, ignore_index=-100, reduction="none")
    expected.sum().backward()

    scored = case.scored(model)
    scored.loss.backward()
    places = (targets != -100).nonzero()[:, 0]
    assert len(places) > 10, "there must be something to score"
    assert scored.places.equal(places) and scored.loss.dtype == torch.float64
    assert relative(scored.losses, expected[places].detach()) < 1e-6
    assert relative(scored.loss.detach(), expected.sum().detach()) < 1e-6
    assert scored.predicted.equal(logits[places].argmax(1))
    assert not scored.losses.requires_grad
    assert relative(gradient(model), gradient(stock)) < 1e-6

    model.eval()
    with torch.no_grad():
        again = case.scored(model)
    assert relative(again.losses, scored.losses) < 1e-9 and again.predicted.equal(scored.predicted)


@pytest.mark.parametrize(
    "name", ["BertForMaskedLM", "ModernBertForMaskedLM", "GPT2LMHeadModel", "BartForCausalLM"]
)
def test_float32_is_no_further_from_float64_than_all_logits_are(name, narrow_chunks):
    case, stock = Case.of(BY_NAME[name], name), build(BY_NAME[name], name).train()
    exact, model = doubled(stock), unpad(copy.deepcopy(stock))
    errors = []
    F.cross_entropy(case.alone(exact), case.targets(), reduction="sum").backward()
    F.cross_entropy(case.alone(stock), case.targets(), reduction="sum").backward()
    case.scored(model).loss.backward()
    errors = [relative(gradient(each).double(), gradient(exact)) for each in (model, stock)]
    assert errors[0] <= 2 * errors[1] + torch.finfo(torch.float32).eps


DROPPING = {
    "BertForMaskedLM": {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3},
    "DebertaV2ForMaskedLM": {"hidden_dropout_prob": 0.3},
    "DistilBertForMaskedLM": {"dropout": 0.3},
    "ModernBertForMaskedLM": {"mlp_dropout": 0.3, "embedding_dropout": 0.3},
    "GPT2LMHeadModel": {"resid_pdrop": 0.3, "embd_pdrop": 0.3},
    "T5ForConditionalGeneration": {"dropout_rate": 0.3},
    "BartForConditionalGeneration": {"dropout": 0.3},
}


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_is_that_of_a_forward_with_all_logits(name):
    case = Case.of(BY_NAME[name], name)
    model = unpad(build(BY_NAME[name], name, **DROPPING[name]).double().train())
    kwargs = {"decoder_input_ids": case.pack} if case.sources else {}
    read = PackedBatch.from_sequences(case.sources) if case.sources else case.pack
    expected = F.cross_entropy(model(read, seed=5, **kwargs).logits, case.targets(), reduction="sum")
    assert relative(case.scored(model, seed=5).loss, expected) < 1e-6
    assert relative(case.scored(model, seed=6).loss, expected) > 1e-4, "another seed drops others"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("BertForMaskedLM", {"tie_word_embeddings": False}),
        ("T5ForConditionalGeneration", {"tie_word_embeddings": False}),
        ("LlamaForCausalLM", {"tie_word_embeddings": True}),
        ("Gemma2ForCausalLM", {"final_logit_softcapping": 0.05}),
        ("Gemma3ForCausalLM", {"final_logit_softcapping": 0.05}),
        ("DebertaV2ForMaskedLM", {"legacy": False}),
        ("BertForMaskedLM", {"vocab_size": 4099}),
    ],
)
def test_ties_caps_and_other_heads_are_honoured(name, settings):
    family = BY_NAME[name]
    case, stock = Case.of(family, name), doubled(build(family, name, **settings)).train()
    model = unpad(copy.deepcopy(stock))
    expected = F.cross_entropy(case.alone(stock), case.targets(), reduction="sum")
    expected.backward()
    found = case.scored(model)
    found.loss.backward()
    assert relative(found.loss.detach(), expected.detach()) < 1e-6
    assert relative(gradient(model), gradient(stock)) < 1e-6


def test_a_tied_tables_gradient_comes_whole_to_its_hooks_and_is_added_to_what_was_there():
    case = Case.of(BY_NAME["BertForMaskedLM"], "BertForMaskedLM")
    stock = doubled(build(case.family, case.name))
    model, arrived = unpad(copy.deepcopy(stock)), []
    model.get_input_embeddings().weight.register_hook(arrived.append)
    for _ in range(2):
        F.cross_entropy(case.alone(stock), case.targets(), reduction="sum").backward()
        loss = case.scored(model).loss
        loss.backward(retain_graph=True)
    loss.backward()
    once = stock.get_input_embeddings().weight.grad / 2
    assert [relative(grad, once) < 1e-9 for grad in arrived] == [True] * 3
    assert relative(gradient(model), 1.5 * gradient(stock)) < 1e-9
    (alone,) = torch.autograd.grad(case.scored(model).loss, [model.get_input_embeddings().weight])
    assert relative(alone, once) < 1e-9
    assert not model.get_input_embeddings().weight.grad.is_sparse


def test_padding_ids_among_the_tokens_get_no_gradient_as_embeddings():
    case = Case.of(BY_NAME["BertForMaskedLM"], "BertForMaskedLM")
    case.texts[0] = case.texts[0].index_fill(0, torch.tensor([2, 5]), 0)
    stock = doubled(build(case.family, case.name))
    model = unpad(copy.deepcopy(stock))
    F.cross_entropy(case.alone(stock), case.targets(), reduction="sum").backward()
    case.scored(model).loss.backward()
    assert relative(gradient(model), gradient(stock)) < 1e-6


def test_a_table_without_a_padding_id_learns_from_every_token():
    case = Case.of(BY_NAME["GPT2LMHeadModel"], "GPT2LMHeadModel")
    case.texts[0] = case.texts[0].index_fill(0, torch.tensor([2, 5]), 1)
    stock = doubled(build(case.family, case.name))
    assert stock.get_input_embeddings().padding_idx is None, "or this checks nothing"
    model = unpad(copy.deepcopy(stock))
    F.cross_entropy(case.alone(stock), case.targets(), reduction="sum").backward()
    case.scored(model).loss.backward()
    assert relative(gradient(model), gradient(stock)) < 1e-6


@pytest.mark.parametrize("name", ["BartForConditionalGeneration", "MarianMTModel"])
def test_what_encoder_decoders_add_to_their_logits_is_added(name):
    case, stock = Case.of(BY_NAME[name], name), doubled(build(BY_NAME[name], name))
    stock.final_logits_bias.copy_(torch.linspace(-3, 3, VOCABULARY))
    model = unpad(copy.deepcopy(stock))
    expected = F.cross_entropy(case.alone(stock), case.targets(), reduction="sum")
    assert relative(case.scored(model).loss, expected) < 1e-6


@pytest.mark.parametrize("name", ["BertForMaskedLM", "GPT2LMHeadModel", "T5ForConditionalGeneration"])
@pytest.mark.parametrize("count", [0, 1])
def test_none_or_one_token_scored(name, count):
    case = Case.of(BY_NAME[name], name)
    labels = torch.full_like(case.flat_labels, -100)
    labels[3 : 3 + count] = 9
    case.labels = list(labels.split([len(x) for x in case.texts]))
    stock = build(BY_NAME[name], name).train()
    model = unpad(copy.deepcopy(stock))
    scored = case.scored(model)
    scored.loss.backward()
    assert len(scored.losses) == len(scored.predicted) == len(scored.places) == count
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    if count == 0:
        assert scored.loss == 0 and all(grad is None or not grad.any() for grad in grads)
        assert any(grad is not None for grad in grads), "a wrapper that waits for gradients gets them"
    else:
        F.cross_entropy(case.alone(stock), case.targets(), reduction="sum").backward()
        assert relative(gradient(model), gradient(stock)) < 1e-5


def test_every_token_scored():
    case = Case.of(BY_NAME["BertForMaskedLM"], "BertForMaskedLM", share=2.0)
    stock = doubled(build(case.family, case.name))
    expected = F.cross_entropy(case.alone(stock), case.targets(), reduction="none")
    scored = case.scored(unpad(stock))
    assert relative(scored.losses, expected.detach()) < 1e-9
    assert scored.places.equal(torch.arange(sum(LENGTHS)))


def test_the_first_token_of_a_causal_document_is_not_scored():
    case = Case.of(BY_NAME["LlamaForCausalLM"], "LlamaForCausalLM", share=2.0)
    scored = case.scored(unpad(build(case.family, case.name)))
    lasts = torch.tensor(LENGTHS).cumsum(0) - 1
    assert not torch.isin(scored.places, lasts).any() and len(scored.places) == sum(LENGTHS) - len(LENGTHS)


def test_only_scored_tokens_go_through_the_head_and_the_end_of_the_last_layer(monkeypatch):
    case = Case.of(BY_NAME["BertForMaskedLM"], "BertForMaskedLM", share=0.2)
    model = unpad(build(case.family, case.name))
    widths = {}
    for name, module in model.named_modules():
        if name.endswith(("1.intermediate", "0.intermediate", "predictions.transform")):
            module.register_forward_hook(lambda m, args, out, name=name: widths.update({name: out.shape[1]}))
    scored = case.scored(model)
    few, every = len(scored.places), sum(LENGTHS)
    assert few < every / 2
    assert [widths[name] for name in sorted(widths)] == [every, few, few], widths
    assert model(case.pack).logits.shape == (every, VOCABULARY), "other forwards give all logits"


@pytest.mark.parametrize("name", ["BertForMaskedLM", "GPT2LMHeadModel"])
def test_a_documents_loss_has_the_same_bits_in_any_batch(name):
    case = Case.of(BY_NAME[name], name)
    model = unpad(build(BY_NAME[name], name), exact="bits")
    together = case.scored(model)
    ends = torch.tensor(LENGTHS).cumsum(0)
    seen = 0
    for i, (text, labels) in enumerate(zip(case.texts, case.labels, strict=True)):
        alone = scored_loss(model, PackedBatch.from_sequences([text]), labels)
        mine = (together.places >= ends[i] - len(text)) & (together.places < ends[i])
        assert alone.losses.equal(together.losses[mine]) and alone.predicted.equal(together.predicted[mine])
        seen += len(alone.losses)
    assert seen == len(together.losses) > 10


@pytest.mark.parametrize("name", ["BertForMaskedLM", "GPT2LMHeadModel", "T5ForConditionalGeneration"])
def test_nothing_of_a_step_is_kept_when_it_is_over(name):
    """A graph that holds itself by its embeddings is a leak that Python's collector does not find."""
    case = Case.of(BY_NAME[name], name)
    model = unpad(build(case.family, name).train())
    scored = case.scored(model)
    scored.loss.backward()
    kept = [weakref.ref(parameter) for parameter in model.parameters()]
    del model, scored
    gc.collect()
    alive = [tuple(ref().shape) for ref in kept if ref() is not None]
    assert not alive, f"parameters that outlive their model: {alive}"


def test_restored_models_are_stock_again():
    model = build(BY_NAME["BertForMaskedLM"], "BertForMaskedLM")
    kinds = [type(module) for module in model.modules()]
    assert [type(module) for module in restore(unpad(model)).modules()] == kinds


def test_mixed_precision_computes_products_in_bf16_and_the_loss_in_float32():
    case = Case.of(BY_NAME["BertForMaskedLM"], "BertForMaskedLM")
    model = unpad(build(case.family, case.name).train())
    exact = case.scored(model).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scored = case.scored(model)
    scored.loss.backward()
    assert scored.loss.dtype == scored.losses.dtype == torch.float32
    assert 0 < relative(scored.loss.detach(), exact.detach()) < 1e-2
    assert all(p.grad is None or p.grad.dtype == p.dtype for p in model.parameters())


# -- refusals ----------------------------------------------------------------------------------------------------------


def scoring_error(error: type[Exception], words: str, name: str, **change) -> None:
    case = Case.of(BY_NAME.get(name) or _family_of(name), name)
    model = unpad(build(case.family, name))
    given = {"batch": case.pack, "labels": case.flat_labels} | change
    with pytest.raises(error, match=words):
        scored_loss(model, given.pop("batch"), given.pop("labels"), **given)


def _family_of(name: str) -> Family:
    return next(family for family in TABLE if name in family.heads)


def test_wrong_labels_are_refused():
    wrong = torch.full((sum(LENGTHS),), VOCABULARY)
    scoring_error(
        ValueError, "a label is 100; it must be one of the 100 tokens", "BertForMaskedLM", labels=wrong
    )
    one = torch.full_like(wrong, -100).index_fill(0, torch.tensor([7]), -1)
    scoring_error(ValueError, "a label is -1; it must be one of the 100", "BertForMaskedLM", labels=one)
    scoring_error(ValueError, "labels is .3,.; the pack has 51", "BertForMaskedLM", labels=wrong[:3])
    scoring_error(ValueError, "labels are torch.float32", "BertForMaskedLM", labels=wrong.float())


def test_wrong_arguments_are_refused():
    scoring_error(
        ValueError, "max_logits_mib is 3; it must be at least 4", "BertForMaskedLM", max_logits_mib=3
    )
    scoring_error(Unsupported, "gives no output_hidden_states", "BertForMaskedLM", output_hidden_states=True)
    scoring_error(ValueError, "BertForMaskedLM has no decoder", "BertForMaskedLM", decoder=documents_pack())
    scoring_error(ValueError, "T5ForConditionalGeneration needs decoder", "T5ForConditionalGeneration")
    scoring_error(
        Unsupported, "BertForTokenClassification has no logits of a vocab", "BertForTokenClassification"
    )
    scoring_error(Unsupported, "ElectraForPreTraining has no logits of a vocab", "ElectraForPreTraining")


def documents_pack() -> PackedBatch:
    return PackedBatch.from_sequences(documents((3,), 0))


def test_models_that_are_not_unpadded_are_refused():
    case = Case.of(BY_NAME["BertForMaskedLM"], "BertForMaskedLM")
    model = build(case.family, case.name)
    with pytest.raises(Unsupported, match=r"after yanma\.unpad.*got BertForMaskedLM"):
        case.scored(model)
    with pytest.raises(Unsupported, match="got Sequential"):
        case.scored(nn.Sequential(unpad(model)))


def test_peft_adapters_of_the_body_are_scored_and_of_the_last_layer_refused():
    peft = pytest.importorskip("peft")
    case = Case.of(BY_NAME["BertForMaskedLM"], "BertForMaskedLM")
    whole = case.scored(unpad(build(case.family, case.name))).loss
    model = unpad(
        peft.get_peft_model(build(case.family, case.name), peft.LoraConfig(target_modules=["query"]))
    )
    scored = case.scored(model)
    scored.loss.backward()
    assert relative(scored.loss, whole) < 1e-6
    assert any(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if "lora_B" in n)

    changed = peft.get_peft_model(build(case.family, case.name), peft.LoraConfig(target_modules=["decoder"]))
    with pytest.raises(Unsupported, match="last layer of this BertForMaskedLM"):
        case.scored(unpad(changed))


def test_a_model_in_distributed_data_parallel_has_the_same_loss_and_gradient(tmp_path):
    case = Case.of(BY_NAME["BertForMaskedLM"], "BertForMaskedLM")
    alone = unpad(build(case.family, case.name).train())
    shared = copy.deepcopy(alone)
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(shared)
        losses = [case.scored(model).loss for model in (alone, wrapped)]
        for loss in losses:
            loss.backward()
    finally:
        torch.distributed.destroy_process_group()
    assert losses[0] == losses[1] and gradient(alone).any() and gradient(alone).equal(gradient(shared))


def test_a_kept_row_is_known_by_its_place():
    scoring = Scoring(torch.tensor([1, 3]))
    hidden = torch.arange(4.0)[None, :, None]
    kept = scoring.keep(hidden)
    assert kept.flatten().tolist() == [1, 3] and scoring.keep(kept) is kept
