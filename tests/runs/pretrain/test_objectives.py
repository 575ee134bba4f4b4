"""One step of every objective: its loss and gradient are those of stock models, one block at a time, in float64."""

import pytest
import torch
import transformers
from accelerate import Accelerator
from torch.nn import functional as F

from yanma.corruption import Corrupted, Plan, RunningLoss, electra, replaced_tokens
from yanma.models import restore
from yanma.models.linear import linear
from yanma.objectives import Compute, Packed, Padded
from yanma.objectives import electra as rtd
from yanma.runs.pretrain_setup import set_up
from yanma.runs.stepper import Place, Stepper
from yanma.runs.trainee import GENERATOR

OBJECTIVES = ("mlm", "rtd", "span-corruption", "causal-lm")
PLACE = Place(epoch=3, progress=0.25)
CPU = torch.device("cpu")


@pytest.fixture
def ready(config):
    """A run that is set up; without dropout unless that is given."""

    def make(objective, **flags):
        return set_up(config(objective, **({"dropout": 0} | flags)), CPU, lambda words: None)

    return make


def a_step(ready):
    step = next(iter(ready.order.steps(0)))
    assert len({len(block.input_ids) for block in step}) >= 2, "blocks of several lengths"
    return step


def gradient(ready, step, **settings):
    """Loss and the gradient of every parameter."""
    accelerator = Accelerator(mixed_precision="no", cpu=True)
    packed = Packed(settings.pop("max_batch_tokens", 120))
    how = {"seed": 0, "bf16": False} | settings
    stepper = Stepper(ready.objective, ready.model, packed, accelerator, **how)
    ready.model.zero_grad()
    ready.model.train()
    loss = stepper.gradient(step, PLACE)
    return float(loss), {name: p.grad.clone() for name, p in ready.model.named_parameters()}, stepper


def stock(ready, folder):
    """The same models as transformers has them, in float64."""
    ready.saved.save_pretrained(folder)
    model = type_of(ready.saved).from_pretrained(folder).double()
    if not ready.within:
        return model
    ready.within[GENERATOR].save_pretrained(folder / GENERATOR)
    generator = transformers.ElectraForMaskedLM.from_pretrained(folder / GENERATOR).double()
    generator.electra.embeddings = model.electra.embeddings
    generator.generator_lm_head.weight = model.electra.embeddings.word_embeddings.weight
    both = torch.nn.Module()
    both.generator, both.discriminator = generator, model
    return both


def type_of(model):
    return getattr(transformers, model.config.architectures[0])


def one_at_a_time(objective, goal, model, block, words):
    """(sum, count) of each term of one block."""
    ids = block.input_ids.long()
    here = {"seed": 0, "epoch": PLACE.epoch}
    if goal == "causal-lm":
        logits = model(ids[None]).logits[0]
        return [(F.cross_entropy(logits[:-1], ids[1:], reduction="sum"), len(ids) - 1)]
    if goal == "span-corruption":
        made = objective.denoise(ids, [len(ids)], examples=[block.key], **here)
        logits = model(input_ids=made.input_ids[None], labels=made.labels[None]).logits[0]
        return [(F.cross_entropy(logits, made.labels, reduction="sum"), len(made.labels))]
    hidden = objective.plan(ids, example=block.key, words=words, progress=PLACE.progress, **here)
    scored = hidden.labels != -100
    finder = model.generator if goal == "rtd" else model
    logits = finder(hidden.input_ids[None]).logits[0][scored]
    terms = [(F.cross_entropy(logits, hidden.labels[scored], reduction="sum"), int(scored.sum()))]
    if goal == "rtd":
        vocabulary = objective.plan.vocabulary
        read = replaced_tokens(
            Corrupted(*hidden), logits, [len(ids)], vocabulary, examples=[block.key], **here
        )
        judged = read.labels != -100
        scores = model.discriminator(read.input_ids[None]).logits[0][judged]
        answers = read.labels[judged].double()
        terms.append(
            (F.binary_cross_entropy_with_logits(scores, answers, reduction="sum"), int(judged.sum()))
        )
    return terms


