"""What cannot be honoured is refused by name, in one line, and what has the wrong form says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import yanma
from models.builders import SEQ2SEQ, build, every_head
from models.pairs import generator
from models.test_arguments import BERT, CLASSES, SPANS, TOKENS, pair
from yanma.models.families import SPEECH


def test_arguments_too_many_or_given_twice_are_refused_as_by_any_function():
    _, ours, inputs, _ = pair(TOKENS)
    with pytest.raises(TypeError, match="too many positional arguments"):
        ours(inputs["input_ids"], *[None] * 20)
    with pytest.raises(TypeError, match="multiple values for argument 'input_ids'"):
        ours(inputs["input_ids"], input_ids=inputs["input_ids"])


FOUR = yanma.PackedBatch.from_sequences([[5, 6, 7], [8]])
TYPED = yanma.PackedBatch.from_sequences([[1, 2]], [[0, 1]])
QUESTIONS = torch.full((3, 4, 2), 7)
FIRST_HIDDEN = torch.ones_like(QUESTIONS)
FIRST_HIDDEN[2, 1, 0] = 0
ZEROS, ONES = torch.zeros(2, dtype=torch.long), torch.ones(1, 2, dtype=torch.long)


@pytest.mark.parametrize(
    ("name", "arguments", "keywords", "message"),
    [
        (
            TOKENS,
            (ZEROS[None],),
            {"labels": FOUR},
            "labels is a PackedBatch: what is read must be one too, as the only positional",
        ),
        (TOKENS, (FOUR,), {"input_ids": FOUR.input_ids}, "input_ids is part of a PackedBatch"),
        (TOKENS, (FOUR,), {"attention_mask": ONES}, "attention_mask is part of a PackedBatch"),
        (TOKENS, (FOUR, ONES), {}, "only positional argument"),
        ("DistilBertModel", (TYPED,), {}, "no token types"),
        (TOKENS, (FOUR,), {"position_ids": FOUR.position_ids}, "position_ids is part of a PackedBatch"),
        (TOKENS, (FOUR,), {"labels": torch.zeros(9).long()}, r"labels is \(9,\); the pack has 4 tokens"),
        (TOKENS, (FOUR,), {"labels": torch.zeros(2, 3).long()}, r"labels is \(2, 3\); the pack has 4 tokens"),
        (CLASSES, (FOUR,), {"labels": torch.zeros(3).long()}, r"labels is \(3,\); there are 2 documents"),
        (CLASSES, (FOUR,), {"labels": torch.tensor(1)}, r"labels is \(\); there are 2 documents"),
        (
            SPANS,
            (FOUR,),
            {"start_positions": torch.zeros(3).long(), "end_positions": ZEROS},
            r"start_positions is \(3,\)",
        ),
        (
            "BertForMultipleChoice",
            (FOUR,),
            {"labels": torch.zeros(3).long()},
            r"labels is \(3,\); there are 2 documents",
        ),
        (TOKENS, (torch.zeros(0, 5).long(),), {}, r"the input is \(0, 5\): there is no token in it"),
        (TOKENS, (torch.zeros(2, 0).long(),), {}, r"the input is \(2, 0\): there is no token in it"),
        (
            TOKENS,
            (ZEROS[None],),
            {"inputs_embeds": torch.zeros(1, 2, 32)},
            "exactly one of input_ids and inputs_embeds",
        ),
        (
            TOKENS,
            (ZEROS[None],),
            {"labels": torch.zeros(1, 3).long()},
            r"labels is \(1, 3\); it must begin with \(1, 2\)",
        ),
        (TOKENS, (ZEROS[None],), {"token_type_ids": torch.zeros(2, 2).long()}, r"token_type_ids is \(2, 2\)"),
        (
            TOKENS,
            (ZEROS[None],),
            {"attention_mask": torch.ones(1, 3)},
            r"attention_mask must be \(1, 2\).*got \(1, 3\)",
        ),
        (
            TOKENS,
            (ZEROS[None],),
            {"attention_mask": torch.ones(1, 1, 1, 2)},
            r"attention_mask must be \(1, 2\).*got \(1, 1, 1, 2\)",
        ),
        (
            TOKENS,
            (ZEROS[None],),
            {"attention_mask": {"full_attention": None}},
            r"attention_mask must be \(1, 2\).*got a dict",
        ),
        (TOKENS, (ZEROS[None],), {"attention_mask": torch.tensor([[1, 2]])}, "attention_mask has 2; it is 1"),
        (TOKENS, (ZEROS[None],), {"attention_mask": torch.tensor([[0.0, -1e9]])}, "has -1e.09; it is 1"),
        (TOKENS, (ZEROS[None],), {"attention_mask": ZEROS[None]}, "row 0 has no token"),
        (CLASSES, (ZEROS[None],), {"attention_mask": torch.tensor([[0, 1]])}, "begins with padding"),
        (
            TOKENS,
            (ZEROS[None],),
            {"attention_mask": torch.tensor([[1, 0]]), "labels": ZEROS[None]},
            "must be -100",
        ),
        (
            "BertForMultipleChoice",
            (QUESTIONS,),
            {"attention_mask": FIRST_HIDDEN},
            "choice 1 of question 2 begins with padding",
        ),
        (
            "BertForMultipleChoice",
            (QUESTIONS,),
            {"attention_mask": FIRST_HIDDEN[..., :1].expand(3, 4, 2)},
            "choice 1 of question 2 has no token",
        ),
        (
            "MPNetForMultipleChoice",
            (QUESTIONS.repeat(1, 1, 2),),
            {"attention_mask": torch.cat([torch.ones_like(QUESTIONS), FIRST_HIDDEN], -1)},
            "choice 1 of question 2 has hidden slots between its tokens",
        ),
        (
            "MPNetForTokenClassification",
            (torch.full((1, 6), 7),),
            {
                "seq_idx": torch.tensor([[0, 0, 1, 1, 1, 2]]),
                "attention_mask": torch.tensor([[1, 1, 1, 0, 1, 1]]),
            },
            "document 1 has hidden slots between its tokens",
        ),
        (
            "BertForMultipleChoice",
            (QUESTIONS,),
            {"labels": torch.zeros(6).long()},
            r"labels is \(6,\); there are 3 questions",
        ),
        (TOKENS, (), {"attention_mask": ONES}, "exactly one of input_ids"),
        (TOKENS, (torch.full((1, 81), 7),), {}, "81 tokens; this model has 80 positions"),
        (TOKENS, (ZEROS[None],), {"output_attentions": True}, "does not do output_attentions"),
        ("DistilBertModel", (ZEROS[None],), {"past_key_values": object()}, "takes no past_key_values"),
        (TOKENS, (FOUR,), {"past_key_values": object()}, "past_key_values .* go with padded rows"),
        (TOKENS, (ZEROS[None],), {"use_cache": True}, "does not do use_cache"),
        (
            TOKENS,
            (ZEROS[None],),
            {"encoder_hidden_states": torch.zeros(1, 2, 32)},
            "does not do encoder_hidden_states",
        ),
        (TOKENS, (ZEROS[None],), {"encoder_attention_mask": ZEROS}, "does not do encoder_attention_mask"),
        (TOKENS, (ZEROS[None],), {"head_mask": torch.ones(4)}, "does not do head_mask"),
        ("BertLMHeadModel", (FOUR,), {"logits_to_keep": 1}, "does not do logits_to_keep"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(name, arguments, keywords, message):
    family = next(family for family, known in every_head() if known == name)
    with pytest.raises(ValueError, match=message):
        yanma.unpad(build(family, name))(*arguments, **keywords)


def test_a_config_that_asks_for_attention_weights_is_refused():
    model = yanma.unpad(build(BERT, TOKENS, attn_implementation="eager", output_attentions=True))
    with pytest.raises(yanma.Unsupported, match=r"does not do output_attentions \(attention weights"):
        model(FOUR)


@pytest.mark.parametrize("outer_first", [True, False])
def test_half_an_unpadded_model_cannot_be_unpadded_again(outer_first: bool):
    stock, _, inputs, _ = pair(CLASSES)
    expected = stock(**inputs).logits
    first, second = (stock, stock.bert) if outer_first else (stock.bert, stock)
    yanma.unpad(first)
    with pytest.raises(
        yanma.Unsupported, match=r"is unpadded already: restore the model on which unpad was called"
    ):
        yanma.unpad(second)
    torch.testing.assert_close(stock(**inputs).logits, expected, rtol=1e-5, atol=1e-5)
    yanma.restore(first)
    assert torch.equal(stock(**inputs).logits, expected)


ROW = torch.tensor([[5, 6, 7, 8]])
BOUNDS = torch.tensor([0, 2, 4])


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        (TOKENS, {"input_ids": [[5, 6]]}, r"input_ids is a list; give a torch.Tensor .*PackedBatch"),
        (TOKENS, {"input_ids": "text"}, "input_ids is a str; give a torch.Tensor"),
        (TOKENS, {"inputs_embeds": [[[0.0]]]}, "inputs_embeds is a list"),
        (TOKENS, {"input_ids": ROW, "position_ids": [[0, 1, 0, 1]]}, "position_ids is a list"),
        (TOKENS, {"input_ids": ROW, "token_type_ids": np.zeros((1, 4))}, "token_type_ids is a ndarray"),
        (TOKENS, {"input_ids": ROW, "attention_mask": [[1, 1, 1, 1]]}, "attention_mask .* got a list"),
        (TOKENS, {"input_ids": ROW, "labels": [[0, 1, 0, 1]]}, "labels is a list"),
        (TOKENS, {"input_ids": ROW, "cu_seq_lens_q": [0, 2, 4]}, "cu_seq_lens_q is a list"),
        (
            TOKENS,
            {"input_ids": ROW, "cu_seq_lens_q": BOUNDS, "cu_seq_lens_k": [0, 2, 4]},
            "cu_seq_lens_k is a list",
        ),
        (
            TOKENS,
            {"input_ids": ROW, "cu_seq_lens_q": BOUNDS, "max_length_q": [2]},
            r"max_length_q is \[2\]; it is a whole",
        ),
        (TOKENS, {"input_ids": ROW, "seq_idx": [[0, 0, 1, 1]]}, "seq_idx is a list"),
        (CLASSES, {"input_ids": ROW, "labels": [0]}, "labels is a list"),
        (SPANS, {"input_ids": ROW, "start_positions": [0]}, "start_positions is a list"),
        (SPANS, {"input_ids": ROW, "end_positions": 0}, "end_positions is a int"),
        ("LlamaForCausalLM", {"input_ids": ROW, "shift_labels": [[5, 6, 7, 8]]}, "shift_labels is a list"),
        ("LlamaForCausalLM", {"input_ids": [[5]], "use_cache": True}, "input_ids is a list"),
        (TOKENS, {"input_ids": ROW.float()}, "input_ids is torch.float32; token ids are torch.int64"),
        (TOKENS, {"input_ids": ROW.bool()}, "input_ids is torch.bool; token ids are torch.int64"),
    ],
)
def test_other_things_than_tensors_and_other_ids_than_whole_numbers_are_named(name, keywords, message):
    family = next(family for family, known in every_head() if known == name)
    with pytest.raises(ValueError, match=message):
        yanma.unpad(build(family, name))(**keywords)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"input_ids": ROW, "decoder_input_ids": [[3]]}, "decoder_input_ids is a list"),
        ({"input_ids": ROW, "labels": [[3]]}, "labels is a list"),
        ({"input_ids": ROW, "decoder_input_ids": ROW.float()}, "decoder_input_ids is torch.float32"),
    ],
)
def test_so_it_is_in_an_encoder_with_a_decoder(keywords, message):
    family = SEQ2SEQ[0]
    with pytest.raises(ValueError, match=message):
        yanma.unpad(build(family, generator(family)))(**keywords)


def test_so_it_is_of_recordings():
    model, sound = yanma.unpad(build(SPEECH[0], "Wav2Vec2Model")), torch.randn(1, 60)
    with pytest.raises(ValueError, match="input_values is a list"):
        model(sound.tolist())
    with pytest.raises(ValueError, match=r"attention_mask must be \(1, 60\).* got a list"):
        model(sound, attention_mask=[[1] * 60])


@pytest.mark.parametrize("seed", [1.5, "1", [1], torch.tensor(1.5)])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    model = yanma.unpad(build(BERT, TOKENS))
    with pytest.raises(ValueError, match=r"seed is .*; it is a whole number"):
        model(FOUR, seed=seed)


@pytest.mark.parametrize("seed", [3, np.int64(3), torch.tensor(3)])
def test_any_kind_of_whole_number_is_a_seed(seed):
    model = yanma.unpad(build(BERT, TOKENS, hidden_dropout_prob=0.3)).train()
    assert torch.equal(model(FOUR, seed=seed).logits, model(FOUR, seed=3).logits)


UNKNOWN = [
    ("is_casual", False, "did you mean 'is_causal'?"),
    ("sed", 1, "did you mean 'seed'?"),
    ("max_logit_mib", 8, "did you mean 'max_logits_mib'?"),
    ("backend", "sdpa", "leave it out"),
    ("temperature", 1.0, "leave it out"),
]


@pytest.mark.parametrize(("name", "value", "hint"), UNKNOWN)
@pytest.mark.parametrize("head", [TOKENS, CLASSES, "GPT2LMHeadModel"])
def test_an_unknown_argument_beside_a_pack_is_refused_with_the_nearest_known_one(head, name, value, hint):
    family = next(family for family, known in every_head() if known == head)
    model = yanma.unpad(build(family, head))
    with pytest.raises(yanma.Unsupported) as error:
        model(FOUR, **{name: value})
    assert f"{head} has no argument {name!r}" in str(error.value) and str(error.value).endswith(hint)


def test_an_unknown_argument_beside_pairs_of_packs_is_refused():
    family = SEQ2SEQ[0]
    model = yanma.unpad(build(family, generator(family)))
    with pytest.raises(yanma.Unsupported, match="has no argument 'backend'"):
        model(FOUR, labels=FOUR, backend="sdpa")


def test_known_arguments_that_ask_for_nothing_may_stand_beside_a_pack():
    model = yanma.unpad(build(BERT, TOKENS))
    nothing = {"use_cache": False, "output_attentions": False, "output_hidden_states": False, "seed": 0}
    more = {"return_dict": True, "num_items_in_batch": 4, "is_causal": False, "head_mask": None}
    assert torch.equal(model(FOUR, **nothing, **more).logits, model(FOUR).logits)


def test_beside_padded_rows_an_unknown_argument_is_what_it_is_to_the_stock_model():
    stock, ours, inputs, data = pair(TOKENS)
    expected, found = (model(**inputs, backend="sdpa").logits[data.valid] for model in (stock, ours))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


class Holder:
    """As transformers' pipelines and Trainer hold a model."""

    def __init__(self) -> None:
        self.model = build(BERT, TOKENS)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: "bert-base", r"a str is no model .*AutoModel.from_pretrained\('bert-base'\)"),
        (lambda: build(BERT, TOKENS).config, r"a BertConfig is no model .*AutoModel.from_config\(config\)"),
        (Holder, "a Holder is no model .*the one that it holds, its attribute model"),
        (lambda: None, "a NoneType is no model .*transformers', sentence-transformers' or peft's"),
    ],
    ids=["name", "config", "pipeline", "None"],
)
@pytest.mark.parametrize("call", [yanma.unpad, yanma.restore], ids=["unpad", "restore"])
def test_what_is_no_model_is_refused_with_the_way_to_one(call, made, message):
    with pytest.raises(TypeError, match=message):
        call(made())
