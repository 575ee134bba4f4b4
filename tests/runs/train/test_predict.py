"""Predictions stream: in order, in bounded windows, answered as soon as the input pauses."""

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from yanma import cli
from yanma.data.objects import read_jsonl
from yanma.data.reading import Reading
from yanma.data.sources import StandardInput
from yanma.runs.answers import comma_separated, json_lines, words
from yanma.runs.folder import RunFolder
from yanma.runs.predict import predict, predict_run, windows
from yanma.runs.train import train
from yanma.runs.train_config import TrainConfig
from yanma.runs.train_setup import open_run

SOURCE = str(Path(__file__).resolve().parents[3] / "src")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, model_folder, data_folder):
    """A run of each task."""
    from yanma.runs.train_config import load

    folders = {}
    for task in ("sequence-classification", "token-classification"):
        folders[task] = tmp_path_factory.mktemp("runs") / "run"
        flags = {"task": task, "train": str(data_folder / f"{task}.train.jsonl"), "model": str(model_folder)}
        train(load(flags=flags | {"out": str(folders[task]), "epochs": "1", "max_batch_tokens": "100"}))
    return folders


@pytest.fixture(scope="module")
def ready(runs):
    return open_run(RunFolder(runs["sequence-classification"], TrainConfig), torch.device("cpu"))


class Lines(StandardInput):
    """Lines that are there already."""

    def __str__(self):
        return "stdin"

    @contextmanager
    def open(self):
        yield io.BytesIO(b"\n".join(line.removesuffix(b"\n") for line in self.member))


def answers(ready, lines):
    out, complaints = io.BytesIO(), []
    records = read_jsonl(Lines(member=lines), None, Reading())
    refused = predict(ready, records, json_lines(out), complaints.append, complaints.append, source="stdin")
    assert refused == sum("longer than" not in complaint for complaint in complaints)
    return [json.loads(line) for line in out.getvalue().splitlines()], complaints


def test_each_row_is_answered_in_order_and_keeps_its_fields(ready):
    rows = [
        {"id": i, "text": "red card " * (1 + 7 * i % 11), "掩码": [1.5, None], "label": "?"}
        for i in range(50)
    ]
    got, complaints = answers(ready, [json.dumps(row).encode() for row in rows])
    assert not complaints
    assert [{k: v for k, v in answer.items() if not k.startswith("predicted_")} for answer in got] == rows
    assert {answer["predicted_label"] for answer in got} <= {"red", "blue"}
    assert all(0.5 <= answer["predicted_probability"] <= 1 for answer in got)


def test_an_answer_does_not_depend_on_what_is_asked_beside_it(ready):
    texts = ["red", "blue card " * 9, "where is my money", "a " * 40]
    lines = [json.dumps({"text": text}).encode() for text in texts]
    together, _ = answers(ready, lines)
    assert together == [answers(ready, [line])[0][0] for line in lines], "bit for bit"


def test_tags_are_one_a_word_also_where_the_text_is_cut(runs):
    ready = open_run(RunFolder(runs["token-classification"], TrainConfig), torch.device("cpu"))
    words = ["Ann", "lost", "a", "card"] * 30
    got, complaints = answers(ready, [json.dumps({"tokens": words}).encode()])
    assert complaints == ["stdin: 1 text is longer than 48 tokens and was cut"]
    tags = got[0]["predicted_tags"]
    assert len(tags) == len(words) and set(tags) <= set(ready.task.labels)
    assert set(tags[60:]) == {"O"}, "words beyond the model's 48 tokens get the outside tag"


def test_a_line_that_cannot_be_used_is_told_with_its_number_and_the_others_are_answered(ready):
    lines = [
        b'{"text": "red card"}\n',
        b"no json\n",
        b'{"text": ""}\n',
        b"\n",
        b'{"txt": "red"}\n',
        b'{"text": "caf\xe9"}\n',
        b"[1, 2]\n",
        b'{"text": 5}\n',
        b'{"text": "blue", "half": "\\ud800"}',
    ]
    got, complaints = answers(ready, lines)
    assert [answer["text"] for answer in got] == ["red card", "blue"]
    places = [complaint.split(": ")[0] for complaint in complaints]
    assert places == [f"stdin:{number}" for number in (2, 3, 5, 6, 7, 8)], "the empty line, 4, is passed over"
    assert all("\n" not in complaint for complaint in complaints)


def test_a_row_whose_own_field_an_answer_would_overwrite_is_refused(ready):
    lines = [b'{"text": "red", "predicted_label": "mine"}\n', b'{"text": "red", "predicted": 1}\n']
    got, complaints = answers(ready, lines)
    assert [answer["predicted"] for answer in got] == [1], "only names that an answer has are taken"
    assert len(complaints) == 1 and complaints[0].startswith(
        "stdin:1: it has a field 'predicted_label' already"
    )


