"""What a tagger's folder says of transformers' pipeline is so."""

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import TokenClassificationPipeline, pipeline

from yanma.objectives import TokenClassification
from yanma.runs.card import card, told
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
    ready, answers = open_run(folder, torch.device("cpu")), []
    texts = ["Ann paid in Paris London bank", "where is Bob", "the lost card of Ann Bob"]
    rows = [({"tokens": text.split()}, "asked") for text in texts]
    predict(ready, rows, answers.extend, pytest.fail, pytest.fail, source="asked")
    read = pipeline("token-classification", str(folder.model), aggregation_strategy="first")
    some = 0
    for text, answer in zip(texts, answers, strict=True):
        ours = entities(answer["predicted_tags"])
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
        assert "the tags are BIOES" in " ".join(said.split()).replace("The", "the")
        assert "B-PER I-PER E-PER gives two groups" in " ".join(said.split())


@pytest.mark.parametrize(
    ("letters", "kind", "long", "groups", "short"),
    [
        ("BIES", "-PER", "B-PER I-PER E-PER", 2, "S-PER S-PER"),
        ("BILU", "-PER", "B-PER I-PER L-PER", 2, "U-PER U-PER"),
        ("BMES", "-PER", "B-PER M-PER E-PER", 3, "S-PER S-PER"),
        ("BMEW", "-PER", "B-PER M-PER E-PER", 3, "W-PER W-PER"),
        ("BIES", "", "B I E", 3, "S S"),
        ("BI", "", "B I I", 2, "B B"),
    ],
)
def test_what_the_pipeline_makes_of_a_schemes_tags_is_as_the_card_says(letters, kind, long, groups, short):
    task = TokenClassification(("O", *(letter + kind for letter in letters)))
    number = {2: "two groups", 3: "three groups"}[groups]
    for said in (card(task), told(task)):
        assert f"{task.scheme} tags ({long} gives {number})" in said and f"({short} gives one)" in said
    read = TokenClassificationPipeline.__new__(TokenClassificationPipeline)
    read.tokenizer = SimpleNamespace(convert_tokens_to_string=" ".join)
    for tags, count in ((long, groups), (short, 1)):
        tokens = [
            {"entity": tag, "score": 1.0, "index": place, "word": "Ann", "start": place, "end": place}
            for place, tag in enumerate(tags.split())
        ]
        assert len(read.group_entities(tokens)) == count, (
            "else it has learned to, and the card is out of date"
        )


@pytest.mark.parametrize("tags", ["O B-PER I-PER", "O I-PER", "O I", "DET NOUN VERB"])
def test_tags_that_the_pipeline_does_not_cut_are_told_by_their_scheme_alone(tags):
    task = TokenClassification(tuple(tags.split()))
    assert told(task) == f"the tags are {task.scheme}"
    assert 'aggregation_strategy="first"' in card(task)
    assert ("one group of neighbours" in card(task)) == (task.scheme == "classes of words")


def test_a_classifier_has_no_card(config):
    wanted = config()
    train(wanted)
    assert not (RunFolder(wanted.out, TrainConfig).model / "README.md").exists()
