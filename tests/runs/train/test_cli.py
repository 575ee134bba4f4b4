"""The commands: data on stdout, words on stderr, one line for every mistake, and the exit code that it deserves."""

import json
import logging
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from yanma import cli
from yanma.runs.train import train
from yanma.runs.train_config import TrainConfig
from yanma.settings import settings_of


@pytest.mark.parametrize("task", ["sequence-classification", "token-classification"])
def test_evaluate_reproduces_the_test_report(run, flags, settings, task):
    code, out, _ = run("train", *flags(task, epochs=2, max_batch_tokens=200), "--json")
    assert code == 0
    trained = json.loads(out)
    assert trained["test"]["classes"], "there is something to compare"
    code, out, _ = run("evaluate", trained["folder"], settings(task)["test"], "--json")
    assert (code, json.loads(out)) == (0, trained["test"])


@pytest.mark.parametrize("task", ["sequence-classification", "token-classification"])
def test_evaluate_takes_rows_whose_columns_have_other_names(run, flags, settings, task, tmp_path):
    trained = json.loads(run("train", *flags(task), "--json")[1])
    truth = "label" if task == "sequence-classification" else "tags"
    path = tmp_path / "other.jsonl"
    path.write_text(Path(settings(task)["test"]).read_text().replace(f'"{truth}":', '"meant":'))
    code, out, err = run("evaluate", trained["folder"], path)
    assert (code, out) == (1, "") and "(--columns says which is meant)" in err
    code, out, err = run("evaluate", trained["folder"], path, "--columns", f"{truth}=meant", "--json")
    assert (code, json.loads(out)) == (0, trained["test"]), err


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("meant", "--columns: columns are said as usual=yours"),
        ("label=a,label=b", "--columns: 'label' is said twice, 'a' and 'b'"),
        ("topic=a", "this task has no column 'topic'"),
        ("text_pair=a", "this run reads one text of a row, not a pair"),
    ],
)
def test_columns_that_a_run_does_not_read_are_refused(run, flags, settings, named, words):
    trained = json.loads(run("train", *flags(), "--json")[1])
    code, out, err = run("evaluate", trained["folder"], settings()["test"], "--columns", named)
    assert (code, out) == (2, "") and words in err and err.count("\n") == 1, err


@pytest.mark.parametrize("task", ["sequence-classification", "token-classification"])
def test_labels_that_differ_in_case_alone_are_the_classes_and_are_told(run, flags, settings, task, tmp_path):
    trained = json.loads(run("train", *flags(task), "--json")[1])
    rows = [json.loads(line) for line in Path(settings(task)["test"]).read_text().splitlines()]
    for row in rows:
        if "label" in row:
            row["label"] = row["label"].upper()
        else:
            row["tags"] = [tag[:2] + tag[2:].swapcase() for tag in row["tags"]]
    path = tmp_path / "other.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = run("evaluate", trained["folder"], path, "--json")
    assert (code, json.loads(out)) == (0, trained["test"]), err
    assert "labels that differ from a class in case alone are taken for it: " in " ".join(err.split())


def test_the_test_report_is_a_table_on_stdout_and_the_rest_goes_to_stderr(run, flags):
    code, out, err = run("train", *flags())
    assert code == 0
    assert re.search(r"precision .* recall .* F1 .* support", out) and re.search(r"\bred\b.*\d\.\d{4}", out)
    assert "validation, step 6" in err and "validation, step 6" not in out
    assert "tokens/s" in err and "padding avoided" in err


def test_a_config_file_and_flags_that_override_it(run, flags, settings, tmp_path):
    path = tmp_path / "train.toml"
    given = settings()
    path.write_text(
        f"out = {json.dumps(given['out'])}\n[task]\nname = 'sequence-classification'\n"
        f"[data]\ntrain = {json.dumps(given['train'])}\n[model]\npath = {json.dumps(given['model'])}\n"
        f"[optim]\nepochs = 2\n"
    )
    code, out, err = run("train", "--config", path, "--epochs", "1", "--json")
    assert code == 0, err
    assert json.loads(out)["test"] is None, "the file names no test rows"
    assert "step 3/3 (epoch 1)" in err, "the flag counts"
    path.write_text(path.read_text().replace("epochs", "epoch"))
    expected = f"error: {path}: [optim] has no key 'epoch'; did you mean 'epochs'?\n"
    assert run("train", "--config", path, "--overwrite") == (2, "", expected)