def test_a_label_that_training_did_not_have_is_no_error_in_a_prediction(ready):
    got, complaints = answers(ready, [b'{"text": "red", "label": "green"}'])
    assert not complaints and got[0]["label"] == "green"


class Source:
    """Lines without end that count how far they are read."""

    def __init__(self):
        self.read = 0

    def __iter__(self):
        while True:
            self.read += 1
            yield b"line"


def test_reading_ahead_is_bounded():
    source = Source()
    stream = windows(source, size=10)
    window = next(stream)
    time.sleep(0.1)
    assert len(window) == 10
    assert source.read <= 10 + 10 + 2, f"{source.read} lines were read for one window of 10"


def test_a_pause_ends_a_window_and_no_line_is_lost():
    first_was_seen, seen = threading.Event(), []

    def lines():
        yield b"1"
        yield b"2"
        assert first_was_seen.wait(10), "the first lines were not given before the third was written"
        yield b"3"

    for window in windows(lines(), size=10):
        seen.append(window)
        first_was_seen.set()
    assert [line for window in seen for line in window] == [b"1", b"2", b"3"]
    assert len(seen) > 1


def test_what_reading_raises_is_raised_after_the_lines_before_it():
    def lines():
        yield b"1"
        raise OSError("the pipe broke")

    stream = windows(lines())
    assert next(stream) == [b"1"]
    with pytest.raises(OSError, match="the pipe broke"):
        next(stream)


