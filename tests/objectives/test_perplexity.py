"""Figures on held-back blocks, against the stock model on one block at a time in float64."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from yanma import unpad
from yanma.corruption import ALL_MASK, Plan, Spans, Vocabulary, numbering
from yanma.data.blocks import cut_blocks
from yanma.data.corpus import Document
from yanma.errors import ConfigError, DataError, Unsupported
from yanma.loading.tokenizer import learn_tokenizer
from yanma.objectives.perplexity import masked_accuracy, perplexity, pseudo_perplexity

TEXTS = [
    "a",
    "my card",
    "我来到",
    "Where is my card? It was lost in the bank, and nobody found it.",
    "我来到北京清华大学。",
    "the lost card of the bank " * 4,
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def blocks_of(tokenizer, texts=TEXTS, unit="word", max_length=16):
    documents = [Document(text, "") for text in texts]
    return cut_blocks(documents, tokenizer, max_length=max_length, numbering=numbering(unit))


def random_model(kind, config, **sizes):
    """In the mode of training, with dropout: evaluation must see to it itself."""
    torch.manual_seed(0)
    return kind(config(**SIZES, **sizes, initializer_range=0.3)).train()


@pytest.fixture(scope="module")
def tokenizer():
    return learn_tokenizer(lambda: iter(TEXTS), "wordpiece", 80)


@pytest.fixture(scope="module")
def stock(tokenizer):
    return random_model(BertForMaskedLM, BertConfig, vocab_size=len(tokenizer))


@pytest.fixture(scope="module")
def model(stock):
    return unpad(copy.deepcopy(stock))


def double_losses(stock, ids, labels):
    """(losses, predicted) of the scored tokens of one block."""
    model = copy.deepcopy(stock).eval().double()
    with torch.inference_mode():
        logits = model(ids[None].long()).logits[0]
    scored = labels != -100
    return F.cross_entropy(logits[scored], labels[scored], reduction="none"), logits[scored].argmax(1)


def plans_of(tokenizer):
    vocabulary = Vocabulary.of(tokenizer)
    return {
        "token": Plan(vocabulary, rate=0.3),
        "word": Plan(vocabulary, "word", rate=0.3, replacement=ALL_MASK),
        "span": Plan(vocabulary, Spans.geometric(), rate=0.3),
    }


def test_masked_accuracy_is_that_of_the_stock_model_block_by_block(tokenizer, stock, model):
    blocks, plans = blocks_of(tokenizer), plans_of(tokenizer)
    found = masked_accuracy(model, blocks, plans, seed=5, max_batch_tokens=64)
    assert list(found) == list(plans)
    for name, plan in plans.items():
        losses, correct = [], 0
        for block in blocks:
            ids, labels = plan(block.input_ids.long(), seed=5, epoch=0, example=block.key, words=block.words)
            some, predicted = double_losses(stock, ids, labels)
            losses += some.tolist()
            correct += int((predicted == labels[labels != -100]).sum())
        assert found[name].tokens == len(losses) >= 15
        assert found[name].loss == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)
        assert found[name].accuracy == correct / len(losses)
        assert found[name].perplexity == math.exp(found[name].loss)
    assert len({masked.loss for masked in found.values()}) == 3, "each unit hides other tokens"
    assert model.training, "the model is left in the mode in which it was"


def test_masked_accuracy_does_not_depend_on_how_packs_are_cut(tokenizer, stock):
    blocks, plans = blocks_of(tokenizer), plans_of(tokenizer)
    model = unpad(copy.deepcopy(stock), exact="bits")
    budgets = [masked_accuracy(model, blocks, plans, seed=5, max_batch_tokens=n) for n in (16, 40, 10_000)]
    assert budgets[0] == budgets[1] == budgets[2], "with exact='bits' they agree to the last bit"
    fast = unpad(copy.deepcopy(stock))
    for budget in (16, 10_000):
        for name, masked in masked_accuracy(fast, blocks, plans, seed=5, max_batch_tokens=budget).items():
            assert (masked.tokens, masked.accuracy) == (budgets[0][name].tokens, budgets[0][name].accuracy)
            assert masked.loss == pytest.approx(budgets[0][name].loss, rel=1e-5)
    assert masked_accuracy(fast, blocks, plans, seed=6, max_batch_tokens=64) != budgets[0], "the seed counts"


def test_pseudo_perplexity_is_that_of_a_loop_over_single_tokens(tokenizer, stock, model):
    blocks, vocabulary = blocks_of(tokenizer), Vocabulary.of(tokenizer)
    losses, words = [], set()
    for block in blocks:
        for place in vocabulary.hideable(block.input_ids.long()).nonzero().flatten().tolist():
            labels = torch.full_like(block.input_ids, -100).long()
            labels[place] = block.input_ids[place]
            hidden = block.input_ids.clone()
            hidden[place] = tokenizer.mask_token_id
            losses += double_losses(stock, hidden, labels)[0].tolist()
            words.add((block.key, int(block.words[place])))
    how = {"vocabulary": vocabulary, "seed": 0, "max_batch_tokens": 100}
    found = pseudo_perplexity(model, blocks, max_tokens=10_000, **how)
    assert found.tokens == len(losses) > 50
    assert found.loss == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)
    assert found.perplexity == math.exp(found.loss)
    assert found.word_perplexity == pytest.approx(math.exp(math.fsum(losses) / len(words)), rel=1e-4)
    assert len(words) < len(losses), "some words are of several tokens: this test would else lose its subject"
    unworded = cut_blocks([Document(t, "") for t in TEXTS], tokenizer, max_length=16)
    assert pseudo_perplexity(model, unworded, max_tokens=5, **how).word_perplexity is None


def test_pseudo_perplexity_samples_tokens_by_the_seed(tokenizer, model):
    blocks, vocabulary = blocks_of(tokenizer), Vocabulary.of(tokenizer)

    def some(seed, max_batch_tokens):
        return pseudo_perplexity(
            model, blocks, vocabulary=vocabulary, max_tokens=30, seed=seed, max_batch_tokens=max_batch_tokens
        )

    first = some(0, 16)
    assert first.tokens == 30 and some(0, 16) == first
    assert some(0, 500).loss == pytest.approx(first.loss, rel=1e-5), "packs change nothing"
    assert abs(some(1, 16).loss / first.loss - 1) > 1e-4, "another seed takes other tokens"


def test_perplexity_is_that_of_the_stock_model_block_by_block():
    tokenizer = learn_tokenizer(lambda: iter(TEXTS), "bpe", 300, style="gpt")
    sizes = {"vocab_size": len(tokenizer), "num_key_value_heads": 2}
    stock = random_model(LlamaForCausalLM, LlamaConfig, **sizes)
    blocks = blocks_of(tokenizer)
    losses = []
    for block in blocks:
        model = copy.deepcopy(stock).eval().double()
        with torch.inference_mode():
            logits = model(block.input_ids[None].long()).logits[0]
        losses += F.cross_entropy(logits[:-1], block.input_ids[1:].long(), reduction="none").tolist()
    model = unpad(copy.deepcopy(stock))
    found = perplexity(model, blocks, max_batch_tokens=40)
    assert found.tokens == len(losses) == len(blocks.flat) - len(blocks)
    assert found.loss == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)
    assert found.perplexity == math.exp(found.loss)
    bits = math.fsum(losses) / math.log(2)
    assert found.bits_per_byte == pytest.approx(bits / sum(len(text.encode()) for text in TEXTS), rel=1e-5)
    assert found.bits_per_character == pytest.approx(bits / sum(map(len, TEXTS)), rel=1e-5)
    assert perplexity(model, blocks, max_batch_tokens=10_000).loss == pytest.approx(found.loss, rel=1e-5)


def test_a_model_to_which_the_next_token_is_no_riddle_is_refused(tokenizer):
    blocks, sizes = blocks_of(tokenizer), {"vocab_size": len(tokenizer)}
    both_ways = unpad(random_model(BertLMHeadModel, BertConfig, **sizes))
    with pytest.raises(Unsupported, match="BertLMHeadModel reads the token that it is to predict"):
        perplexity(both_ways, blocks, max_batch_tokens=64)
    small = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8, "d_model": 8}
    unshifted = unpad(BartForCausalLM(BartConfig(**sizes, **small)))
    with pytest.raises(Unsupported, match="BartForCausalLM is scored on the token that it reads"):
        perplexity(unshifted, blocks, max_batch_tokens=64)
    decoder = unpad(random_model(BertLMHeadModel, BertConfig, **sizes, is_decoder=True))
    assert perplexity(decoder, blocks, max_batch_tokens=64).loss > 1


@pytest.mark.parametrize("text", ["a", "my", "我来", "my card"])
def test_short_texts_never_give_nan(tokenizer, model, text):
    blocks = blocks_of(tokenizer, [text])
    for masked in masked_accuracy(model, blocks, plans_of(tokenizer), seed=0, max_batch_tokens=16).values():
        assert masked.tokens >= 1 and math.isfinite(masked.loss) and 0 <= masked.accuracy <= 1
    vocabulary = Vocabulary.of(tokenizer)
    found = pseudo_perplexity(model, blocks, vocabulary=vocabulary, max_tokens=9, seed=0, max_batch_tokens=16)
    assert 1 <= found.tokens <= 3 and math.isfinite(found.loss)


def test_what_cannot_be_measured_is_refused(tokenizer, model):
    blocks, vocabulary = blocks_of(tokenizer), Vocabulary.of(tokenizer)
    how = {"seed": 0, "max_batch_tokens": 64}
    unknown = blocks_of(tokenizer, ["€ ₤"])
    assert set(unknown.flat.tolist()) <= set(tokenizer.all_special_ids)
    with pytest.raises(DataError, match="none of the 1 blocks has a token that may be hidden"):
        masked_accuracy(model, unknown, plans_of(tokenizer), **how)
    with pytest.raises(DataError, match="none of the 1 blocks has a token that may be hidden"):
        pseudo_perplexity(model, unknown, vocabulary=vocabulary, max_tokens=9, **how)
    with pytest.raises(ConfigError, match="the tokenizer has no mask_token"):
        pseudo_perplexity(model, blocks, vocabulary=Vocabulary(len(tokenizer)), max_tokens=9, **how)
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        pseudo_perplexity(model, blocks, vocabulary=vocabulary, max_tokens=0, **how)
    with pytest.raises(ValueError, match="raise the budget"):
        masked_accuracy(model, blocks, plans_of(tokenizer), seed=0, max_batch_tokens=8)
    unworded = cut_blocks([Document(t, "") for t in TEXTS], tokenizer, max_length=16)
    with pytest.raises(ValueError, match="the unit is made of words"):
        masked_accuracy(model, unworded, plans_of(tokenizer), **how)
    assert model.training, "also after an error the model is in the mode in which it was"
