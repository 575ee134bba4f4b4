"""A tokenizer trained by hand puts no special tokens around a text: that is told, and can be mended."""

import json
import shutil

import pytest
import torch
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, T5Config
from transformers import T5ForConditionalGeneration as T5

from yanma.errors import ConfigError
from yanma.loading import pretrained
from yanma.loading.special_tokens import add_special_tokens, left_out
from yanma.loading.tokenizer import learn_tokenizer
from yanma.runs.folder import RunFolder
from yanma.runs.train import train
from yanma.runs.train_config import TrainConfig
from yanma.runs.train_setup import open_run, read_examples

TOLD = "puts no special tokens around a text, though it has [CLS] and [SEP]"


def by_hand(style="bert", kind="wordpiece", **names):
    """A tokenizer as `tokenizers` trains it: no post-processor, or BPE's, which adds nothing."""
    learned = learn_tokenizer(lambda: iter(["the lost card of Ann"] * 3), kind, 360, style=style)
    backend = Tokenizer.from_str(learned.backend_tokenizer.to_str())
    backend.post_processor = processors.ByteLevel(trim_offsets=True) if kind == "bpe" else None
    own = {name: getattr(learned, name) for name in ("pad_token", "unk_token")}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **own, **names)


BERT = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}


@pytest.fixture
def folder(model_folder, tokenizer, tmp_path):
    """The model whose tokenizer adds nothing."""
    folder = shutil.copytree(model_folder, tmp_path / "model")
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = None
    with pretrained.quiet():
        names = {"pad_token": "[PAD]", "unk_token": "[UNK]", **BERT}
        PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("task", ["sequence-classification", "token-classification"])
def test_special_tokens_that_are_left_out_are_told_and_can_be_added(config, folder, tokenizer, capsys, task):
    wanted = config(task, model=str(folder))
    train(wanted)
    assert TOLD in " ".join(capsys.readouterr().err.split())
    wanted = config(task, model=str(folder), add_special_tokens=True, out=str(folder.parent / "with"))
    train(wanted)
    assert "puts no special tokens" not in " ".join(capsys.readouterr().err.split())
    ready = open_run(RunFolder(wanted.out, TrainConfig), torch.device("cpu"))
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    for example in read_examples(ready, wanted.data.test, note=pytest.fail):
        assert (example.tokens.input_ids[0], example.tokens.input_ids[-1]) == (cls, sep)
        assert cls not in example.tokens.input_ids[1:] and sep not in example.tokens.input_ids[:-1]
    assert (
        AutoTokenizer.from_pretrained(RunFolder(wanted.out, TrainConfig).model)("the card")["input_ids"][0]
        == cls
    )


@pytest.mark.parametrize(
    ("tokenizer", "one", "two"),
    [
        (by_hand(**BERT), "[CLS] the [SEP]", "[CLS] the [SEP] card [SEP]"),
        (by_hand("gpt", "bpe", bos_token="<s>", eos_token="</s>"), "<s> the </s>", "<s> the </s> card </s>"),
        (by_hand("t5", "bpe", eos_token="</s>"), "the </s>", "the </s> card </s>"),
    ],
    ids=["bert", "roberta", "t5"],
)
def test_what_is_added_is_kept_where_the_tokenizer_is_saved(tmp_path, tokenizer, one, two):
    offsets = tokenizer("the", return_offsets_mapping=True)["offset_mapping"]
    add_special_tokens(tokenizer)
    with pretrained.quiet():
        tokenizer.save_pretrained(tmp_path)
    loaded = pretrained.load_tokenizer(str(tmp_path))
    for its in (tokenizer, loaded):
        assert "".join(its.convert_ids_to_tokens(its("the")["input_ids"])) == one.replace(" ", "")
        assert "".join(its.convert_ids_to_tokens(its("the", "card")["input_ids"])) == two.replace(" ", "")
        found = its("the", return_offsets_mapping=True)["offset_mapping"]
        assert [place for place in found if place != (0, 0)] == offsets
    with pytest.raises(ConfigError, match="puts special tokens around a text already"):
        add_special_tokens(loaded)


def test_a_tokenizer_that_has_none_is_refused():
    with pytest.raises(ConfigError, match="the tokenizer has none"):
        add_special_tokens(by_hand())


def test_a_tokenizer_that_is_learned_has_them_already(config):
    with pytest.raises(ConfigError, match="puts special tokens around a text already"):
        train(config(model=None, from_scratch="bert-tiny", add_special_tokens=True))


def test_whose_texts_begin_with_a_word_anyway_is_not_warned_of():
    sizes = {"vocab_size": 360}
    gpt = GPT2LMHeadModel(GPT2Config(**sizes, n_embd=8, n_layer=1, n_head=1))
    t5 = T5(T5Config(**sizes, d_model=8, d_kv=8, d_ff=8, num_layers=1, num_heads=1))
    as_published = by_hand("gpt", "bpe", bos_token="</s>", eos_token="</s>")
    assert left_out(as_published, gpt) is None, "GPT-2's own"
    assert left_out(by_hand("gpt", "bpe", eos_token="</s>"), gpt) is None, "Qwen's own"
    assert "it has </s>:" in left_out(by_hand("t5", "bpe", eos_token="</s>"), t5)
    assert "it has <s> and </s>:" in left_out(by_hand("gpt", "bpe", bos_token="<s>", eos_token="</s>"), gpt)
    assert "has no special tokens for the ends" in left_out(by_hand(), gpt)
    assert left_out(learn_tokenizer(lambda: iter(["the card"]), "bpe", 300, style="gpt"), gpt) is None


def test_pretraining_tells_and_adds_them_too_and_goes_on_with_them(folder, tmp_path, capsys):
    from yanma.runs.pretrain import pretrain
    from yanma.runs.pretrain_config import load
    from yanma.runs.pretrain_setup import set_up

    (tmp_path / "corpus.txt").write_text("the lost card of Ann\nmy money is red\n" * 20)
    short = {"objective": "mlm", "train": str(tmp_path / "corpus.txt"), "model": str(folder), "steps": 2}
    run = {**short, "out": str(tmp_path / "run"), "pseudo_perplexity_tokens": 0}
    pretrain(load(flags={**run, "out": str(tmp_path / "without")}))
    assert TOLD in " ".join(capsys.readouterr().err.split())
    added = load(flags={**run, "add_special_tokens": True, "save_every": 1})
    pretrain(added)
    assert "puts no special tokens" not in capsys.readouterr().err
    pretrain(added, resume=True)
    tokenizer = pretrained.load_tokenizer(str(tmp_path / "run" / "model"))
    block = set_up(added, torch.device("cpu"), print).order.items[0]
    assert (block.input_ids[0], block.input_ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["architectures"]


def test_what_a_tokenizer_did_to_offsets_it_does_beside_its_special_tokens():
    tokenizer = by_hand("gpt", "bpe", bos_token="<s>", eos_token="</s>")
    own = tokenizer(" card the", return_offsets_mapping=True)["offset_mapping"]
    add_special_tokens(tokenizer)
    assert tokenizer(" card the", return_offsets_mapping=True)["offset_mapping"][1:-1] == own
