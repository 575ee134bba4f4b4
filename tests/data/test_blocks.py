"""Blocks hold every token of every document once, in order, cut by the rule that was asked for."""

import pytest
import torch
from transformers import BertTokenizer, PreTrainedTokenizerFast

from yanma.corruption import numbering
from yanma.data.blocks import Blocks, cut_blocks, pack_blocks, stream_blocks
from yanma.data.corpus import Document
from yanma.errors import ConfigError, Unsupported
from yanma.loading.tokenizer import learn_tokenizer

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] a b c the cat sat on un ##believ ##able , . 我 来 到 北 京".split()
WORD = numbering("word")


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(PIECES)})


def documents(*texts):
    return [Document(text, f"a.txt:{line}") for line, text in enumerate(texts, 1)]


def shown(blocks, tokenizer):
    return [" ".join(tokenizer.convert_ids_to_tokens(block.input_ids.tolist())) for block in blocks]


def words(blocks):
    return [block.words.tolist() for block in blocks]


def test_split_keeps_documents_apart_and_cuts_long_ones(tokenizer):
    blocks = cut_blocks(
        documents("a", "the cat sat unbelievable", "我来, c"), tokenizer, max_length=6, numbering=WORD
    )
    assert shown(blocks, tokenizer) == [
        "[CLS] a [SEP]",
        "[CLS] the cat sat un [SEP]",
        "[CLS] ##believ ##able [SEP]",
        "[CLS] 我 来 , c [SEP]",
    ]
    assert words(blocks) == [[-1, 0, -1], [-1, 0, 1, 2, 3, -1], [-1, 0, 0, -1], [-1, 0, 1, 2, 3, -1]], (
        "a word that is cut is one in each block"
    )


def test_join_puts_documents_end_to_end_with_a_separator_between(tokenizer):
    how = {"max_length": 6, "rule": "join", "numbering": WORD}
    blocks = cut_blocks(documents("a", "the cat sat unbelievable", "我来, c"), tokenizer, **how)
    assert shown(blocks, tokenizer) == [
        "[CLS] a [SEP] the cat [SEP]",
        "[CLS] sat un ##believ ##able [SEP]",
        "[CLS] 我 来 , c [SEP]",
    ]
    assert words(blocks) == [[-1, 0, -1, 1, 2, -1], [-1, 0, 1, 1, 1, -1], [-1, 0, 1, 2, 3, -1]]
    blocks = cut_blocks(documents("a b c", "the", "cat"), tokenizer, **how)
    assert shown(blocks, tokenizer) == ["[CLS] a b c [SEP]", "[CLS] the [SEP] cat [SEP]"], (
        "a separator that no token would follow is left out, and the block is a token short"
    )


def test_sentences_and_words_of_joined_documents_do_not_run_together(tokenizer):
    blocks = cut_blocks(
        documents("a", "b. c", "c"), tokenizer, max_length=20, rule="join", numbering=numbering("sentence")
    )
    assert shown(blocks, tokenizer) == ["[CLS] a [SEP] b . c [SEP] c [SEP]"]
    assert words(blocks) == [[-1, 0, -1, 1, 1, 2, -1, 3, -1]]


TEXTS = [
    "Where is my card? It was lost.",
    "我来到北京清华大学",
    "a",
    "unbelievable " * 40,
    "  spaces   and\nlines ",
    "né №5 — 😀",
]
STYLES = [("wordpiece", "bert"), ("bpe", "gpt"), ("unigram", "t5")]


@pytest.fixture(scope="module", params=STYLES, ids="-".join)
def learned(request):
    kind, style = request.param
    return learn_tokenizer(lambda: iter(TEXTS * 3), kind, 420, style=style)


