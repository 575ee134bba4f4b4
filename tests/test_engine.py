"""The engine's answers are the model's, with a head and without one."""

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering, BertForTokenClassification, BertModel

from yanma import unpad
from yanma.engine import Engine
from yanma.errors import Unsupported
from yanma.objectives import Padded

CONFIG = BertConfig(
    vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
)
REQUESTS = [[2, 7, 3], [2, 8, 9, 10, 3], [2, 3], [2, 5, 3]]


def stock(head):
    torch.manual_seed(0)
    return head(CONFIG).eval()


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
