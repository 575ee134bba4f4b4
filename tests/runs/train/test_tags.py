"""Runs on tags of other schemes than BIO, and on classes of words: told, scored and answered as what they are."""

import json

import pytest
import torch

from yanma.runs.folder import RunFolder
from yanma.runs.predict import predict
from yanma.runs.train import train
from yanma.runs.train_config import TrainConfig
from yanma.runs.train_setup import open_run

CLASSES = {"Ann": "PROPN", "Bob": "PROPN", "is": "VERB", "paid": "VERB", "the": "DET", "a": "DET"}


def in_bilou(word, tag):
    return tag.replace("B-", "U-")


def in_classes(word, tag):
    return CLASSES.get(word, "X")


@pytest.fixture
def learned(config, data_folder, tmp_path, capsys):
    """A run on rows whose tags are renamed by word and tag; what it told; and answers to rows of words."""

    def learn(renamed):
        files = {}
        for flag, part in {"train": "train", "validation": "dev", "test": "test"}.items():
            lines = (data_folder / f"token-classification.{part}.jsonl").read_text().splitlines()
            rows = [json.loads(line) for line in lines]
            path = tmp_path / f"{part}.jsonl"
            told = [{**row, "tags": [*map(renamed, row["tokens"], row["tags"])]} for row in rows]
            path.write_text("".join(json.dumps(row) + "\n" for row in told))
            files[flag] = str(path)
        wanted = config("token-classification", **files, epochs=3)
        trained = train(wanted)
        ready = open_run(RunFolder(wanted.out, TrainConfig), torch.device("cpu"))

        def ask(words):
            answers = []
            predict(ready, [({"tokens": words}, "asked")], answers.extend, pytest.fail, str, source="asked")
            return answers[0]["predicted_tags"]

        return trained, ready.task, " ".join(capsys.readouterr().err.split()), ask

    return learn


def test_a_file_of_bilou_gives_a_model_that_answers_in_bilou(learned):
    trained, task, said, ask = learned(in_bilou)
    assert task.scheme == "BILOU" and "U-PER" in task.labels
    assert "the tags are BILOU, which yanma predict reads; transformers' pipeline" in said
    report = trained.test.report
    assert report.headline_name == "f1_micro" and set(report.classes) == {"LOC", "PER"}
    answer = ask(["Ann", "lost", "a", "card"] * 30)
    assert "U-PER" in answer[:48] and set(answer[48:]) == {"O"}, "outside, where the text was cut off"


def test_classes_of_words_are_told_scored_by_accuracy_and_answered(learned):
    trained, task, said, ask = learned(in_classes)
    assert task.scheme == "classes of words" and task.labels == ("DET", "PROPN", "VERB", "X")
    assert "the tags are classes of words" in said and "pipeline" not in said
    report = trained.test.report
    assert report.headline_name == "accuracy" and report.headline == report.accuracy > 0.5
    assert set(report.averages) == {"macro", "weighted"} and "X" in report.classes
    answer = ask(["Ann", "lost", "a", "card"] * 30)
    assert set(answer[:40]) <= set(task.labels), "every word has a class"
    assert set(answer[48:]) == {None}, "and none is made up for those that were cut off"
