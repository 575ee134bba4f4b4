"""Models are loaded from safetensors, or refused in one line; a path never asks a hub."""

import copy
import json
import shutil

import huggingface_hub
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    RobertaConfig,
)
from transformers import AutoModelForTokenClassification as Tagger

from yanma.errors import ConfigError, Unsupported
from yanma.loading import pretrained
from yanma.runs.folder import RunFolder
from yanma.runs.train import train
from yanma.runs.train_config import TrainConfig

LABELS = ("a", "b", "c")


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(model_folder, tmp_path / "model")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a hub was asked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)


def refusal(folder, kind=ConfigError):
    with pytest.raises(kind) as caught:
        pretrained.load_model(str(folder), "SequenceClassification", LABELS)
    assert "\n" not in str(caught.value), "one line"
    return str(caught.value)


@pytest.mark.parametrize("name", ["./nope", "nope/", "/nope/model", "a/b/c", "~nope/x"])
def test_a_path_that_is_not_there_is_one_line_and_no_question_to_a_hub(name):
    assert refusal(name) == f"{name}: no such model folder"


def test_a_name_that_no_hub_answers_to_is_first_of_all_no_folder_here(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError(
            "We couldn't connect to 'https://huggingface.co' to load the files.\nCheck your connection."
        )

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    message = refusal("missing/dir")
    assert message.startswith("missing/dir: no model folder of this name, and the hub gives none")
    assert message.endswith("load the files.")
    for load in (pretrained.load_tokenizer, pretrained.load_as_saved):
        with pytest.raises(
            ConfigError
        ) as caught:  # and not after transformers' own attempts, most of a minute
            load("missing/dir")
        assert str(caught.value) == message


def test_a_name_under_a_folder_that_is_here_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not pretrained.looks_like_a_path("runs/x")
    (tmp_path / "runs").mkdir()
    assert pretrained.looks_like_a_path("runs/x"), "OWNER of OWNER/NAME is a folder here"


def test_a_pickle_checkpoint_is_refused_and_never_opened(folder, monkeypatch):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the pickle was opened"))
    message = refusal(folder, Unsupported)
    assert "holds only a pickle checkpoint (pytorch_model.bin)" in message


def test_a_pickle_beside_safetensors_is_not_opened(folder, monkeypatch):
    torch.save({}, folder / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the pickle was opened"))
    assert pretrained.load_model(str(folder), "SequenceClassification", LABELS).model.num_labels == 3


def test_what_is_missing_or_broken_in_a_folder_is_named(folder):
    (folder / "model.safetensors").write_bytes(b"no tensors")
    assert str(folder) in refusal(folder)
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors" in refusal(folder)
    (folder / "config.json").write_text("{")
    (folder / "model.safetensors").write_bytes(b"")
    assert "JSON" in refusal(folder)
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder)


def test_code_that_comes_with_a_model_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('the code ran')")
    assert refusal(folder) == f"{folder}: it needs code that comes with it, which yanma does not run"


def test_labels_are_in_the_config_and_a_fresh_head_is_told(folder):
    loaded = pretrained.load_model(str(folder), "SequenceClassification", LABELS)
    assert loaded.model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert loaded.model.config.label2id == {"a": 0, "b": 1, "c": 2}
    assert loaded.fresh == ("classifier.bias", "classifier.weight")


def test_a_head_of_another_size_is_replaced_and_told(folder, tmp_path):
    model = pretrained.load_model(str(folder), "SequenceClassification", LABELS).model
    with pretrained.quiet():
        model.save_pretrained(tmp_path / "three")
    same = pretrained.load_model(str(tmp_path / "three"), "SequenceClassification", LABELS)
    assert same.fresh == (), "the head fits"
    other = pretrained.load_model(str(tmp_path / "three"), "SequenceClassification", ("x", "y"))
    assert set(other.fresh) == {"classifier.bias", "classifier.weight"}


def test_weights_of_which_none_fits_are_refused(folder):
    from safetensors.torch import save_file

    save_file({"something.else": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    assert "none of its weights fits" in refusal(folder)


def test_a_folder_without_a_tokenizer_is_refused(folder):
    pretrained.load_tokenizer(str(folder))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ConfigError, match="no tokenizer in it"):
        pretrained.load_tokenizer(str(folder))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(folder, tokenizer):
    config = BertConfig(
        vocab_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(ConfigError, match=rf"the tokenizer has {len(tokenizer)} tokens, the model knows 7"):
        pretrained.check_vocabulary(model, tokenizer)


SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
    "vocab_size": 9,
}


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        (BertConfig(**SIZES, max_position_embeddings=40), 40),
        (RobertaConfig(**SIZES, max_position_embeddings=42, pad_token_id=1), 40),
        (
            DistilBertConfig(
                vocab_size=9, dim=8, n_layers=1, n_heads=1, hidden_dim=8, max_position_embeddings=40
            ),
            40,
        ),
        (GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, n_positions=40), 40),
        (DebertaV2Config(**SIZES, relative_attention=True, position_biased_input=False), 512),
    ],
    ids=lambda given: getattr(given, "model_type", ""),
)
def test_the_longest_text_is_what_model_and_tokenizer_allow(config, longest, tokenizer):
    model = Tagger.from_config(config)
    assert pretrained.longest_text(model, tokenizer) == longest


def test_bart_counts_its_positions_from_two(tokenizer):
    sizes = {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 8,
        "decoder_ffn_dim": 8,
        "d_model": 8,
    }
    config = BartConfig(**sizes, vocab_size=9, encoder_attention_heads=1, decoder_attention_heads=1,
                        max_position_embeddings=40)  # fmt: skip
    assert pretrained.longest_text(AutoModelForSequenceClassification.from_config(config), tokenizer) == 40


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_set_everywhere(dropout):
    for config in (
        BertConfig(**SIZES),
        DistilBertConfig(vocab_size=9, dim=8, n_layers=1, n_heads=1, hidden_dim=8),
    ):
        pretrained.set_dropout(config, dropout)
        model = AutoModelForSequenceClassification.from_config(config)
        rates = {name: m.p for name, m in model.named_modules() if isinstance(m, torch.nn.Dropout)}
        assert rates and set(rates.values()) == {dropout}, f"{config.model_type}: {rates}"


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_set_in_the_head_of_a_decoder_that_tags(dropout):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = LlamaConfig(vocab_size=9, **sizes)
    assert not hasattr(config, "classifier_dropout"), "which the head reads"
    pretrained.set_dropout(config, dropout)
    assert Tagger.from_config(config).dropout.p == dropout


@pytest.mark.parametrize(("budget", "longest"), [(4096, 70), (50, 50)])
def test_without_a_table_of_positions_the_length_is_that_which_the_model_was_made_for(
    config, tokenizer, tmp_path, budget, longest
):
    sizes = SIZES | {"vocab_size": len(tokenizer), "num_key_value_heads": 1, "max_position_embeddings": 70}
    AutoModelForSequenceClassification.from_config(LlamaConfig(**sizes)).save_pretrained(tmp_path / "llama")
    own = copy.deepcopy(tokenizer)
    own.model_input_names = ["input_ids", "attention_mask"]  # Llama knows no token types
    own.save_pretrained(tmp_path / "llama")
    wanted = config(model=str(tmp_path / "llama"), max_batch_tokens=budget, epochs=1)
    trained = train(wanted)
    assert RunFolder(trained.folder, TrainConfig).finished_config().model.max_length == longest
