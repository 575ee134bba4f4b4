"""Rows that are read anew in each epoch are learned as rows in memory are; so many steps, and no epochs."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from yanma.data.order import Streamed
from yanma.errors import ConfigError, DataError
from yanma.runs import train_setup
from yanma.runs.stepper import Stepper
from yanma.runs.train import train

TASKS = ("sequence-classification", "token-classification")
SHORT = {"epochs": None, "steps": 8, "dropout": 0.1, "save_every": 3, "test": None}
"""Of 90 rows in steps of 16: more than an epoch."""


def figures(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text("utf-8"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """After the last step: the best model may be an earlier one."""
    return load_file(
        folder / "checkpoints" / f"step-{figures(folder)['num_steps']:08}" / "weights.safetensors"
    )


def same_bits(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def one_word_a_row(source: str, path: Path) -> str:
    """The words of a file of tags, each in a row with the number of its sentence in the first of them."""
    lines = ["id\tword\ttag"]
    for number, line in enumerate(Path(source).read_text().splitlines()):
        row = json.loads(line)
        ids = [str(number), *[""] * (len(row["tokens"]) - 1)]
        lines += ["\t".join(cells) for cells in zip(ids, row["tokens"], row["tags"], strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def rows(settings, tmp_path):
    """Flags of rows of a kind: texts, tagged sentences, or a word a row."""

    def make(kind: str) -> dict:
        task = TASKS[0] if kind == "texts" else TASKS[1]
        flags = settings(task, **SHORT)
        if kind == "words":
            for part in ("train", "validation"):
                flags[part] = one_word_a_row(flags[part], tmp_path / f"{part}.tsv")
            flags["columns"] = "tokens=word,tags=tag,sentence=id"
        return {name: value for name, value in flags.items() if value is not None}

    return make


@pytest.mark.parametrize("kind", ["texts", "tags", "words"])
def test_a_short_stream_gives_the_weights_of_rows_in_memory_and_goes_on_with_the_same_bits(
    rows, tmp_path, kind
):
    flags = rows(kind)
    kept = train(flags | {"out": str(tmp_path / "kept")})
    streamed = flags | {"out": str(tmp_path / "streamed"), "streaming": True}
    done = train(streamed)
    one, other = figures(kept.folder), figures(done.folder)
    assert one["loss_per_step"] == other["loss_per_step"] and len(one["loss_per_step"]) == 8
    assert same_bits(kept.folder, done.folder) and kept.validation == done.validation
    assert [each["epoch"] for each in other["validations"]] == [1, 2], "the stream was read more than once"
    assert "train" in one["data"] and "train" not in other["data"], "nobody has counted a stream"
    whole = weights(done.folder)
    shutil.rmtree(done.folder / "checkpoints" / "step-00000008")
    state = json.loads((done.folder / "checkpoints" / "step-00000006" / "state.json").read_text())
    assert (state["step"], state["epoch"], state["begin"]) == (6, 0, 6)
    resumed = train(streamed, resume=True)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(resumed.folder).items())
    assert figures(resumed.folder)["loss_per_step"] == one["loss_per_step"]


@pytest.mark.parametrize("at_once", [7, 1024])
def test_a_stream_longer_than_its_window_is_learned_whole_and_goes_on_with_the_same_bits(
    rows, monkeypatch, tmp_path, at_once
):
    seen, move = [], Stepper.move

    def noting(self, step, place, **how):
        seen.append((place.epoch, [example.key for example in step]))
        return move(self, step, place, **how)

    monkeypatch.setattr(train_setup, "Streamed", partial(Streamed, window=20))
    monkeypatch.setattr(train_setup, "_AT_ONCE", at_once)
    monkeypatch.setattr(Stepper, "move", noting)
    flags = rows("texts") | {"streaming": True, "steps": 12, "save_every": 4}
    done = train(flags)
    whole, orders = weights(done.folder), {0: [], 1: []}
    for epoch, keys in seen:
        orders[epoch] += keys
    for order in orders.values():
        parts = [order[begin : begin + 20] for begin in range(0, 90, 20)]
        assert [sorted(part) for part in parts] == [list(range(b, min(b + 20, 90))) for b in range(0, 90, 20)]
    assert orders[0] != orders[1] and orders[0][:20] != sorted(orders[0][:20]), "each window is shuffled anew"
    shutil.rmtree(done.folder / "checkpoints" / "step-00000012")
    resumed = train(flags, resume=True)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(resumed.folder).items())
    assert seen[12:] == seen[8:12], "what was done is passed over"


def test_steps_say_how_long_rows_in_memory_are_learned(config):
    done = train(config(**SHORT | {"steps": 4}))
    assert figures(done.folder)["num_steps"] == 4 == len(figures(done.folder)["loss_per_step"])
    longer = train(config(**SHORT | {"steps": 13}), overwrite=True)
    told = figures(longer.folder)
    assert [each["step"] for each in told["validations"]] == [6, 12, 13], "an epoch has 6 steps"
    assert [each["epoch"] for each in told["validations"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"steps": None, "epochs": 2}, r"`streaming` needs `steps`"),
        ({"steps": None}, r"`streaming` needs `steps`"),
        ({"validation": 0.1}, r"`streaming` needs `validation`: a file"),
        ({"validation": None}, r"`streaming` needs `validation`: a file"),
        ({"epochs": 2}, r"`epochs` and `steps` both say how long to train"),
    ],
)
def test_a_stream_that_would_have_to_be_counted_first_is_refused(config, tmp_path, flags, message):
    with pytest.raises(ConfigError, match=message):
        train(config(**SHORT | {"streaming": True} | flags))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["train", "validation"])
def test_rows_of_one_word_without_their_sentence_are_refused_of_a_stream_too(rows, tmp_path, part):
    flags = rows("tags") | {"streaming": True, "columns": "tokens=word,tags=tag"}
    for name in ("train", "validation"):
        table = one_word_a_row(flags[name], tmp_path / f"{name}.tsv")
        if name == part:
            flags[name] = table
            continue
        sentences = [json.loads(line) for line in Path(flags[name]).read_text().splitlines()]
        renamed = [{"word": row["tokens"], "tag": row["tags"]} for row in sentences]
        flags[name] = str(tmp_path / f"{name}.jsonl")
        Path(flags[name]).write_text("".join(json.dumps(row) + "\n" for row in renamed))
    with pytest.raises(DataError, match="say which column tells the sentence of a word"):
        train(flags)
    assert not Path(flags["out"]).exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"text": "", "label": "red"}, "'text' is empty"),
        ({"text": "a card"}, "no column 'label'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line_in_a_stream(rows, tmp_path, line, message):
    flags = rows("texts") | {"streaming": True}
    lines = Path(flags["train"]).read_text().splitlines()
    lines.insert(70, json.dumps(line))
    flags["train"] = str(tmp_path / "rows.jsonl")
    Path(flags["train"]).write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=rf"rows\.jsonl:71: {message}"):
        train(flags)


def test_an_empty_stream_is_refused(rows, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"empty\.jsonl: no rows in it"):
        train(rows("texts") | {"streaming": True, "train": str(tmp_path / "empty.jsonl")})


def test_other_first_rows_of_a_stream_or_other_labels_are_refused_on_resume(rows, tmp_path):
    flags = rows("texts") | {"streaming": True, "steps": 2}
    lines = [json.loads(line) for line in Path(flags["train"]).read_text().splitlines()]
    flags["train"] = str(tmp_path / "rows.jsonl")

    def write(some) -> None:
        Path(flags["train"]).write_text("".join(json.dumps(row) + "\n" for row in some))

    write(lines)
    train(flags)
    other_row = [*lines[:40], {"text": "another text", "label": "red"}, *lines[41:]]
    one_more_class = [*lines, {"text": "a green card", "label": "green"}]
    for others in (other_row, one_more_class):
        write(others)
        with pytest.raises(DataError):
            train(flags, resume=True)
    write(lines)
    assert train(flags, resume=True).best_step == 2


def test_texts_of_a_stream_that_are_cut_are_told_once(rows, capsys, monkeypatch):
    monkeypatch.setattr(train_setup, "_AT_ONCE", 30)
    train(rows("texts") | {"streaming": True, "max_length": 12})
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("train.jsonl, rows 1 to 30: ") == 1
    assert said.count("of 30 texts are longer than 12 tokens and were cut there") == 1


def test_a_stream_is_learned_padded_as_packed(rows, tmp_path):
    flags = rows("texts") | {"streaming": True, "dropout": 0}
    packed, padded = (
        figures(train(flags | {"batching": how, "out": str(tmp_path / how)}).folder)["loss_per_step"]
        for how in ("packed", "padded")
    )
    assert padded == pytest.approx(packed, abs=1e-4) and max(packed) - min(packed) > 0.01
