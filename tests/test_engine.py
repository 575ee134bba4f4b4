"""The engine's answers are the model's, in order and with the same bits in any company; what fails fails alone."""

import random

import pytest
import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)

from yanma import unpad
from yanma.data.examples import Example, Tokens
from yanma.engine import Engine
from yanma.errors import DataError, Unsupported
from yanma.loading.tokenizer import learn_tokenizer
from yanma.objectives import Packed, Padded, SequenceClassification

CONFIG = BertConfig(
    vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
)
WIDE = BertConfig(
    vocab_size=50,
    hidden_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=200,
    max_position_embeddings=64,
    num_labels=5,
    initializer_range=0.3,  # so that texts differ in their outputs, and an error in one shows
)
REQUESTS = [[2, 7, 3], [2, 8, 9, 10, 3], [2, 3], [2, 5, 3]]
LENGTHS = (5, 1, 12, 7, 1, 40, 2, 5, 64, 3, 9, 33, 1, 17)
HEADS = (BertForSequenceClassification, BertForTokenClassification)


def stock(head, config=CONFIG):
    torch.manual_seed(0)
    return head(config).eval()


def requests(lengths=LENGTHS):
    """Token ids, all of them other ones."""
    draw = random.Random(0)
    return [[draw.randrange(5, 50) for _ in range(length)] for length in lengths]


def values(engine, asked, *how):
    return [answer.result() for answer in engine.run(asked, *how)]


def close(answer, expected):
    """Up to rounding, which grows with the largest logit."""
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def same_bits(one, other):
    assert len(one) == len(other)
    return all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    ("prepare", "batching"),
    [(unpad, None), (lambda model: model, Padded(12, 6, 0))],
    ids=["packed", "padded"],
)
def test_a_model_without_a_head_answers_with_its_last_hidden_states(prepare, batching):
    engine = Engine(prepare(stock(BertModel)), batching=batching)
    answers = [answer.result() for answer in engine.run(REQUESTS, 12)]
    with torch.no_grad():
        alone = [stock(BertModel)(torch.tensor([ids])).last_hidden_state[0] for ids in REQUESTS]
    for answer, expected in zip(answers, alone, strict=True):
        torch.testing.assert_close(answer, expected, rtol=1e-5, atol=1e-6)


def test_decode_is_given_the_hidden_states_of_its_pack():
    seen = []

    def pooled(hidden, pack):
        seen.append((tuple(hidden.shape), [example.num_tokens for example in pack]))
        return [part.mean(0) for part in hidden.split([example.num_tokens for example in pack])]

    answers = Engine(unpad(stock(BertModel)), decode=pooled).run(REQUESTS)
    assert seen == [((13, 32), [5, 3, 3, 2])], "one pack, the longest first"
    with torch.no_grad():
        expected = stock(BertModel)(torch.tensor([REQUESTS[1]])).last_hidden_state[0].mean(0)
    torch.testing.assert_close(answers[1].result(), expected, rtol=1e-5, atol=1e-6)


def test_a_head_that_scores_tokens_still_answers_with_logits():
    answers = Engine(unpad(stock(BertForTokenClassification))).run(REQUESTS)
    assert [tuple(answer.result().shape) for answer in answers] == [(3, 2), (5, 2), (2, 2), (3, 2)]


def test_a_head_that_gives_neither_is_refused_by_name():
    (answer,) = Engine(unpad(stock(BertForQuestionAnswering))).run(REQUESTS[:1])
    with pytest.raises(Unsupported, match="start_logits, end_logits"):
        answer.result()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("budget", [1, 40, 4096])
