"""Several objectives over one trunk: each has its weight in the gradient, whatever shares a step or a pack."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

from objectives.contrastive import Contrastive, step_gradient
from yanma import unpad
from yanma.data.examples import IGNORE, Example, Tokens
from yanma.errors import Unsupported
from yanma.objectives import Packed, SequenceClassification, TokenClassification
from yanma.objectives.several import Of, Several
from yanma.objectives.token_classification import WordTags

TOPICS, TAGS = ("card", "money", "none"), ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
OBJECTIVES = {"topic": SequenceClassification(TOPICS), "names": TokenClassification(TAGS)}
SHARES = {"topic": 1.5, "names": 0.25}
SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def models(dropout=0.0, prepare=unpad):
    """A head for topics and one for names, and one BERT under both."""
    torch.manual_seed(0)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    own = {"intermediate_size": 64, "initializer_range": 0.2, **SIZES, **rates}
    topic = prepare(BertForSequenceClassification(BertConfig(**own, num_labels=len(TOPICS))))
    names = prepare(BertForTokenClassification(BertConfig(**own, num_labels=len(TAGS))))
    names.bert = topic.bert
    return nn.ModuleDict({"topic": topic, "names": names})


def topics(count=6):
    draw = torch.Generator().manual_seed(1)
    lengths = (4, 9, 2, 15, 9, 6)[:count]
    return [
        Example(key, (Tokens(torch.randint(5, 50, (n,), generator=draw)),), key % 3)
        for key, n in enumerate(lengths)
    ]


def names(count=4):
    """Their keys are those of the topics: data sets count from 0 each."""
    draw = torch.Generator().manual_seed(2)
    made = []
    for key, length in enumerate((7, 3, 12, 5)[:count]):
        labels = torch.randint(0, len(TAGS), (length,), generator=draw).tolist()
        labels[0] = labels[-1] = IGNORE
        ids = Tokens(torch.randint(5, 50, (length,), generator=draw))
        made.append(Example(key, (ids,), WordTags(tuple(labels), tuple(range(1, length - 1)), ())))
    return made


def mixed(some, others):
    """Items of both, one after the other in turns."""
    items = [Of("topic", item) for item in some] + [Of("names", item) for item in others]
    return sorted(items, key=lambda of: of.item.num_tokens)


def own_mean_losses(model, some, others):
    """Of each objective the mean loss over its own items, by stock models in float64, a text at a time."""
    double = copy.deepcopy(model).double()
    logits = [double["topic"](input_ids=e.tokens.input_ids[None]).logits for e in some]
    losses = {"topic": F.cross_entropy(torch.cat(logits), torch.tensor([e.targets for e in some]))}
    if others:
        logits = [double["names"](input_ids=e.tokens.input_ids[None]).logits[0] for e in others]
        labels = torch.tensor([label for e in others for label in e.targets.labels])
        losses["names"] = F.cross_entropy(torch.cat(logits), labels, ignore_index=IGNORE)
    return double, losses


def check(theirs, ours):
    assert theirs.keys() == ours.keys(), "the trunk's parameters once"
    largest = max(float(grad.abs().max()) for grad in theirs.values() if grad is not None)
    for name, grad in theirs.items():
        if grad is None:
            assert ours[name] is None, name
        else:
            torch.testing.assert_close(ours[name].double(), grad, rtol=1e-4, atol=1e-6 * largest, msg=name)


@pytest.mark.parametrize("max_batch_tokens", [1, 20, 4096])
def test_the_gradient_is_the_weighted_sum_of_each_objectives_own(max_batch_tokens):
    some, others, model = topics(), names(), models()
    double, losses = own_mean_losses(models(prepare=lambda stock: stock), some, others)
    expected = sum(SHARES[name] * loss for name, loss in losses.items())
    expected.backward()
    packs = Packed(max_batch_tokens)
    loss, ours = step_gradient(Several(OBJECTIVES, SHARES), model, mixed(some, others), batching=packs)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    check({name: p.grad for name, p in double.named_parameters()}, ours)
    weight = "topic.bert.encoder.layer.0.attention.self.query.weight"
    assert float(ours[weight].abs().max()) > 1e-3, "the trunk learns"


def test_an_objective_has_its_share_however_many_items_are_its_own():
    """Of twice the items of one objective, each as often, the gradient is what it was."""
    model, several = models(), Several(OBJECTIVES, SHARES)
    _, once = step_gradient(several, model, mixed(topics(), names()))
    once = {name: None if grad is None else grad.double() for name, grad in once.items()}
    _, twice = step_gradient(several, model, mixed(topics() * 2, names()))
    check(once, twice)


def test_dropout_does_not_depend_on_the_packs_either():
    model, several, items = models(dropout=0.3), Several(OBJECTIVES, SHARES), mixed(topics(), names())
    whole, one = step_gradient(several, model, items)
    one = {name: None if grad is None else grad.double() for name, grad in one.items()}
    cut, many = step_gradient(several, model, items, batching=Packed(20))
    assert cut == pytest.approx(whole, rel=1e-5)
    check(one, many)
    assert step_gradient(several, models(), items)[0] != pytest.approx(whole, rel=1e-3), "dropout was at work"


def test_a_step_may_have_items_of_one_objective_alone():
    some, model = topics(), models()
    double, losses = own_mean_losses(models(prepare=lambda stock: stock), some, [])
    (SHARES["topic"] * losses["topic"]).backward()
    loss, ours = step_gradient(Several(OBJECTIVES, SHARES), model, mixed(some, []))
    assert loss == pytest.approx(SHARES["topic"] * float(losses["topic"].detach()), rel=1e-5)
    check({name: p.grad for name, p in double.named_parameters()}, ours)
    assert ours["names.classifier.weight"] is None, "so that the optimiser leaves it alone"
    assert ours["topic.classifier.weight"] is not None


def test_terms_are_named_by_objective():
    several = Several(OBJECTIVES, SHARES)
    assert several.names == ("topic: loss", "names: loss") and several.weights == (1.5, 0.25)
    prepared = several.prepare(mixed(topics(), names()), epoch=0, progress=0.0)
    assert prepared.counts == (6, 5 + 1 + 10 + 3)
    packs = list(prepared.packs(Packed(4096)))
    assert [{example.objective for example in pack} for pack in packs] == [{"topic"}, {"names"}]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"topic": 1.0}, "objectives are topic, names; weights are given for topic"),
        ({"topic": 1.0, "name": 1.0}, "objectives are topic, names; weights are given for topic, name"),
        ({**SHARES, "more": 1.0}, "weights are given for topic, names, more"),
        ({"topic": 1.0, "names": -1.0}, "the weight of names is -1.0; it must be a number from 0 on"),
        ({"topic": float("nan"), "names": 1.0}, "the weight of topic is nan"),
        ({"topic": float("inf"), "names": 1.0}, "the weight of topic is inf"),
    ],
)
def test_wrong_weights_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        Several(OBJECTIVES, shares)


def test_what_cannot_be_summed_is_refused():
    with pytest.raises(ValueError, match="objectives are none"):
        Several({}, {})
    with pytest.raises(Unsupported, match="texts has a loss of all examples of a step at once"):
        Several({"texts": Contrastive()}, {"texts": 1.0})


def test_an_item_of_no_objective_is_refused():
    items = [*mixed(topics(), []), Of("topics", topics()[2])]
    with pytest.raises(ValueError, match="item 2 is of 'topics'; the objectives are topic, names"):
        step_gradient(Several(OBJECTIVES, SHARES), models(), items)