@pytest.mark.parametrize("rule", ["split", "join"])
@pytest.mark.parametrize("max_length", [4, 7, 64])
def test_every_token_stands_in_one_block_and_in_order(learned, rule, max_length):
    blocks = cut_blocks(documents(*TEXTS), learned, max_length=max_length, rule=rule, numbering=WORD)
    assert max(blocks.lengths) <= max_length and sum(blocks.lengths) == len(blocks.flat)
    plain = learned(TEXTS, add_special_tokens=False)["input_ids"]
    before, after = (0, 1) if "<extra_id_0>" in learned.get_vocab() else (1, 1)
    separator = learned.sep_token_id or learned.eos_token_id
    kept = [
        token for block in blocks for token in block.input_ids.tolist()[before : len(block.input_ids) - after]
    ]
    assert [t for t in kept if t != separator] == [token for ids in plain for token in ids]
    if rule == "split":
        assert separator not in kept and len(blocks) == sum(
            -(-len(ids) // (max_length - before - after)) for ids in plain
        )
    else:
        assert min(blocks.lengths[:-1], default=max_length) >= max_length - 1, "only the last block is short"
    for block in blocks:
        special = [token in learned.all_special_ids for token in block.input_ids.tolist()]
        outside = [word < 0 for word in block.words.tolist()]
        unknown = [token == learned.unk_token_id for token in block.input_ids.tolist()]
        assert [s and not u for s, u in zip(special, unknown, strict=True)] == outside, (
            "every token but those that were put in is of a word"
        )


@pytest.mark.parametrize("rule", ["split", "join"])
def test_a_stream_gives_the_same_blocks(learned, rule):
    many = documents(*(TEXTS * 300))  # more than are tokenized at once
    how = {"max_length": 16, "rule": rule, "numbering": WORD}
    told = []
    blocks = cut_blocks(many, learned, progress=lambda *counts: told.append(counts), **how)
    stream = list(stream_blocks(iter(many), learned, **how))
    assert len(stream) == len(blocks) > 1000
    assert [block.key for block in stream] == list(range(len(blocks)))
    assert torch.cat([block.input_ids for block in stream]).equal(blocks.flat)
    assert torch.cat([block.words for block in stream]).equal(blocks.flat_words)
    assert all(
        a.input_ids.equal(b.input_ids) and a.words.equal(b.words) for a, b in zip(stream, blocks, strict=True)
    )
    assert len(told) == 2 and told[-1][0] == len(many) == blocks.num_documents
    assert told[-1][1] == sum(
        len(ids) for ids in learned([d.text for d in many], add_special_tokens=False)["input_ids"]
    )


def test_words_are_the_same_as_of_the_whole_text(learned):
    text = TEXTS[0]
    (block,) = cut_blocks(documents(text), learned, max_length=100, numbering=WORD)
    offsets = learned(text, return_offsets_mapping=True)["offset_mapping"]
    assert block.words.tolist() == WORD(text, offsets)


def test_pieces_of_a_word_with_joiners_stay_together():
    text = "می\u200cخواهم کتاب\u200cهای so\u00adft ab\u200bcd"
    own = learn_tokenizer(lambda: iter(["".join(char for char in text if char.isalpha())] * 2), vocab_size=80)
    (block,) = cut_blocks(documents(text), own, max_length=100, numbering=WORD)
    tokens = own.convert_ids_to_tokens(block.input_ids.tolist())
    heads = [place for place, token in enumerate(tokens) if not token.startswith("##")]
    assert len(heads) == 2 + 4 and len(tokens) > 10, tokens
    assert len(set(block.words.tolist())) == 1 + 4
    for place, token in enumerate(tokens):
        assert not token.startswith("##") or block.words[place] == block.words[place - 1], tokens


def test_blocks_take_eight_bytes_a_token_and_say_what_they_are_of(tokenizer):
    blocks = cut_blocks(documents("a b", "我", "\u200b"), tokenizer, max_length=9, numbering=WORD)
    assert blocks.flat.dtype == blocks.flat_words.dtype == torch.int32
    assert (blocks.num_documents, blocks.num_tokenless) == (2, 1), "a zero-width space has no token"
    assert (blocks.num_characters, blocks.num_bytes) == (4, 6)
    assert blocks[-1].key == 1 and len(blocks[-1].input_ids) == blocks.lengths[1] and len(blocks[0:5]) == 2
    assert blocks[0].input_ids.data_ptr() == blocks.flat.data_ptr(), "a block is a view"
    with pytest.raises(IndexError):
        blocks[2]
    plain = cut_blocks(documents("a b"), tokenizer, max_length=9)
    assert plain.flat_words is None and plain[0].words is None
    with pytest.raises(ValueError, match="lengths add up to 3, flat has 4 tokens"):
        Blocks(plain.flat, None, [3], 1, 0, 3, 3)


def test_no_documents_give_no_blocks(tokenizer):
    assert len(cut_blocks([], tokenizer, max_length=9, numbering=WORD)) == 0
    assert list(stream_blocks(documents("\u200b"), tokenizer, max_length=9, rule="join")) == []


def test_a_pack_of_blocks_knows_their_numbers_and_words(tokenizer):
    blocks = cut_blocks(documents("a b", "c", "the cat"), tokenizer, max_length=9, numbering=WORD)
    batch, flat_words = pack_blocks([blocks[2], blocks[1]])
    assert batch.input_ids.tolist() == [2, 8, 9, 3, 2, 7, 3] and batch.input_ids.dtype == torch.int64
    assert batch.lengths == (4, 3) and batch.ids == (2, 1)
    assert flat_words.tolist() == [-1, 0, 1, -1, -1, 0, -1] and flat_words.dtype == torch.int64


def test_what_cannot_be_cut_is_refused(tokenizer, learned):
    with pytest.raises(ConfigError, match=r"max_length is 2; 2 of a block's tokens .* give 3 or more"):
        cut_blocks(documents("a"), tokenizer, max_length=2)
    with pytest.raises(ConfigError, match=r"rule is 'joined'; did you mean 'join'\?"):
        cut_blocks(documents("a"), tokenizer, max_length=9, rule="joined")
    bare = PreTrainedTokenizerFast(tokenizer_object=learned.backend_tokenizer)
    with pytest.raises(ConfigError, match="neither sep_token nor eos_token"):
        cut_blocks(documents("a"), bare, max_length=9, rule="join")

    class Slow:
        is_fast = False

    with pytest.raises(Unsupported, match="Slow is not of the tokenizers library"):
        cut_blocks(documents("a"), Slow(), max_length=9)
