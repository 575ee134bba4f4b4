"""Which word each token is of, by hand, in English and Chinese, for every kind of tokenizer."""

import itertools
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

from yanma.corruption import (
    ALL_MASK,
    Phrases,
    Plan,
    Vocabulary,
    entities,
    jieba_words,
    sentences,
    whole_words,
)
from yanma.corruption.words import merged, of_tokens, word_ids_of, word_numbers


def cut(text, segmenter=None):
    """The words of a text."""
    numbers = word_numbers(text, segmenter)
    words = [""] * (max(numbers, default=-1) + 1)
    for char, number in zip(text, numbers, strict=True):
        if number >= 0:
            words[number] += char
    return words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat sat.", ["The", "cat", "sat", "."]),
        ("don't stop, now!", ["don", "'", "t", "stop", ",", "now", "!"]),
        ("well-known (3.5%)", ["well", "-", "known", "(", "3", ".", "5", "%", ")"]),
        ("我来到北京。", ["我", "来", "到", "北", "京", "。"]),
        ("用GPU训练BERT模型", ["用", "GPU", "训", "练", "BERT", "模", "型"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("cafe\u0301 au lait", ["cafe\u0301", "au", "lait"]),
        ("👍\ufe0f ok", ["👍\ufe0f", "ok"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("می\u200cخواهم کتاب\u200cهای", ["می\u200cخواهم", "کتاب\u200cهای"]),
        ("so\u00adft \u2060word\u2060joiner", ["so\u00adft", "\u2060word\u2060joiner"]),
        ("\u200fשלום\u200f, עולם", ["\u200fשלום\u200f", ",", "עולם"]),
        ("क्\u200dष है", ["क्\u200dष", "है"]),
        ("ภาษา\u200bไทย", ["ภาษา", "ไทย"]),
        ("葛\U000e0100abc", ["葛\U000e0100", "abc"]),
        ("北\u2060京", ["北\u2060", "京"]),
        ("👨\u200d👩\u200d👧👍🏽 ❤\ufe0f\u200d🔥", ["👨\u200d👩\u200d👧", "👍🏽", "❤\ufe0f\u200d🔥"]),
        ("🇩🇪🇫🇷🇩", ["🇩🇪", "🇫🇷", "🇩"]),
        ("1\ufe0f\u20e3 ok", ["1\ufe0f\u20e3", "ok"]),
        ("\u0301a \u00ad", ["\u0301a", "\u00ad"]),
        ("  spaces \t between\n", ["spaces", "between"]),
        ("", []),
    ],
)
def test_words_by_hand(text, words):
    assert cut(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我来到北京清华大学。", ["我", "来到", "北京", "清华大学", "。"]),
        ("他说：“北京很大！”", ["他", "说", "：", "“", "北京", "很大", "！", "”"]),
        ("用GPU训练BERT模型", ["用", "GPU", "训练", "BERT", "模型"]),
        ("Only English, here.", ["Only", "English", ",", "here", "."]),
    ],
)
def test_chinese_words_by_hand_through_jieba(text, words):
    assert cut(text, jieba_words) == words


def test_a_segmenter_of_ones_own_sees_runs_without_spaces_and_must_keep_their_characters():
    seen = []

    def pairs(run):
        seen.append(run)
        return [run[i : i + 2] for i in range(0, len(run), 2)]

    assert cut("我来到, the 北京ไทย", pairs) == ["我来", "到", ",", "the", "北京", "ไท", "ย"]
    assert seen == ["我来到", "北京ไทย"]
    with pytest.raises(ValueError, match=r"makes \['我'\] of '我来到'"):
        word_numbers("我来到", lambda run: [run[0]])


TEXT = "unbelievable cats, in New York. 我来到北京"


def _trained(model, trainer, pre_tokenizer, corpus):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator([corpus * 9, "the a b c"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def tokenizers():
    special = ["[UNK]"]
    bytes_ = pre_tokenizers.ByteLevel.alphabet()
    yield (
        "WordPiece",
        BertTokenizerFast(
            vocab={
                piece: index
                for index, piece in enumerate(
                    "[PAD] [UNK] [CLS] [SEP] [MASK] un ##believ ##able cats , in new york . 我 来 到 北 京 the".split()
                )
            }
        ),
    )
    yield (
        "byte-level BPE",
        _trained(
            models.BPE(unk_token="[UNK]"),
            trainers.BpeTrainer(
                vocab_size=290, initial_alphabet=bytes_, special_tokens=special, show_progress=False
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            "unbelievable cats, in New York. ",  # so that each Chinese character is three tokens of a byte
        ),
    )
    yield (
        "SentencePiece's unigrams",
        _trained(
            models.Unigram(),
            trainers.UnigramTrainer(
                vocab_size=60, special_tokens=special, unk_token="[UNK]", show_progress=False
            ),
            pre_tokenizers.Metaspace(),
            f"{TEXT} ",
        ),
    )


@pytest.mark.parametrize("tokenizer", [pytest.param(t, id=name) for name, t in tokenizers()])
def test_any_tokenizer_has_the_same_words(tokenizer):
    encoding = tokenizer(TEXT, return_offsets_mapping=True)
    words = whole_words(TEXT, encoding["offset_mapping"], jieba_words)
    assert len(words) == len(encoding["input_ids"])
    read: dict[int, list[int]] = {}
    for (start, end), word in zip(encoding["offset_mapping"], words, strict=True):
        if word >= 0:
            read.setdefault(word, []).extend(range(start, end))
    texts = [TEXT[min(chars) : max(chars) + 1].strip() for chars in read.values()]
    assert texts == ["unbelievable", "cats", ",", "in", "New", "York", ".", "我", "来到", "北京"]
    assert [w for w in words if w >= 0] == sorted(w for w in words if w >= 0), "words are runs of tokens"


def test_a_token_that_covers_two_words_makes_them_one():
    assert whole_words("ab,cd ef", [(0, 3), (3, 5), (5, 8)]) == [0, 1, 2]
    assert whole_words("ab cd ef", [(0, 1), (1, 4), (4, 5), (6, 8)]) == [0, 0, 0, 1]
    assert whole_words("👍", [(0, 1), (0, 1), (0, 1)]) == [0, 0, 0], "bytes of one character are of one word"
    assert whole_words("a  b", [(0, 1), (1, 3), (3, 4)]) == [0, 1, 1], "spaces belong to the word after them"
    assert whole_words("a ", [(0, 1), (1, 2)]) == [0, 1], "and at the end are one by themselves"


@given(st.text(max_size=60), st.data())
def test_words_never_go_back_and_every_character_has_one(text, data):
    numbers = word_numbers(text)
    assert len(numbers) == len(text)
    ends = [char.isspace() or char == "\u200b" for char in text]
    assert [number < 0 for number in numbers] == ends
    seen = [number for number in numbers if number >= 0]
    assert sorted(set(seen)) == list(range(len(set(seen)))) and seen == sorted(seen)
    edges = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=9)) | {0, len(text)})
    offsets = list(itertools.pairwise(edges))
    tokens = of_tokens(numbers, offsets)
    assert len(tokens) == len(offsets) and tokens == sorted(tokens)


HARD = [
    "می\u200cخواهم کتاب\u200cهای خوب بخوانم",
    "so\u00adft wo\u2060rd ab\u200bcd e\x00f",
    "ok👍👨\u200d👩\u200d👧 5€ x²y a₂",
    "foo_bar don't e.g. 3.5% カタabc ไทยabc",
    "cafe\u0301s हिन्दी",
]


def pieces(text, tokenizer):
    """Of each token whether it goes on with the one before, and its word."""
    encoding = tokenizer([text], return_offsets_mapping=True)
    tokens = tokenizer.convert_ids_to_tokens(encoding["input_ids"][0])
    words = whole_words(text, encoding["offset_mapping"][0], word_ids=word_ids_of(tokenizer, encoding, 0))
    return [token.startswith("##") for token in tokens], words


def wordpieces():
    """Each character is a piece: as BERT cuts words, and as a tokenizer trained by hand does."""
    letters = sorted({char for text in HARD for char in text if not char.isspace()})
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{char}" for char in letters)]
    yield BertTokenizerFast(vocab={piece: index for index, piece in enumerate(vocab)}, strip_accents=False)
    own = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(vocab)}, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    yield PreTrainedTokenizerFast(tokenizer_object=own, unk_token="[UNK]")