@pytest.mark.parametrize(
    ("goal", "flags"),
    [
        ("mlm", {}),
        ("mlm", {"unit": "word", "rate": "0.4->0.2 cosine", "replacement": "spanbert"}),
        ("mlm", {"unit": "span", "rate": "0.1..0.5", "blocks": "join"}),
        ("rtd", {"unit": "word"}),
        ("span-corruption", {"rate": 0.3}),
        ("causal-lm", {}),
        ("causal-lm", {"from_scratch": "llama-tiny"}),
    ],
)
def test_a_step_has_the_gradient_of_stock_models_one_block_at_a_time(ready, tmp_path, goal, flags):
    made = ready(goal, **flags)
    step = a_step(made)
    loss, ours, _ = gradient(made, step)
    oracle = stock(made, tmp_path / "stock")
    oracle.train()
    terms = [one_at_a_time(made.objective, goal, oracle, block, block.words) for block in step]
    sums = [sum(term[0] for term in kind) for kind in zip(*terms, strict=True)]
    counts = [sum(term[1] for term in kind) for kind in zip(*terms, strict=True)]
    assert min(counts) > 5, "there is something to score"
    weights = (1.0, 50.0) if goal == "rtd" else (1.0,)
    expected = sum(w * s / n for w, s, n in zip(weights, sums, counts, strict=True))
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    theirs = {name: parameter.grad for name, parameter in oracle.named_parameters()}
    assert theirs.keys() == ours.keys(), "the same parameters, shared ones once"
    difference = sum(float((ours[name].double() - grad).square().sum()) for name, grad in theirs.items())
    size = sum(float(grad.square().sum()) for grad in theirs.values())
    assert size > 0 and (difference / size) ** 0.5 < 1e-5, f"relative difference {(difference / size) ** 0.5}"


@pytest.mark.parametrize("goal", ["mlm", "causal-lm"])
def test_the_true_token_of_each_loss_is_known(ready, goal):
    made = ready(goal)
    made.model.eval()
    examples = made.objective.prepare(a_step(made), epoch=0, progress=0.0).examples
    tokens = []
    for batching in (Packed(4096), Padded(4096, made.config.model.max_length, 0)):
        if isinstance(batching, Padded):
            restore(made.model)
        tokens.append(made.objective.terms(Compute(made.model, batching), examples).tokens.tolist())
    labels = [example.targets[1:] if goal == "causal-lm" else example.targets for example in examples]
    expected = [token for own in labels for token in own.tolist() if token != -100]
    assert tokens == [expected, expected] and len(set(expected)) > 5


@pytest.mark.parametrize("goal", OBJECTIVES)
def test_bf16_is_near_float32(ready, goal):
    made = ready(goal)
    exact, rough = (gradient(made, a_step(made), bf16=bf16)[0] for bf16 in (False, True))
    assert exact != rough, "bf16 was at work"
    assert rough == pytest.approx(exact, rel=2e-2)


def test_a_generator_makes_its_logits_a_few_rows_at_a_time(ready, monkeypatch):
    made = ready("rtd")
    whole = gradient(made, a_step(made), max_batch_tokens=10_000)
    rows = []

    def few(x, weight, bias):
        rows.append(len(x))
        return linear(x, weight, bias)

    monkeypatch.setattr(rtd, "linear", few)
    monkeypatch.setattr(electra, "_BLOCK_NUMBERS", 0)
    again = gradient(made, a_step(made), max_batch_tokens=10_000)
    assert len(rows) > 1 and max(rows) == electra._LEAST_ROWS
    assert again[0] == whole[0] and all(torch.equal(again[1][name], one) for name, one in whole[1].items())


@pytest.mark.parametrize("goal", OBJECTIVES)
def test_how_a_step_is_cut_into_packs_moves_no_gradient(ready, goal):
    made = ready(goal, dropout=0.1)
    step = a_step(made)
    whole, many = (gradient(made, step, max_batch_tokens=bound) for bound in (10_000, 60))
    assert whole[0] == pytest.approx(many[0], rel=1e-6)
    for name, one in whole[1].items():
        torch.testing.assert_close(many[1][name], one, rtol=1e-4, atol=1e-6 * float(one.abs().max()) + 1e-9)
    other = gradient(made, step, seed=1)
    assert other[0] != pytest.approx(whole[0], rel=1e-6), "dropout was at work: another seed drops others"


def test_hard_tokens_are_hidden_by_what_their_losses_were(ready):
    made = ready("mlm", hard_tokens=True)
    step = a_step(made)
    start = made.losses
    assert isinstance(start, RunningLoss)
    *_, stepper = gradient(made, step, losses=start)
    assert (
        stepper.losses is not None
        and 0 < int(stepper.losses.seen.sum()) < made.objective.plan.vocabulary.size
    )
    hardest = RunningLoss(torch.zeros_like(start.values), torch.ones_like(start.seen))
    common = int(torch.cat([block.input_ids for block in step]).long().bincount()[5:].argmax()) + 5
    hardest.values[common] = 9.0
    plan: Plan = made.objective.plan

    def times_hidden(losses):
        found = [
            plan(block.input_ids.long(), seed=0, epoch=epoch, example=block.key, losses=losses).labels
            == common
            for block in step
            for epoch in range(40)
        ]
        return sum(int(hidden.sum()) for hidden in found)

    assert times_hidden(hardest) > 1.5 * times_hidden(None), "a hard token is hidden more often"