@pytest.fixture
def process(runs):
    """`yanma predict`, as one would ask it by hand."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "yanma",
        "predict",
        str(runs["sequence-classification"]),
    ]
    environment = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as started:
        watchdog = threading.Timer(120, started.kill)
        watchdog.start()
        yield started
        watchdog.cancel()
        started.kill()


def ask(process, number: int) -> None:
    """Write a row, and read its answer while the input is still open."""
    process.stdin.write(json.dumps({"n": number, "text": "red card"}).encode() + b"\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["n"] == number


def test_a_process_answers_line_by_line_before_its_input_ends(process):
    for number in range(3):
        ask(process, number)
    rest, errors = process.communicate(b"oops\n")
    assert rest == b"" and errors.startswith(b"error: stdin:4: not JSON"), f"says {errors}"
    assert process.returncode == 1, "a line was refused"


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_ctrl_c_while_waiting_for_input_ends_quietly(process):
    ask(process, 0)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr.read() == b""


def exit_code(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


def test_files_in_and_out(runs, tmp_path, data_folder, capsys):
    run, data = runs["sequence-classification"], data_folder / "sequence-classification.test.jsonl"
    assert exit_code("predict", run, data, "--out", tmp_path / "out.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == [
        json.loads(line)["text"] for line in data.read_text().splitlines()
    ]
    assert exit_code("predict", run, tmp_path / "nope.jsonl") == 1
    assert capsys.readouterr().err.endswith(f"error: {tmp_path / 'nope.jsonl'}: no such file\n")
    copy = tmp_path / "copy.jsonl"
    copy.write_text(data.read_text())
    assert exit_code("predict", run, copy, "--out", copy) == 2, "it would be emptied before it is read"
    assert copy.read_text() == data.read_text()


def test_predicted_labels_give_the_accuracy_that_evaluate_reports(runs, data_folder, tmp_path, capsys):
    run, data = runs["sequence-classification"], data_folder / "sequence-classification.test.jsonl"
    exit_code("predict", run, data, "--out", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    right = sum(row["label"] == row["predicted_label"] for row in rows) / len(rows)
    capsys.readouterr()
    assert exit_code("evaluate", run, data, "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(right)


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "ROWS.JSONL.GZ"])
def test_a_compressed_file_is_read_however_its_name_is_written(runs, tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b'{"text": "red card"}\n'))
    refused = predict_run(
        runs["sequence-classification"],
        str(tmp_path / name),
        tmp_path / "out.jsonl",
        pytest.fail,
        pytest.fail,
    )
    assert refused == 0 and "predicted_label" in json.loads((tmp_path / "out.jsonl").read_text())


def test_an_answer_file_is_whole_or_as_it_was(runs, tmp_path, monkeypatch, capsys):
    run, out = runs["sequence-classification"], tmp_path / "out.jsonl"
    out.write_text("of an earlier run")
    (tmp_path / "rows.jsonl").write_text('{"text": "red card"}\n')

    def fails(ready, records, write, *rest, source):
        write([{"half": "an answer"}])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("yanma.runs.predict.predict", fails)
    assert exit_code("predict", run, tmp_path / "rows.jsonl", "--out", out) == 1
    unfinished = tmp_path / "out.jsonl.partial"
    assert capsys.readouterr().err.endswith(f"error: {unfinished}: No space left on device\n")
    assert out.read_text() == "of an earlier run" and unfinished.read_text() == '{"half": "an answer"}\n'


def test_a_full_disk_is_told_with_the_file(runs, data_folder, capsys):
    data = data_folder / "sequence-classification.test.jsonl"
    assert exit_code("predict", runs["sequence-classification"], data, "--out", "/dev/full") == 1
    assert capsys.readouterr().err == "error: /dev/full: No space left on device\n"


CSV = 'id,text,label\n1,"red, red card",red\n2,,blue\n3,blue sky,blue\n'


@pytest.mark.parametrize(("kind", "out"), [("csv", "out.jsonl"), ("csv", "out.csv"), ("tsv", "out.tsv")])
def test_a_table_is_answered_row_by_row_as_json_lines_or_as_a_table(runs, tmp_path, capsys, kind, out):
    path = tmp_path / f"rows.{kind}"
    path.write_text(
        CSV if kind == "csv" else CSV.replace(",", "\t").replace('"red\t red card"', "red, red card")
    )
    run = runs["sequence-classification"]
    assert exit_code("predict", run, path, "--out", tmp_path / out) == 1, "one row has no text"
    assert f"{path}:3: 'text' is empty" in capsys.readouterr().err
    written = (tmp_path / out).read_text()
    if out == "out.jsonl":
        rows = [json.loads(line) for line in written.splitlines()]
    else:
        rows = list(csv.DictReader(io.StringIO(written), delimiter="\t" if out.endswith("tsv") else ","))
    assert [(row["id"], row["text"]) for row in rows] == [("1", "red, red card"), ("3", "blue sky")]
    assert {row["predicted_label"] for row in rows} <= {"red", "blue"}


def test_plain_lines_and_other_encodings_are_answered(runs, tmp_path):
    run, texts = runs["sequence-classification"], ["red caf\xe9", "blue"]
    (tmp_path / "rows.txt").write_bytes("\n\n".join(texts).encode("latin-1"))
    flags = ["--format", "text", "--encoding", "latin-1", "--out", tmp_path / "out.jsonl"]
    assert exit_code("predict", run, tmp_path / "rows.txt", *flags) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == texts


@pytest.mark.parametrize("columns", [[], ["--columns", "tokens=2"]])
def test_words_are_answered_as_the_file_has_them(runs, tmp_path, columns):
    lines = [["Ann", "lost"], ["a"]]
    written = "\n".join("".join(f"{'7 ' * bool(columns)}{word}\n" for word in words) for words in lines)
    (tmp_path / "rows.conll").write_text(written)
    run, out = runs["token-classification"], tmp_path / "out.conll"
    assert exit_code("predict", run, tmp_path / "rows.conll", *columns, "--out", out) == 0
    sentences = [
        [line.split("\t") for line in part.splitlines()] for part in out.read_text().split("\n\n") if part
    ]
    assert [[word for word, _ in own] for own in sentences] == lines
    assert exit_code("predict", run, tmp_path / "rows.conll", *columns, "--out", tmp_path / "out.csv") == 2


@pytest.mark.parametrize(
    ("name", "out", "words"),
    [
        ("rows.csv", "out.tsv", "--out is named as tsv; answers to csv rows are written as JSON lines"),
        ("rows.csv", "out.jsonl.gz", "answers are not compressed: leave .gz out"),
        ("rows.pkl", "out.jsonl", "the name does not say its format"),
        ("semi.csv", "out.jsonl", "the header is one column with a semicolon in it: say --delimiter ';'"),
    ],
)
def test_what_cannot_be_answered_so_is_refused_at_once(runs, tmp_path, capsys, name, out, words):
    (tmp_path / name).write_text(CSV.replace(",", ";") if name == "semi.csv" else CSV)
    assert exit_code(
        "predict", runs["sequence-classification"], tmp_path / name, "--out", tmp_path / out
    ) in (1, 2)
    told = capsys.readouterr().err
    assert words in told and len(told.strip().splitlines()) == 1, told


def test_rows_without_a_header_are_answered_with_all_their_fields(runs, tmp_path):
    (tmp_path / "rows.csv").write_text("7,red card,x\n8,blue,y\n")
    run, out = runs["sequence-classification"], tmp_path / "out.csv"
    assert exit_code("predict", run, tmp_path / "rows.csv", "--columns", "text=2", "--out", out) == 0
    rows = list(csv.reader(io.StringIO(out.read_text())))
    assert [row[:3] for row in rows] == [["1", "2", "3"], ["7", "red card", "x"], ["8", "blue", "y"]]


def test_a_word_without_a_class_is_written_as_one():
    out = io.BytesIO()
    words(out)([{"tokens": ["a", "\u200b"], "predicted_tags": ["NOUN", None]}])
    comma_separated(out)([{"tokens": ["a", "\u200b"], "predicted_tags": ["NOUN", None]}])
    assert out.getvalue().decode().splitlines()[:2] == ["a\tNOUN", "\u200b\t_"]
    assert out.getvalue().decode().splitlines()[-1] == "a \u200b,NOUN _"
