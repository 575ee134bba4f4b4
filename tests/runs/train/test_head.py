"""A finished model that is trained further: what its outputs mean stays, or a new head is made and told."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BartConfig,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    RobertaConfig,
    T5Config,
)

from yanma.loading import pretrained
from yanma.loading.head import classes_of, set_task
from yanma.runs.folder import RunFolder
from yanma.runs.train import train
from yanma.runs.train_config import TrainConfig

TASKS = ("sequence-classification", "token-classification")
NOTHING_MOVES = {"learning_rate": 1e-9, "epochs": 1}
BATCHINGS = ("packed", "padded")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model_folder, data_folder):
    """The folder of a model of either task that is right about most of the test rows."""
    from yanma.runs.train_config import load

    folders = {}
    for task in TASKS:
        out = tmp_path_factory.mktemp("finished") / "run"
        files = {part: str(data_folder / f"{task}.{name}.jsonl") for part, name in PARTS.items()}
        how = {"epochs": 6, "batch_size": 8, "learning_rate": 3e-3, "dropout": 0}
        trained = train(
            load(flags={"task": task, "model": str(model_folder), "out": str(out), **files, **how})
        )
        assert trained.test.report.accuracy > 0.8, "there is something to lose"
        folders[task] = (RunFolder(out, TrainConfig).model, trained.test.report.accuracy)
    return folders


PARTS = {"train": "train", "validation": "dev", "test": "test"}


def rearranged(folder, place, order, name=str):
    """A copy of a finished model whose outputs stand in another order, each under the name of its class."""
    copy = shutil.copytree(folder, place)
    config = json.loads((copy / "config.json").read_text())
    names = [config["id2label"][str(index)] for index in order(range(len(config["id2label"])))]
    config["id2label"] = {str(index): name(said) for index, said in enumerate(names)}
    config["label2id"] = {said: index for index, said in enumerate(config["id2label"].values())}
    (copy / "config.json").write_text(json.dumps(config))
    weights = load_file(copy / "model.safetensors")
    for key in ("classifier.weight", "classifier.bias"):
        weights[key] = weights[key][list(order(range(len(names))))].contiguous()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def turned(places):
    return [*places[1:], places[0]]


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize("task", TASKS)
def test_a_finished_model_keeps_its_own_order_of_classes(finished, config, tmp_path, capsys, task, batching):
    folder, accuracy = finished[task]
    other = rearranged(folder, tmp_path / "other", turned)
    wanted = config(task, model=str(other), batching=batching, **NOTHING_MOVES)
    trained = train(wanted)
    assert trained.test.report.accuracy == accuracy
    assert "start at random, and are learned: none" in capsys.readouterr().err
    saved, before = (
        json.loads((path / "config.json").read_text())
        for path in (RunFolder(wanted.out, TrainConfig).model, other)
    )
    assert saved["id2label"] == before["id2label"] and saved["label2id"] == before["label2id"]


def test_names_that_differ_in_case_agree_and_are_told(finished, config, tmp_path, capsys):
    folder, accuracy = finished[TASKS[0]]
    other = rearranged(folder, tmp_path / "other", turned, str.upper)
    trained = train(config(model=str(other), **NOTHING_MOVES))
    assert trained.test.report.accuracy == accuracy
    told = capsys.readouterr().err.replace("\n", " ")
    assert "its classes RED, BLUE are red, blue of the data, but for their case; its head is kept" in told


def test_a_model_without_names_has_numbers_for_classes(finished, config, tmp_path):
    folder, accuracy = finished[TASKS[0]]
    number = {"blue": "LABEL_0", "red": "LABEL_1"}
    other = rearranged(folder, tmp_path / "other", list, number.get)
    files = {}
    for flag, part in PARTS.items():
        source = Path(config().data.train[0].replace("train.jsonl", f"{part}.jsonl"))
        rows = map(json.loads, source.read_text().splitlines())
        said = [{**row, "label": ["blue", "red"].index(row["label"])} for row in rows]
        files[flag] = str(tmp_path / f"{part}.jsonl")
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    assert train(config(model=str(other), **files, **NOTHING_MOVES)).test.report.accuracy == accuracy


@pytest.mark.parametrize("batching", BATCHINGS)
def test_a_head_that_knows_other_classes_is_replaced_and_told(finished, config, tmp_path, capsys, batching):
    folder, _ = finished[TASKS[0]]
    other = rearranged(folder, tmp_path / "other", list, {"blue": "hot", "red": "cold"}.get)
    wanted = config(model=str(other), batching=batching, **NOTHING_MOVES)
    train(wanted)
    told = " ".join(capsys.readouterr().err.split())
    assert "its head knows other classes, hot, cold; a new one is made for blue, red" in told
    assert "start at random, and are learned: classifier.bias, classifier.weight" in told
    before, after = (
        load_file(place / "model.safetensors") for place in (other, RunFolder(wanted.out, TrainConfig).model)
    )
    assert not torch.allclose(before["classifier.weight"], after["classifier.weight"], atol=1e-3)
    same = "bert.encoder.layer.0.output.dense.weight"
    assert torch.allclose(before[same], after[same], atol=1e-6), "the rest is the model's own"


def test_a_head_of_another_kind_is_replaced_though_shape_and_names_fit(finished):
    folder, _ = finished[TASKS[1]]
    tags = pretrained.labels(str(folder))
    torch.manual_seed(0)
    loaded = pretrained.load_model(str(folder), "SequenceClassification", tags)
    assert {"classifier.bias", "classifier.weight"} <= set(loaded.fresh)
    assert pretrained.load_model(str(folder), "TokenClassification", tags).fresh == ()


SIZES = {"vocab_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2}
KINDS = {
    "roberta": RobertaConfig(**SIZES, hidden_size=16, intermediate_size=16),
    "distilbert": DistilBertConfig(vocab_size=40, n_layers=1, n_heads=2, dim=16, hidden_dim=16),
    "gpt2": GPT2Config(vocab_size=40, n_layer=1, n_head=2, n_embd=16, n_positions=16),
    "bart": BartConfig(
        vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16
    ),
    "t5": T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_of_every_kind_is_renewed_and_nothing_else(tmp_path, kind):
    config = copy.deepcopy(KINDS[kind])
    set_task(config, TASKS[0], "xyz")
    with pretrained.quiet():
        stock = AutoModelForSequenceClassification.from_config(config)
        stock.save_pretrained(tmp_path)
    loaded = pretrained.load_model(str(tmp_path), "SequenceClassification", "abc")
    assert loaded.notes and loaded.labels == tuple("abc")
    moved = {n for n, p in loaded.model.named_parameters() if not torch.equal(p, stock.get_parameter(n))}
    assert moved and moved <= set(loaded.fresh)
    assert {stock.get_parameter(name).shape[0] for name in loaded.fresh} == {3}
    same = pretrained.load_model(str(tmp_path), "SequenceClassification", "yzx")
    assert same.labels == tuple("xyz") and not same.fresh and not same.notes


def named(labels, **more):
    return BertConfig(id2label=dict(enumerate(labels)), **more)


@pytest.mark.parametrize(
    ("own", "labels", "found", "keeps"),
    [
        ("cab", "abc", "cab", True),
        (["Yes", "yes"], ["yes", "Yes"], ["Yes", "yes"], True),
        (["YES", "no"], ["Yes", "yes"], ["Yes", "yes"], False),
        ("aab", "ab", "ab", False),
        (["LABEL_0", "LABEL_1"], "01", "01", True),
        (["LABEL_0", "LABEL_1"], "12", "12", False),
        (["LABEL_0", "LABEL_1"], "ab", "ab", False),
        ("abc", "ab", "ab", False),
        ("ab", "ac", "ac", False),
        ([1, 0], "01", "10", True),
        ([True, False], ["false", "true"], ["true", "false"], True),
    ],
)
def test_which_classes_agree(own, labels, found, keeps):
    classes = classes_of(named(own), "ForSequenceClassification", labels)
    assert (classes.labels, classes.keeps_head) == (tuple(found), keeps)


def test_a_regression_has_no_classes():
    numbers = named(["LABEL_0", "LABEL_1"], problem_type="regression")
    assert not classes_of(numbers, "ForSequenceClassification", "01").keeps_head


@pytest.mark.parametrize("was", ["multi_label_classification", "regression", None])
@pytest.mark.parametrize("task", TASKS)
def test_the_saved_config_says_what_was_trained_and_nothing_else(config, model_folder, tmp_path, task, was):
    kinds = {TASKS[0]: AutoModelForSequenceClassification, TASKS[1]: AutoModelForTokenClassification}
    folder = shutil.copytree(model_folder, tmp_path / "model")
    before = named(["LABEL_0"] if was == "regression" else "xyz", **tiny(folder), problem_type=was)
    before.task_specific_params, before.finetuning_task = {"sst": {"prefix": "a"}}, "stsb"
    with pretrained.quiet():
        AutoModelForSequenceClassification.from_config(before).to(torch.bfloat16).save_pretrained(folder)
    wanted = config(task, model=str(folder), **NOTHING_MOVES)
    train(wanted)
    saved = json.loads((RunFolder(wanted.out, TrainConfig).model / "config.json").read_text())
    model = kinds[task].from_pretrained(RunFolder(wanted.out, TrainConfig).model)
    labels = pretrained.labels(str(RunFolder(wanted.out, TrainConfig).model))
    assert saved["architectures"] == [kinds[task]._model_mapping[BertConfig].__name__]
    assert saved["id2label"] == {str(index): label for index, label in enumerate(labels)}
    assert saved["label2id"] == {label: index for index, label in enumerate(labels)}
    assert saved.get("problem_type") == ("single_label_classification" if task == TASKS[0] else None)
    assert saved["dtype"] == "float32" and {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config.num_labels == len(labels)
    assert not {"task_specific_params", "finetuning_task"} & set(saved)


def tiny(folder):
    config = json.loads((folder / "config.json").read_text())
    kept = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return {name: config[name] for name in (*kept, "max_position_embeddings")}


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_a_checkpoint_of_half_precision_is_trained_in_float32(
    config, model_folder, tmp_path, capsys, stored, bf16
):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    with pretrained.quiet():
        half = pretrained.load_as_saved(str(model_folder)).to(stored)
        half.save_pretrained(folder)
    wanted = config(model=str(folder), learning_rate=2e-5, bf16=bf16)
    train(wanted)
    before, after = (
        load_file(place / "model.safetensors") for place in (folder, RunFolder(wanted.out, TrainConfig).model)
    )
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    for name in (name for name in after if "layer" in name and name.endswith("weight")):
        start = before[name.removeprefix("bert.")].float()
        moved = (after[name] != start).float().mean()
        assert moved > 0.9, f"of {name} only {moved:.0%} moved"
        largest = (after[name] - start).abs().max()
        assert largest < 7 * 2e-5, f"{name} moved by {largest}, more than six updates"
    assert f"weights of {str(stored).removeprefix('torch.')} are trained, and saved, in float32" in (
        " ".join(capsys.readouterr().err.split())
    )