ROWS = {
    "empty text": '{"text": "a", "label": "x"}\n{"text": "", "label": "y"}\n',
    "missing column": '{"text": "a", "label": "x"}\n{"text": "a"}\n',
    "not UTF-8": b'{"text": "a", "label": "x"}\n{"text": "\xff", "label": "y"}\n',
    "one class": '{"text": "a", "label": "x"}\n',
    "empty file": "",
}


@pytest.mark.parametrize("what", ROWS)
def test_data_that_cannot_be_used_is_one_line_with_its_place_and_exit_code_1(run, flags, tmp_path, what):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS[what] if isinstance(ROWS[what], bytes) else ROWS[what].encode())
    code, out, err = run("train", *flags(train=path))
    last = err.splitlines()[-1]
    assert (code, out) == (1, "")
    assert last.startswith(f"error: {path}") and "Traceback" not in err, f"says: {err}"
    if what not in ("one class", "empty file"):
        assert re.match(rf"error: {re.escape(str(path))}:2", last), f"line 2 is named: {last}"


def test_an_unknown_label_in_validation_and_words_without_tags_are_named(run, flags, tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_text('{"text": "a", "label": "red"}\n{"text": "a", "label": "rde"}\n')
    code, _, err = run("train", *flags(validation=path))
    assert code == 1 and f"error: {path}:2: label 'rde'" in err and "did you mean 'red'?" in err
    path.write_text('{"tokens": ["a", "b"], "tags": ["O"]}\n')
    code, _, err = run("train", *flags("token-classification", validation=path))
    assert code == 1 and f"error: {path}:1: 2 tokens but 1 tags" in err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "./nope"}, "error: ./nope: no such model folder"),
        ({"train": "nope.jsonl"}, "error: nope.jsonl: no such file"),
        ({"learning_rate": "fast"}, "error: --learning-rate: must be a number; got 'fast'"),
        ({"from_scratch": "bert-tiny"}, "error: [model]: give either --model or --from-scratch"),
        ({"freeze": "foo"}, "error: --freeze: 'foo' freezes nothing"),
    ],
)
def test_a_wrong_setting_is_one_line(run, flags, wrong, message):
    code, out, err = run("train", *flags(**wrong))
    assert code == (1 if "train" in wrong else 2)
    assert out == "" and err.splitlines()[-1].startswith(message), f"says: {err}"
    assert sum(line.startswith("error:") for line in err.splitlines()) == 1


def test_of_a_name_that_is_no_folder_here_this_is_said_before_the_hub_is_asked(run, flags, monkeypatch):
    hub = logging.getLogger("huggingface_hub.utils._http")

    def unreachable(*args, **kwargs):
        assert not hub.isEnabledFor(logging.WARNING), "it would tell of every retry"
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    code, out, err = run("train", *flags(model="missing/dir"))
    first, last = err.splitlines()
    assert (code, out) == (2, "") and first == "missing/dir: no such folder here; the hub is asked for it"
    assert last.startswith("error: missing/dir: no model folder of this name") and "couldn't connect" in last
    assert hub.isEnabledFor(logging.WARNING), "as it was before"


def test_a_folder_that_is_no_model_or_only_a_pickle_is_one_line(run, flags, tmp_path):
    for name, message in (
        ("other.txt", "no config.json in it, so this is not a model folder"),
        ("config.json", "no model.safetensors in it"),
        (
            "pytorch_model.bin",
            "holds only a pickle checkpoint (pytorch_model.bin), which could run code when loaded",
        ),
    ):
        (tmp_path / name).write_text("{}")
        code, out, err = run("train", *flags(model=tmp_path))
        assert (code, out) == (2, "") and err.count("\n") == 1, f"says: {err}"
        assert err.startswith(f"error: {tmp_path}: {message}"), f"says: {err}"


def test_a_misspelt_flag_is_a_usage_error(run, flags):
    code, out, err = run("train", *flags(), "--learning-rat", "1")
    assert (code, out) == (2, "") and "--learning-rat" in err


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_folder_that_is_no_run_is_refused(run, tmp_path, command):
    arguments = [tmp_path, "rows.jsonl"]
    expected = f"error: {tmp_path}: not a run folder (no config.toml in it)\n"
    assert run(command, *arguments) == (2, "", expected)