@pytest.mark.parametrize("text", HARD)
@pytest.mark.parametrize("tokenizer", list(wordpieces()), ids=["BERT's", "by hand"])
def test_no_piece_is_parted_from_the_word_that_it_goes_on_with(tokenizer, text):
    goes_on, words = pieces(text, tokenizer)
    assert any(goes_on), "there is something to part"
    parted = [place for place, on in enumerate(goes_on) if on and words[place] != words[place - 1]]
    assert not parted, f"tokens {parted} of {words}"


def test_no_piece_is_hidden_apart_from_its_head():
    tokenizer = next(wordpieces())
    plan = Plan(Vocabulary.of(tokenizer), unit="word", replacement=ALL_MASK)
    ids = tokenizer(HARD[0])["input_ids"]
    goes_on, words = pieces(HARD[0], tokenizer)
    for example in range(200):
        hidden = plan(ids, seed=0, epoch=0, example=example, words=words).labels != -100
        assert not (hidden[1:] != hidden[:-1])[torch.tensor(goes_on[1:])].any()


def test_what_wordpiece_makes_of_chinese_characters_is_still_cut_by_them():
    vocab = {piece: index for index, piece in enumerate("[UNK] 北 ##北 ##京 ##大 ##学 学 ##a".split())}
    own = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, unk_token="[UNK]")
    assert pieces("北京大学a", tokenizer) == ([False, True, True, True, True], [0, 1, 2, 3, 4])


