"""A whole run on a tiny model: everyone is compared before anyone is timed, and everything is told."""

import importlib.util
import json
import time
from typing import get_args

import pytest
import torch
from rich.console import Console
from transformers import AutoModel

from yanma import cli
from yanma.bench import ours, run
from yanma.bench.config import BenchConfig, PartName, Shape
from yanma.bench.contestant import Rows
from yanma.bench.measure import in_turns
from yanma.bench.model import _published
from yanma.bench.parity import ParityError
from yanma.bench.run import bench
from yanma.errors import ConfigError, DataError
from yanma.objectives import Packed
from yanma.settings import read

OTHERS = ("onnxruntime", "onnx", "onnxscript", "ctranslate2", "sentence_transformers")


@pytest.fixture
def alone(monkeypatch):
    """None of the other runtimes is installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr("yanma.bench.runtimes.find_spec", lambda name: None if name in OTHERS else find(name))


@pytest.mark.usefixtures("alone")
def test_a_run_reports_every_part_on_both_workloads(settings):
    shown = []
    report = bench(settings, show=shown.append)
    assert tuple(shown) == report.sections
    assert [(s.workload, s.part) for s in shown] == [
        (workload, part) for workload in ("drawn lengths", "real text") for part in get_args(PartName)
    ]
    for section in shown:
        assert all(len(row.timing.seconds) == 2 for row in section.rows), "two rounds in a quick run"
        exact = [
            row.verdict.difference for row in section.rows if row.verdict and row.verdict.limit is not None
        ]
        assert exact, f"{section.title}: nobody was compared"
        assert max(exact) < 1e-5, (
            f"{section.title}, {section.workload}: a part before it left its mark on the model"
        )
        packed = section.row(ours.FP32)
        assert packed.timing.over(packed.timing) == 1.0
        assert packed.padding == 0


@pytest.mark.usefixtures("alone")
def test_who_is_not_installed_is_named_and_skipped(settings):
    embeddings, text, *_ = bench(settings.model_copy(update=dict(workloads=("drawn",)))).sections
    assert dict(embeddings.absent) == {
        "ONNX Runtime": "not installed: onnxruntime, onnx, onnxscript (pip install 'yanma[bench]')",
        "CTranslate2": "not installed: ctranslate2 (pip install 'yanma[bench]')",
    }
    assert [name for name, _ in text.absent] == ["sentence-transformers"]
    assert not any("ONNX" in row.name for row in embeddings.rows)


@pytest.mark.usefixtures("alone")
def test_the_report_says_what_the_numbers_hold_for(settings):
    report = bench(settings.model_copy(update=dict(only=("embeddings",))))
    data = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert data["machine"]["versions"]["torch"].startswith("2.")
    assert (
        data["machine"]["threads"] >= 1 and data["machine"]["device"] and data["machine"]["kernels"]["fp32"]
    )
    assert data["command"].endswith("--text-column said --max-length 24 --only embeddings --quick")
    real = data["sections"][1]
    assert (
        real["about"].startswith("texts.csv, column said; 24 texts, ") and "texts cut there" in real["about"]
    )
    static, *_ = real["rows"]
    assert static["name"] == "HF, static padding to 24"
    assert 0 < static["padding"] < 1
    assert static["seconds"]["best"] <= static["seconds"]["p20"] <= static["seconds"]["median"]
    assert static["times"]["yanma"] > 0 and static["times"]["yanma, bf16"] > 0
    assert [row["name"] for row in real["rows"][-2:]] == ["floor, fp32", "floor, bf16"]


@pytest.mark.usefixtures("alone")
def test_a_table_shows_every_row_whole(settings):
    (section,) = bench(settings.model_copy(update=dict(only=("embeddings",), workloads=("drawn",)))).sections
    console = Console(width=170)
    with console.capture() as captured:
        console.print(section.table())
    shown = captured.get()
    assert "…" not in shown
    for cells in section.table().rows:
        assert all(cell in shown for cell in cells), f"{cells} is not all in the table"


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("part", ["classification", "training"])
def test_all_batch_sizes_are_tried_and_the_fastest_is_measured(settings, monkeypatch, part):
    """Packs of 2048 tokens and batches of 16 texts are made the fastest by making the others wait."""
    turns = []

    def taken(names, rounds, *, told):
        turns.append(list(names))
        return in_turns(names, rounds, told=told)

    monkeypatch.setattr(run, "in_turns", taken)
    for kind, size, fastest in ((Packed, "max_batch_tokens", 2048), (Rows, "size", 16)):

        def groups(self, lengths, real=kind.groups, size=size, fastest=fastest):
            time.sleep(0.0 if getattr(self, size) == fastest else 0.05)
            return real(self, lengths)

        monkeypatch.setattr(kind, "groups", groups)
    wanted = settings.model_copy(
        update=dict(quick=False, texts=8, rounds=1, workloads=("drawn",), only=(part,))
    )
    (section,) = bench(wanted).sections
    assert section.row("yanma").setting == "2048 tokens"
    padded = ["HF, static padding to 24", "HF, padded to the longest", "HF, length-sorted"]
    assert {section.row(name).setting for name in padded} == {"16 texts"}
    assert section.row(ours.ARRIVAL).setting == "16 texts", "the very batches of the padded baseline"
    best = [f"{name}, 16" for name in padded] + ["yanma, 2048"]
    assert len(turns[0]) == 16 and turns[1] == best, "what was slow at first is not tried again"


def _faulty_packs(monkeypatch):
    real = ours.of_pack
    monkeypatch.setattr(ours, "of_pack", lambda *arguments: [out + 1e-3 for out in real(*arguments)])


@pytest.mark.usefixtures("alone")
def test_a_fault_anywhere_stops_the_run_before_any_time_is_shown(settings, monkeypatch):
    _faulty_packs(monkeypatch)
    timed = []
    monkeypatch.setattr(run, "in_turns", lambda *arguments, **named: timed.append(arguments))
    shown = []
    with pytest.raises(ParityError, match=r"^yanma: results differ .* no time is reported$"):
        bench(settings, show=shown.append)
    assert not shown and not timed, "not even the parts that are right are timed"


@pytest.mark.usefixtures("alone")
def test_the_command_exits_with_1_and_prints_no_time_when_parity_fails(
    settings, monkeypatch, capsys, tmp_path
):
    _faulty_packs(monkeypatch)
    page, numbers = tmp_path / "page.md", tmp_path / "numbers.json"
    flags = ["--write", str(page), "--json", str(numbers)]
    with pytest.raises(SystemExit) as left:
        cli.main(["bench", *_flags(settings), *flags])
    captured = capsys.readouterr()
    assert left.value.code == 1
    assert captured.out == ""
    assert "error: yanma: results differ from float64" in captured.err
    assert not page.exists() and not numbers.exists()


@pytest.mark.usefixtures("alone")
def test_the_command_prints_tables_and_keeps_numbers(settings, capsys, tmp_path):
    page, numbers = tmp_path / "page.md", tmp_path / "numbers.json"
    flags = ["--only", "embeddings", "--write", str(page), "--json", str(numbers)]
    with pytest.raises(SystemExit) as left:
        cli.main(["bench", *_flags(settings), *flags])
    captured = capsys.readouterr()
    assert left.value.code == 0, captured.err
    assert "HF, padded to the longest" in captured.out and "ONNX Runtime: not installed" in captured.out
    assert "parity" in captured.err
    assert "batch sizes" not in captured.err, "a quick run tries none"
    assert [s["part"] for s in json.loads(numbers.read_text())["sections"]] == ["embeddings"] * 2
    assert "| HF, padded to the longest | 32 texts |" in page.read_text()


@pytest.mark.usefixtures("alone")
def test_json_on_stdout_is_nothing_but_json(settings, capsys):
    with pytest.raises(SystemExit):
        cli.main(
            ["bench", *_flags(settings), "--only", "classification", "--workload", "real", "--json", "-"]
        )
    (section,) = json.loads(capsys.readouterr().out)["sections"]
    assert section["part"] == "classification"


def _flags(settings):
    return [
        *("--model", settings.model, "--data", settings.data, "--text-column", settings.text_column),
        *("--max-length", str(settings.max_length), "--quick"),
    ]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"data": "nowhere.jsonl"}, DataError, "nowhere.jsonl"),
        ({"text_column": "txet"}, DataError, "txet"),
        ({"model": "./nowhere"}, ConfigError, "no such model folder"),
        ({"max_length": 33}, ConfigError, "reads at most 32 tokens"),
    ],
    ids=["no file", "no column", "no model", "too long for the model"],
)
def test_what_cannot_be_measured_is_refused(settings, change, error, words):
    with pytest.raises(error, match=words):
        bench(settings.model_copy(update=change))


@pytest.mark.parametrize(
    "wrong", [{"rounds": 0}, {"texts": 1}, {"threads": 0}, {"only": ("speed",)}, {"workload": ()}], ids=str
)
def test_a_wrong_setting_is_refused(wrong):
    with pytest.raises(ConfigError, match=f"^`{next(iter(wrong))}`: "):
        read(BenchConfig, flags=wrong)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"text_column": "body"}, "`text_column` is 'body', but no `data` is given"),
        ({"data": "a.jsonl", "workload": ("drawn",)}, "`data` is real text, and `workloads` is drawn"),
    ],
    ids=["column", "data"],
)
def test_a_setting_that_no_text_uses_is_refused(said, message):
    with pytest.raises(ConfigError, match=message):
        read(BenchConfig, flags=said)


@pytest.mark.parametrize("wrong", [{"shape": "bert-huge"}, {"shape": "bert-base", "model": "m"}], ids=str)
def test_a_wrong_shape_is_refused(wrong):
    with pytest.raises(ConfigError, match="`shape`"):
        read(BenchConfig, flags=wrong)


@pytest.mark.parametrize("shape", get_args(Shape))
def test_a_shape_is_a_published_models(shape):
    """Numbers of parameters as published, without poolers: BERT 109.5 M, XLM-R 278.0 M, DeBERTa 183.8 M."""
    with torch.device("meta"):
        base = AutoModel.from_config(_published(shape))
    millions = sum(p.numel() for p in base.parameters()) / 1e6
    assert millions == pytest.approx(
        {"bert-base": 109.5, "xlm-roberta-base": 278.0, "deberta-v3-base": 183.8}[shape], abs=0.1
    )