def test_a_run_with_a_broken_model_is_one_line(run, config, settings, capsys):
    folder = train(config()).folder
    (folder / "model" / "model.safetensors").write_bytes(b"broken")
    capsys.readouterr()
    code, out, err = run("evaluate", folder, settings()["test"])
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {folder}/model: ") and err.count("\n") == 1, f"says: {err}"


def test_only_the_first_rank_speaks(run, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run("evaluate", tmp_path, "rows.jsonl") == (2, "", "")


def test_every_setting_is_in_the_help_of_train():
    shown = CliRunner().invoke(cli.app, ["train", "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert shown.exit_code == 0
    for setting in settings_of(TrainConfig):
        assert f"--{setting.flag.replace('_', '-')}" in shown.output, f"{setting.flag} has no flag"
    assert "linear|cosine" in shown.output and "packed|padded" in shown.output, "choices are shown"
    assert "(default: 4096)" in shown.output


def test_a_file_with_a_word_a_row_is_learned_by_sentences(run, flags, data_folder, tmp_path):
    lines, number = ["id\tword\ttag"], 0
    for line in (data_folder / "token-classification.train.jsonl").read_text().splitlines():
        row, number = json.loads(line), number + 1
        ids = [str(number), *[""] * (len(row["tokens"]) - 1)]
        lines += ["\t".join(cells) for cells in zip(ids, row["tokens"], row["tags"], strict=True)]
    path = tmp_path / "words.tsv"
    path.write_text("\n".join(lines) + "\n")
    how = {"train": path, "validation": 0.2, "test": path}
    code, out, err = run("train", *flags("token-classification", columns="tokens=word,tags=tag", **how))
    assert (code, out) == (1, "") and "say which column tells the sentence of a word" in err
    named = "tokens=word,tags=tag,sentence=id"
    code, out, err = run("train", *flags("token-classification", columns=named, **how), "--json")
    assert code == 0 and f"of its {number} rows" in " ".join(err.split()), err
    trained = json.loads(out)
    code, out, _ = run("evaluate", trained["folder"], path, "--json")
    assert (code, json.loads(out)) == (0, trained["test"])
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"word": ["Ann", "paid"]}\n{"word": "Ann"}\n')
    code, out, err = run("predict", trained["folder"], asked)
    assert code == 1 and len(json.loads(out)["predicted_tags"]) == 2
    assert f"{asked}:2: 'word' is a text" in err


@pytest.mark.parametrize(
    "twice",
    [["--seed", "1", "--seed=2"], ["--bf16", "--no-bf16"], ["--max-length", "9", "--max-length", "9"]],
)
def test_a_flag_that_takes_one_value_is_refused_where_it_is_given_twice(run, flags, twice):
    code, out, err = run("train", *flags(), *twice)
    assert (code, out) == (2, "") and f"{twice[0]} is given 2 times, and takes one value" in err, err


def test_files_of_a_source_that_are_named_one_by_one_are_read_one_after_the_other(
    run, flags, settings, tmp_path
):
    lines = Path(settings()["train"]).read_text().splitlines(keepends=True)
    parts = []
    for index, some in enumerate((lines[:20], lines[20:])):
        parts.append(tmp_path / f"part{index}.jsonl")
        parts[-1].write_text("".join(some))
    whole = json.loads(run("train", *flags(), "--json")[1])
    code, out, err = run(
        "train", *flags(train=str(parts[0]), out=str(tmp_path / "o")), "--train", parts[1], "--json"
    )
    told = json.loads(out)
    assert code == 0 and told["validation"] == whole["validation"] and told["test"] == whole["test"], err


@pytest.mark.parametrize(
    ("task", "meant"),
    [
        ("ner", "token-classification"),
        ("text_classification", "sequence-classification"),
        ("token-clasification", "token"),
    ],
)
def test_a_task_is_known_by_what_others_call_it(run, flags, task, meant):
    code, _, err = run("train", *flags(task=task))
    assert code == 2 and f"did you mean '{meant}" in err, err


def test_numbers_have_the_names_that_are_said_and_odd_data_is_told(run, flags, settings, tmp_path):
    names, files = ["red", "blue"], {}
    for part in ("train", "test"):
        rows = [json.loads(line) for line in Path(settings()["train"]).read_text().splitlines()]
        said = [{**row, "label": names.index(row["label"])} for row in rows]
        files[part] = str(tmp_path / f"{part}.jsonl")
        Path(files[part]).write_text("".join(json.dumps(row) + "\n" for row in said))
    code, out, err = run("train", *flags(**files), "--label-names", "red,blue", "--json")
    assert code == 0 and set(json.loads(out)["test"]["classes"]) == set(names), err
    assert "examples of test stand in train too, token by token" in " ".join(err.split())
    code, _, err = run("evaluate", json.loads(out)["folder"], files["test"])
    assert code == 0, err
    Path(files["test"]).write_text('{"text": "red", "label": 2}\n')
    code, _, err = run("evaluate", json.loads(out)["folder"], files["test"])
    assert (
        code == 1
        and "is '2', which is neither one of `label_names` (red, blue) nor a number from 0 to 1" in err
    )


@pytest.mark.parametrize("rule", ["refuse", "skip", "repair"])
def test_rows_of_tags_that_break_their_scheme(run, flags, settings, tmp_path, rule):
    def bioes(row):
        return {**row, "tags": [tag.replace("B-", "S-") for tag in row["tags"]]}

    rows = [
        bioes(json.loads(line))
        for line in Path(settings("token-classification")["train"]).read_text().splitlines()
    ]
    rows = [row for row in rows if not any(tag.startswith("I-") for tag in row["tags"])]
    rows += [{"tokens": ["Ann", "lost"], "tags": ["B-PER", "O"]}, {"tokens": [], "tags": []}][
        : 1 + (rule != "repair")
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = run(
        "train", *flags("token-classification", train=str(path), test=None), "--on-bad-row", rule
    )
    told = " ".join(err.split())
    if rule == "refuse":
        assert (
            code == 1 and f"{path}:{len(rows)}: 'tokens' is empty" in told and "--on-bad-row skip" in told
        ), err
        return
    assert code == 0, err
    if rule == "skip":
        assert f"1 of {len(rows)} rows cannot be used and is left out" in told, "the row without words"
        assert "not BIOES" in told, "the row that breaks its scheme"
    else:
        assert (
            f"tags that break their scheme are repaired in 1 of {len(rows)} rows; the first: {path}" in told
        )
    code, _, err = run("train", *flags(out=str(tmp_path / "other")), "--on-bad-row", "repair")
    assert code == 2 and "sequence-classification has no rows that could be repaired" in err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"label_names": "red,red"}, "--label-names: 'red' is the name of two numbers"),
        ({"columns": "text=x,label=x"}, "label and text are both said to be column 'x'"),
        ({"columns": "text=x,text_pair=x"}, "are both said to be column 'x'"),
    ],
)
def test_settings_that_would_mix_two_things_are_refused(run, flags, more, words):
    code, out, err = run("train", *flags(**more))
    assert (code, out) == (2, "") and words in err, err


def test_unknown_classes_are_left_out_where_that_is_asked_for(run, flags, settings, tmp_path):
    trained = json.loads(run("train", *flags(), "--json")[1])
    path = tmp_path / "more.jsonl"
    path.write_text(Path(settings()["test"]).read_text() + '{"text": "red", "label": "green"}\n')
    assert run("evaluate", trained["folder"], path)[0] == 1
    code, out, err = run("evaluate", trained["folder"], path, "--on-bad-row", "skip", "--json")
    assert (code, json.loads(out)) == (0, trained["test"]) and "is left out; the first: " in " ".join(
        err.split()
    ), err


def test_bad_words_of_a_sentence_are_never_left_out(run, flags, tmp_path):
    path = tmp_path / "words.csv"
    path.write_text("word,tag,id\n" + "".join(f"Ann,B-PER,{n}\nlost,O,{n}\n" for n in range(9)) + "x,O,9,9\n")
    columns = "tokens=word,tags=tag,sentence=id"
    given = flags("token-classification", train=path, validation=0.2, test=None, columns=columns)
    code, _, err = run("train", *given, "--on-bad-row", "skip")
    assert code == 2 and "a row is a word here (--columns sentence=id)" in err, err
    assert run("train", *given)[0] == 1, "they are refused"
