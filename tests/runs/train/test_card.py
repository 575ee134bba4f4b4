"""What a tagger's folder says of transformers' pipeline is so."""

import io
import json

import pytest
import torch
from transformers import pipeline

from yanma.runs.folder import RunFolder
from yanma.runs.predict import predict
from yanma.runs.train import train
from yanma.runs.train_config import TrainConfig
from yanma.runs.train_setup import open_run

BIOES = {"B-PER": "S-PER", "B-LOC": "S-LOC"}


def in_bioes(source, place):
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    told = [{**row, "tags": [BIOES.get(tag, tag) for tag in row["tags"]]} for row in rows]
    place.write_text("".join(json.dumps(row) + "\n" for row in told))
    return str(place)


def entities(tags):
    """(type, first word, after the last) as conlleval counts them."""
    found = []
    for place, tag in enumerate(tags):
        goes_on = found and tag[0] == "I" and found[-1][0] == tag[2:] and found[-1][2] == place
        if goes_on:
            found[-1] = (*found[-1][:2], place + 1)
        elif tag != "O":
            found.append((tag[2:], place, place + 1))
    return found


def test_bio_tags_are_read_by_the_pipeline_as_the_card_says(config):
    wanted = config("token-classification", epochs=3)
    train(wanted)
    folder = RunFolder(wanted.out, TrainConfig)
    assert 'aggregation_strategy="first"' in (folder.model / "README.md").read_text()
    ready, answers = open_run(folder, torch.device("cpu")), io.BytesIO()
    texts = ["Ann paid in Paris London bank", "where is Bob", "the lost card of Ann Bob"]
    lines = [json.dumps({"tokens": text.split()}).encode() for text in texts]
    predict(ready, lines, answers, pytest.fail, pytest.fail, source="asked")
    read = pipeline("token-classification", str(folder.model), aggregation_strategy="first")
    some = 0
    for text, line in zip(texts, answers.getvalue().splitlines(), strict=True):
        ours = entities(json.loads(line)["predicted_tags"])
        theirs = [(found["entity_group"], found["word"]) for found in read(text)]
        words = text.split()
        assert theirs == [(kind, " ".join(words[start:end])) for kind, start, end in ours]
        some += len(ours)
    assert some, "an entity was compared"


def test_bioes_tags_are_cut_by_the_pipeline_which_is_told(config, data_folder, tmp_path, capsys):
    files = {
        flag: in_bioes(data_folder / f"token-classification.{part}.jsonl", tmp_path / f"{part}.jsonl")
        for flag, part in {"train": "train", "validation": "dev", "test": "test"}.items()
    }
    wanted = config("token-classification", **files)
    train(wanted)
    folder = RunFolder(wanted.out, TrainConfig)
    for said in (capsys.readouterr().err, (folder.model / "README.md").read_text()):
        assert "B-PER I-PER E-PER gives two groups" in " ".join(said.split())
    read = pipeline("token-classification", str(folder.model))
    for tags, groups in (("B-PER I-PER E-PER", 2), ("S-PER S-PER", 1)):
        tokens = [
            {"entity": tag, "score": 1.0, "index": place, "word": "Ann", "start": place, "end": place}
            for place, tag in enumerate(tags.split())
        ]
        assert len(read.group_entities(tokens)) == groups, (
            "else it has learned to, and the card is out of date"
        )


def test_a_classifier_has_no_card(config):
    wanted = config()
    train(wanted)
    assert not (RunFolder(wanted.out, TrainConfig).model / "README.md").exists()
