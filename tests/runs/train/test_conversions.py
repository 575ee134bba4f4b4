"""Tokenizers and weights that cannot be loaded as they lie there: what the error says to do makes them loadable."""

import re

import pytest
import sentencepiece
import torch
import transformers
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer

from yanma.errors import ConfigError, Unsupported
from yanma.loading.pretrained import load_model, load_tokenizer

TEXT = "where is my card please hello world in new york\n"


@pytest.fixture
def vocabularies(tmp_path):
    """Folders of a vocabulary alone, as they are left by those who trained it."""
    (tmp_path / "texts.txt").write_text(TEXT * 50)
    folders = {}
    for name in ("bpe", "wordpiece", "spiece", "bpe.model"):
        folders[name] = tmp_path / name
        folders[name].mkdir()
    bpe = ByteLevelBPETokenizer()
    bpe.train(
        [str(tmp_path / "texts.txt")],
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    )
    bpe.save_model(str(folders["bpe"]))
    wordpiece = BertWordPieceTokenizer()
    wordpiece.train([str(tmp_path / "texts.txt")], vocab_size=100)
    wordpiece.save_model(str(folders["wordpiece"]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "texts.txt"), model_prefix=str(tmp_path / "sp"), vocab_size=24, minloglevel=2
    )
    model = (tmp_path / "sp.model").read_bytes()
    (folders["spiece"] / "spiece.model").write_bytes(model)
    (folders["bpe.model"] / "sentencepiece.bpe.model").write_bytes(model)
    return folders | {"raw": tmp_path / "sp.model"}


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("bpe", ["<s>", "he", "llo", "Ġcard", "</s>"]),
        ("wordpiece", ["[CLS]", "hello", "card", "[SEP]"]),
        ("spiece", ["▁", "he", "l", "l", "o", "▁", "c", "a", "r", "d", "</s>"]),
        ("bpe.model", ["<s>", "▁", "he", "l", "l", "o", "▁", "c", "a", "r", "d", "</s>"]),
    ],
)
def test_a_vocabulary_alone_is_refused_with_what_converts_it(vocabularies, name, pieces):
    folder = vocabularies[name]
    with pytest.raises(ConfigError, match="not say whose") as caught:
        load_tokenizer(str(folder))
    advised = re.search(
        r"once: (transformers\.\w+\.from_pretrained\(.*?\)\.save_pretrained\('.*?'\))", str(caught.value)
    )
    eval(advised[1], {"transformers": transformers})
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.convert_ids_to_tokens(tokenizer("hello card")["input_ids"]) == pieces


def test_a_model_of_sentencepiece_alone_and_a_file_in_a_folder_are_told_apart(vocabularies, model_folder):
    with pytest.raises(ConfigError, match="is a model of SentencePiece's; copy it into a folder"):
        load_tokenizer(str(vocabularies["raw"]))
    with pytest.raises(ConfigError, match=f"a file; a tokenizer is a folder.*did you mean {model_folder}"):
        load_tokenizer(str(model_folder / "tokenizer.json"))


def test_weights_in_a_pickle_are_refused_with_what_converts_them(tmp_path, monkeypatch):
    config = transformers.BertConfig(
        vocab_size=9,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        num_labels=3,
    )
    model = transformers.BertForSequenceClassification(config)
    config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(Unsupported, match="only a pickle checkpoint") as caught:
        load_model(str(tmp_path), "SequenceClassification", ("a", "b", "c"))
    advised = re.search(r"once: (.*)", str(caught.value))
    monkeypatch.chdir(tmp_path)
    exec(advised[1], {})
    loaded = load_model(str(tmp_path), "SequenceClassification", ())
    for key, value in model.bert.state_dict().items():
        assert torch.equal(loaded.model.bert.state_dict()[key], value), key