@pytest.mark.parametrize("padded", [False, True])
def test_answers_come_in_the_order_of_the_requests_and_are_those_of_the_stock_model(head, budget, padded):
    asked, model = requests(), stock(head, WIDE)
    with torch.no_grad():
        alone = [model(torch.tensor([ids])).logits[0] for ids in asked]
    engine = Engine(model, batching=Padded(200, 64, 0)) if padded else Engine(unpad(model))
    for ids, answer, expected in zip(asked, values(engine, asked, budget), alone, strict=True):
        assert answer.shape == expected.shape, f"{len(ids)} tokens"
        close(answer, expected)
    assert not torch.allclose(alone[0].mean(), alone[7].mean(), atol=1e-3), "texts of one length differ"


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("bf16", [False, True])
def test_an_answer_has_the_same_bits_whatever_else_is_asked(head, bf16):
    asked, engine = requests(), Engine(unpad(stock(head, WIDE)), bf16=bf16)
    together = values(engine, asked)
    order = random.Random(1).sample(range(len(asked)), len(asked))
    shuffled = values(engine, [asked[place] for place in order], 100)
    companies = {
        "each alone": [values(engine, [ids])[0] for ids in asked],
        "packs of a few": values(engine, asked, 50),
        "another order": [shuffled[order.index(place)] for place in range(len(asked))],
        "many more": values(engine, asked + asked[::-1] + requests([30] * 9))[: len(asked)],
    }
    differ = [name for name, others in companies.items() if not same_bits(together, others)]
    assert not differ, f"other bits with {differ}"
    if bf16:
        assert not same_bits(together, values(Engine(engine.model), asked)), "bfloat16 was at work"


def test_what_a_task_decodes_has_the_same_bits_whatever_else_is_asked():
    task = SequenceClassification(("a", "b", "c", "d", "e"))
    engine = Engine(unpad(stock(BertForSequenceClassification, WIDE)), decode=task.decode)
    together = values(engine, requests())
    assert together == [values(engine, [ids])[0] for ids in requests()]
    assert len({answer.probability for answer in together}) == len(LENGTHS)


BROKEN = {
    "unknown token": ([2, 50, 3], "token 50; the model knows those from 0 to 49"),
    "negative token": ([2, -100, 3], "token -100; the model knows"),
    "empty": ([], "no tokens in it"),
    "no sequence": (Example(0, (), None, "a.jsonl:7"), "a.jsonl:7: no tokens in it"),
    "too long": ([7] * 61, "61 tokens; at most 60 are read: cut it"),
    "text": ("the card", "it is a text, and the engine has no tokenizer; give it one, or token ids"),
    "nothing": (None, "neither a text nor token ids"),
    "a number": (7, "token ids are integers, in one row; got torch.int64 of shape ()"),
    "no integers": ([2.0, 3.0], "token ids are integers, in one row; got torch.float32"),
    "words": (["the", "card"], "neither a text nor token ids"),
    "a rectangle": (torch.ones(2, 3, dtype=torch.int64), "in one row; got torch.int64 of shape (2, 3)"),
}


@pytest.mark.parametrize("padded", [False, True])
def test_a_request_that_cannot_be_computed_fails_alone_and_is_told_why(padded):
    model = stock(BertForSequenceClassification, WIDE)
    batching = Padded(4096, 64, 0) if padded else Packed(4096)
    engine = Engine(batching.prepare(model), max_length=60, batching=batching)
    asked = [ids for ids in requests() if len(ids) <= 60]
    whole = values(engine, asked)
    mixed = [each for pair in zip(asked, BROKEN.values(), strict=False) for each in (pair[0], pair[1][0])]
    told = []
    answers = engine.run(mixed, told=told.append)
    assert len(answers) == 2 * len(BROKEN) == told[-1], "all are counted"
    for answer, expected in zip(answers[::2], whole, strict=False):
        close(answer.result(), expected)
        assert padded or torch.equal(answer.result(), expected)
    for place, (name, (_, message)) in enumerate(BROKEN.items()):
        error = answers[2 * place + 1].error
        assert isinstance(error, DataError) and message in str(error), f"{name}: {error!r}"
        where = "a.jsonl:7: " if name == "no sequence" else f"request {2 * place + 1}: "
        assert str(error).startswith(where)
        with pytest.raises(DataError):
            answers[2 * place + 1].result()
    assert all(answer.error is not None for answer in engine.run([broken for broken, _ in BROKEN.values()]))
    assert engine.run([]) == []


