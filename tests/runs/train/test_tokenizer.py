"""Tokenizers learned from texts: the same in every process, as large as asked, with the tokens that a style needs."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from yanma.corruption import Vocabulary, sentinels_of
from yanma.errors import ConfigError, DataError
from yanma.loading.tokenizer import learn_tokenizer

TEXTS = ["where is my card", "我的卡在哪里", "don't lose it: café №5", "where is the cardboard"] * 3
KINDS, STYLES = ("wordpiece", "bpe", "unigram"), ("bert", "t5", "gpt")


def learn(kind="wordpiece", vocab_size=420, *, texts=TEXTS, style="bert"):
    return learn_tokenizer(lambda: iter(texts), kind, vocab_size, style=style)


def test_wordpiece_spells_words_and_takes_chinese_character_by_character():
    tokenizer = learn()
    assert tokenizer.tokenize("我的卡 card") == ["我", "的", "卡", "card"]
    for text in TEXTS:
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"], f"{text} is made of known pieces"
    ids = tokenizer("card")["input_ids"]
    assert (ids[0], ids[-1], tokenizer.pad_token_id) == (tokenizer.cls_token_id, tokenizer.sep_token_id, 0)
    assert (
        tokenizer.decode(tokenizer("the cardboard café")["input_ids"], skip_special_tokens=True)
        == "the cardboard café"
    )


def test_byte_level_bpe_gives_every_text_back():
    tokenizer = learn("bpe")
    for text in [*TEXTS, "  two  spaces\n", "😀 жук"]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_unigram_prefers_frequent_pieces():
    draw = random.Random(0)
    texts = [
        " ".join(draw.choices("the card is lost here there bank where".split(), k=9)) for _ in range(200)
    ]
    tokenizer = learn("unigram", 60, texts=texts)
    assert tokenizer.tokenize("the card") == ["▁the", "▁card"] == tokenizer.tokenize("the ｃard"), "NFKC"
    assert tokenizer.decode(tokenizer("the  card")["input_ids"], skip_special_tokens=True) == "the card"
    assert tokenizer.unk_token_id in tokenizer("猫")["input_ids"]


SPECIAL = {
    "bert": (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], ("[CLS]", "[SEP]")),
    "t5": (["<pad>", "</s>", "<unk>"], (None, "</s>")),
    "gpt": (["<pad>", "<s>", "</s>", "<unk>"], ("<s>", "</s>")),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_the_special_tokens_of_each_style(kind, style, tmp_path):
    learn(kind, style=style).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    special, (first, last) = SPECIAL[style]
    assert tokenizer.convert_ids_to_tokens(list(range(len(special)))) == special
    names = tokenizer.convert_ids_to_tokens(tokenizer("where")["input_ids"])
    assert names[-1] == last and (first is None or names[0] == first)
    assert [name in special for name in names] == [False] * (len(names) - 1) + [True] or names[0] == first
    assert ("token_type_ids" in tokenizer("where")) == (style == "bert")
    assert tokenizer.pad_token_id == 0 and tokenizer.unk_token is not None
    assert (tokenizer.mask_token_id is not None) == (style == "bert")
    vocabulary = Vocabulary.of(tokenizer)
    assert set(range(len(special))) <= set(vocabulary.special_ids)
    if style == "t5":
        sentinels = sentinels_of(tokenizer)
        assert len(sentinels) == 100 and set(sentinels) <= set(vocabulary.special_ids)
        assert tokenizer("<extra_id_7>")["input_ids"] == [sentinels[7], tokenizer.eos_token_id]


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_kept_also_where_there_are_more_characters(kind):
    chinese = ["".join(map(chr, range(0x4E00 + start, 0x4E00 + start + 40))) for start in range(0, 2000, 20)]
    common = ["我" * 30, "aa ab ba"] * 50
    for size in (300, 450):
        tokenizer = learn(kind, size, texts=chinese + common)
        assert size - 60 <= len(tokenizer) <= size, f"{len(tokenizer)} tokens of {size}"
        assert tokenizer.unk_token_id not in tokenizer("我ab")["input_ids"], "frequent characters are kept"


def test_a_learned_tokenizer_is_the_same_in_every_process():
    code = (
        "import hashlib, random\n"
        "from yanma.loading.tokenizer import learn_tokenizer\n"
        "draw = random.Random(0)\n"
        "texts = [''.join(draw.choices('abcdefgh我的卡 ', k=draw.randint(2, 30))) for _ in range(1500)]\n"
        f"for kind in {KINDS}:\n"
        "    made = learn_tokenizer(lambda: iter(texts), kind, 400, style='t5')\n"
        "    print(len(made), hashlib.sha256(made.backend_tokenizer.to_str().encode()).hexdigest())\n"
    )
    source = str(Path(__file__).resolve().parents[3] / "src")
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {source!r})\n{code}"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (process.communicate(timeout=120)[0] for process in started)
    assert first == second, f"{first} and {second}"
    assert [int(line.split()[0]) > 300 for line in first.splitlines()] == [True] * 3


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"kind": "wordpeice"}, "kind is 'wordpeice'; did you mean 'wordpiece'?"),
        ({"style": "llama"}, "style is 'llama'; there are bert, t5, gpt"),
        ({"vocab_size": 5}, "vocab_size is 5; 5 tokens are special: give more"),
        (
            {"kind": "bpe", "vocab_size": 200},
            "needs 256 tokens for bytes and 5 special ones: give 261 or more",
        ),
        ({"kind": "unigram", "vocab_size": 6}, "vocab_size is 6; 5 tokens are special: give more"),
    ],
)
def test_what_cannot_be_learned_is_refused(wish, said):
    with pytest.raises(ConfigError) as caught:
        learn(**wish)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_text_there_is_nothing_to_learn(kind):
    with pytest.raises(DataError, match="no text to learn a tokenizer from"):
        learn(kind, texts=["  ", ""])