def test_word_ids_are_asked_of_wordpiece_alone():
    told = {
        name: word_ids_of(tokenizer, tokenizer(["cats, in"]), 0) is not None
        for name, tokenizer in tokenizers()
    }
    assert told == {"WordPiece": True, "byte-level BPE": False, "SentencePiece's unigrams": False}


def test_sentences_by_hand():
    text = 'Dr. Who? "Yes." It cost 3.5.\n我来了。你呢？好！'
    characters = [(place, place + 1) for place in range(len(text))]
    read: dict[int, str] = {}
    for char, number in zip(text, sentences(text, characters), strict=True):
        read[number] = read.get(number, "") + char
    assert [sentence.strip() for sentence in read.values()] == [
        "Dr.", "Who?", '"Yes."', "It cost 3.5.", "我来了。", "你呢？", "好！",
    ]  # fmt: skip


def test_entities_and_phrases_are_one_and_the_rest_are_words():
    text = "He met New York's mayor in New Jersey"
    characters = [(place, place + 1) for place in range(len(text)) if text[place] != " "]
    start = text.index("New York")

    def read(numbers):
        parts: dict[int, str] = {}
        for (place, _), number in zip(characters, numbers, strict=True):
            parts[number] = parts.get(number, "") + text[place]
        return list(parts.values())

    rest = ["'", "s", "mayor", "in"]
    assert read(entities(text, characters, [(start, start + 8)])) == [
        "He",
        "met",
        "NewYork",
        *rest,
        "New",
        "Jersey",
    ]
    inside = entities(text, characters, [(start + 1, start + 5)])
    assert read(inside)[2] == "NewYork", "a span that cuts words takes them whole"
    phrases = Phrases.of(["new york", "New Jersey", "jersey"])
    assert read(phrases.whole(text, characters)) == ["He", "met", "NewYork", *rest, "NewJersey"]
    with pytest.raises(ValueError, match=r"span \(3, 99\) is not in a text of 37 characters"):
        entities(text, characters, [(3, 99)])
    assert merged([0, 1, 2, 3], [(0, 2), (1, 3)]) == [0, 0, 0, 1], "overlapping spans are one"


def test_time_grows_with_the_text_and_not_faster():
    def seconds(repeats):
        text = "我来到北京, the cat sat. " * repeats
        characters = [(place, place + 1) for place in range(len(text))]
        best = []
        for _ in range(3):
            start = time.perf_counter()
            whole_words(text, characters)
            best.append(time.perf_counter() - start)
        return min(best)

    seconds(10)
    assert seconds(3200) < 16 * 4 * seconds(200), "16 times the text, 16 times the time, and room for noise"


@pytest.mark.parametrize("char", "\u1000\u31f0\u31ff\uf900\u4e00\u9fff")
def test_the_first_and_last_letters_of_unspaced_scripts_are_no_part_of_a_latin_word(char):
    assert cut(f"a{char}b") == ["a", char, "b"]