def test_what_the_model_itself_refuses_fails_alone_at_the_cost_of_a_few_packs(monkeypatch):
    engine, packs = Engine(unpad(stock(BertForTokenClassification, WIDE))), []
    genuine = Packed.logits

    def counted(self, model, pack, **how):
        packs.append(len(pack))
        return genuine(self, model, pack, **how)

    asked = requests([9] * 32)
    whole = values(engine, asked)
    monkeypatch.setattr(Packed, "logits", counted)
    answers = engine.run([*asked, [7] * 65])
    assert "65 tokens; this model has 64 positions" in str(answers[-1].error)
    assert same_bits([answer.result() for answer in answers[:-1]], whole)
    assert packs[0] == 33 and len(packs) < 14, f"half by half: {packs}"


@pytest.mark.parametrize("fault", ["raises", "too few"])
def test_a_decoder_that_fails_of_one_request_fails_of_that_one_alone(fault):
    def decode(logits, pack):
        if any(7 in example.tokens.input_ids for example in pack):
            if fault == "raises":
                raise KeyError("seven")
            return logits.argmax(-1).tolist()[:-1]
        return logits.argmax(-1).tolist()

    asked = [[2, 5, 3], [2, 7, 3], [9], [2, 8, 7, 3], [2, 9, 9, 3]]
    engine = Engine(unpad(stock(BertForSequenceClassification)), decode=decode)
    answers = engine.run(asked)
    assert [answer.error is None for answer in answers] == [True, False, True, False, True]
    expected = {"raises": "seven", "too few": "decode made 0 results of 1 requests"}[fault]
    assert expected in str(answers[1].error) and expected in str(answers[3].error)


def test_a_decoder_may_answer_with_none():
    engine = Engine(unpad(stock(BertModel)), decode=lambda hidden, pack: [None] * len(pack))
    assert values(engine, REQUESTS) == [None] * 4


def test_texts_token_ids_and_examples_are_answered_side_by_side_in_few_packs(monkeypatch):
    tokenizer = learn_tokenizer(lambda: iter(["the red card is in the bank"] * 3))
    model = unpad(stock(BertForTokenClassification))
    packs = []
    engine = Engine(model, tokenizer, lambda logits, pack: packs.append(len(pack)) or [*range(len(pack))])
    texts = ["the red card", "bank", "is in the bank"]
    ids = tokenizer(texts)["input_ids"]
    examples = [Example(0, (Tokens(tuple(own)),), None) for own in ids]  # keys may be those of others
    assert "token_type_ids" in tokenizer(texts), "texts have token types, ids have none"
    values(engine, [*texts, *ids, *examples])
    assert packs == [3, 6], f"each kind at once: {packs}"
    by_text, by_ids, by_example = (values(Engine(model, tokenizer), kind) for kind in (texts, ids, examples))
    assert same_bits(by_text, by_ids) and same_bits(by_ids, by_example)
    mixed = Engine(model, tokenizer).run(["the red card", "\ud800", ids[1], "bank"])
    assert [answer.error is None for answer in mixed] == [True, False, True, True]
    assert isinstance(mixed[1].error, DataError) and str(mixed[1].error).startswith("request 1: ")
    assert torch.equal(mixed[0].result(), by_text[0]) and torch.equal(mixed[3].result(), by_text[1])


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_is_left_in_the_mode_in_which_it_was(fails):
    model = unpad(stock(BertForSequenceClassification))
    model.train()
    model.bert.encoder.layer[0].eval()  # as who freezes a layer has it
    modes = {name: module.training for name, module in model.named_modules()}
    seen = []

    def decode(logits, pack):
        seen.append(any(module.training for module in model.modules()))
        if fails:
            raise RuntimeError
        return logits.tolist()

    def interrupted(done):
        if fails:
            raise KeyboardInterrupt

    engine = Engine(model, decode=decode)
    if fails:
        with pytest.raises(KeyboardInterrupt):
            engine.run(REQUESTS, told=interrupted)
    else:
        first, again = engine.run(REQUESTS), engine.run(REQUESTS)
        assert first == again, "no dropout"
    assert seen and not any(seen)
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_an_answer_that_is_kept_keeps_none_of_those_beside_it():
    for head in (*HEADS, BertModel):
        for answer in values(Engine(unpad(stock(head))), REQUESTS):
            assert answer.untyped_storage().nbytes() == answer.numel() * 4


def test_a_stock_model_is_packed_by_nobody():
    with pytest.raises(
        Unsupported, match=r"BertModel is as transformers made it: give the engine unpad\(model\)"
    ):
        Engine(stock(BertModel))
