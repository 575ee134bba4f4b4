"""A tokenizer without a padding token: packs need none, rectangles say so."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    GPT2Config,
    LlamaConfig,
    LlamaModel,
)

from yanma.engine import Engine
from yanma.errors import ConfigError
from yanma.loading import pretrained
from yanma.loading.tokenizer import learn_tokenizer
from yanma.runs.folder import RunFolder
from yanma.runs.train import train
from yanma.runs.train_config import TrainConfig
from yanma.runs.train_setup import open_run, read_examples

WORDS = (
    "the a lost card my app paid twice refund where is Ann Bob Paris London bank red blue money soon".split()
)
KINDS = {
    "sequence-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
}


@pytest.fixture
def gpt(tmp_path):
    """The folder of a GPT-2 as it is published: nothing pads, in the tokenizer or in the config."""

    def make(pad_token=None, pad_token_id=None):
        tokenizer = learn_tokenizer(lambda: iter([" ".join(WORDS)] * 5), "bpe", 290, style="gpt")
        tokenizer.pad_token = pad_token
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=64, initializer_range=0.2,
            pad_token_id=pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        with pretrained.quiet():
            AutoModelForSequenceClassification.from_config(config).transformer.save_pretrained(
                tmp_path / "gpt"
            )
            tokenizer.save_pretrained(tmp_path / "gpt")
        return {"model": str(tmp_path / "gpt"), "max_length": 60}

    return make


@pytest.mark.parametrize("task", KINDS)
def test_packs_need_no_padding_token(config, gpt, task):
    wanted = config(task, **gpt())
    train(wanted)
    folder = RunFolder(wanted.out, TrainConfig)
    assert pretrained.load_tokenizer(str(folder.model)).pad_token is None
    ready = open_run(folder, torch.device("cpu"))
    examples = read_examples(ready, wanted.data.test, note=print)[:5]
    stock = KINDS[task].from_pretrained(folder.model).eval()
    with torch.no_grad():
        one_at_a_time = [
            stock(torch.tensor([example.tokens.input_ids])).logits.flatten(0, -2) for example in examples
        ]
    torch.testing.assert_close(
        torch.cat(
            [
                answer.result().reshape(-1, answer.result().shape[-1])
                for answer in Engine(ready.model).run(examples)
            ]
        ),
        torch.cat(one_at_a_time),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("task", KINDS)
def test_rectangles_without_a_padding_token_is_refused(config, gpt, task):
    wanted = config(task, batching="padded", **gpt())
    with pytest.raises(
        ConfigError, match=r"padded needs a padding token, .*tokenizer.pad_token = tokenizer.eos_token"
    ):
        train(wanted)
    assert not RunFolder(wanted.out, TrainConfig).path.exists()


def test_a_padding_token_that_only_the_tokenizer_has_is_told_to_the_model(config, gpt, tmp_path):
    given, losses = gpt(pad_token="<pad>"), []
    for batching in ("padded", "packed"):
        wanted = config(batching=batching, out=str(tmp_path / batching), **given)
        train(wanted)
        figures = json.loads((RunFolder(wanted.out, TrainConfig).path / "metrics.json").read_text())
        losses.append(torch.tensor(figures["loss_per_step"]))
        saved = AutoModelForSequenceClassification.from_pretrained(RunFolder(wanted.out, TrainConfig).model)
        assert saved.config.pad_token_id == pretrained.load_tokenizer(given["model"]).pad_token_id
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)


def test_two_padding_tokens_are_refused_where_texts_are_found_to_end_by_one(config, gpt):
    given = gpt(pad_token="<pad>", pad_token_id=5)
    with pytest.raises(ConfigError, match=r"pads with id 0, and the model's config has pad_token_id 5"):
        train(config(batching="padded", **given))


def test_two_padding_tokens_are_no_matter_where_each_token_is_scored(config, gpt):
    given = gpt(pad_token="<pad>")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    with pretrained.quiet():
        LlamaModel(LlamaConfig(vocab_size=400, pad_token_id=5, **sizes)).save_pretrained(given["model"])
    wanted, losses = config("token-classification", dropout=0, epochs=1, **given), []
    for batching in ("padded", "packed"):
        out = str(Path(wanted.out) / batching)
        train(wanted.model_copy(update={"batching": batching, "out": out}))
        losses.append(torch.tensor(json.loads((Path(out) / "metrics.json").read_text())["loss_per_step"]))
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
