"""`yanma audit`: tables on stdout, the exit code of the way that decides, one line for a mistake."""

from __future__ import annotations

import json

import pytest
import torch

from audit.subjects import build
from yanma.audit import WAYS
from yanma.loading.pretrained import quiet
from yanma.loading.tokenizer import learn_tokenizer

TEXTS = ["a lost card", "where is my money", "the bank", "soon", "Ann paid twice in Paris and got a refund"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A BERT with its tokenizer, a Llama and an Olmo without."""
    made = {}
    for name in ("BertForTokenClassification", "LlamaForCausalLM", "OlmoForCausalLM"):
        made[name[0]] = tmp_path_factory.mktemp(name)
        with quiet():
            build(name).save_pretrained(made[name[0]])
    with quiet():
        learn_tokenizer(lambda: iter(TEXTS)).save_pretrained(made["B"])
    return made


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Tables are not wrapped."""
    monkeypatch.setenv("COLUMNS", "200")


def test_bert_passes_unpadded_and_the_tables_say_what_fails_packed(run, folders):
    code, out, _ = run("audit", folders["B"])
    assert code == 0
    for line in (
        "padded BertForTokenClassification: fails accumulation",
        "packed BertForTokenClassification: fails batch, isolation",
        "unpadded BertForTokenClassification: nothing leaks in what was checked",
        "unpadded BertForTokenClassification decides, and passes",
    ):
        assert line in out, f"{line!r} is not in\n{out}"


def test_packed_bert_fails_and_names_the_leak(run, folders):
    code, out, _ = run("audit", folders["B"], "--as", "packed", "--json")
    report = json.loads(out)
    assert code == 1 and report["ok"] is False and report["decides"] == "packed"
    (isolation,) = [f for f in report["ways"]["packed"]["findings"] if f["check"] == "isolation"]
    assert isolation["verdict"] == "fail" and "yanma.unpad" in isolation["fix"]
    assert isolation["where"]["reader"][0] != isolation["where"]["read"][0]


def test_packed_llama_fails_and_unpadded_llama_passes(run, folders):
    code, out, _ = run("audit", folders["L"], "--as", "packed")
    assert code == 1 and "packed LlamaForCausalLM decides, and fails" in out and "use_cache=False" in out
    code, out, _ = run("audit", folders["L"])
    assert code == 0 and "unpadded LlamaForCausalLM decides, and passes" in out


def test_packed_decides_where_unpad_does_not_know_the_model(run, folders):
    code, out, _ = run("audit", folders["O"])
    assert code == 1 and "packed OlmoForCausalLM decides, and fails" in out
    assert "not unpadded: OlmoForCausalLM" in out
    assert run("audit", folders["O"], "--as", "padded", "--json")[0] == 0


def test_texts_of_a_file(run, folders, tmp_path):
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"body": text}) + "\n" for text in TEXTS), encoding="utf-8")
    code, out, _ = run("audit", folders["B"], "--data", data, "--text-column", "body", "--json")
    report = json.loads(out)
    assert code == 0 and report["ok"] and set(report["ways"]) == {*WAYS, "unpadded, packed"}
    assert not report["ways"]["packed"]["ok"], "real text leaks as random tokens do"


def test_a_column_that_nothing_has_is_refused(run, folders, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    code, _, told = run("audit", folders["B"], "--data", tmp_path / "a.txt", "--text-column", "body")
    assert code == 2 and "--text-column is 'body', but" in told and "plain text without columns" in told
    code, _, told = run("audit", folders["B"], "--text-column", "body")
    assert code == 2 and "--text-column is 'body', but no --data is given" in told


def test_plain_text_is_a_text_a_line(run, folders, tmp_path):
    plain, empty, other = (tmp_path / f"{name}.txt" for name in ("plain", "empty", "other"))
    plain.write_text("\n".join(TEXTS), encoding="utf-8")
    empty.touch()
    other.write_bytes(b"\x00\xff\xfe")
    code, out, _ = run("audit", folders["B"], "--data", plain, "--json")
    assert code == 0 and json.loads(out)["ok"]
    for path, words in ((empty, "empty.txt: no text in it"), (other, "other.txt:1: not UTF-8")):
        code, _, err = run("audit", folders["B"], "--data", path)
        assert code == 1 and words in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--as", "flat"), 2, "--as: must be 'padded', 'packed' or 'unpadded'; got 'flat'"),
        (("--data", "nowhere.jsonl"), 1, "nowhere.jsonl"),
    ],
)
def test_a_mistake_is_one_line(run, folders, arguments, code, words):
    found, out, err = run("audit", folders["B"], *arguments)
    assert (found, out) == (code, "") and words in err and err.count("\n") == 1


def test_one_text_is_not_enough(run, folders, tmp_path):
    data = tmp_path / "texts.jsonl"
    data.write_text('{"text": "soon"}\n', encoding="utf-8")
    code, _, err = run("audit", folders["B"], "--data", data)
    assert code == 1 and "a leak needs two" in err


def test_a_way_that_is_refused_cannot_decide(run, folders):
    code, out, err = run("audit", folders["O"], "--as", "unpadded")
    assert (code, out) == (2, "") and "olmo" in err


def test_a_pickle_is_not_loaded(run, folders, tmp_path):
    (tmp_path / "config.json").write_text((folders["B"] / "config.json").read_text())
    torch.save({}, tmp_path / "pytorch_model.bin")
    code, _, err = run("audit", tmp_path)
    assert code == 2 and "pickle" in err


def test_who_reads_whom_may_be_said(run, folders):
    code, out, _ = run("audit", folders["B"], "--mask", "causal")
    assert code == 1 and "unpadded BertForTokenClassification: fails causality, agreement" in out
    assert run("audit", folders["B"], "--mask", "full")[0] == 0


@pytest.mark.parametrize(
    ("mask", "words"),
    [("causl", "did you mean"), ("prefix([2])", "one pack only"), ("documents([2, 3])", "one pack")],
)
def test_a_mask_that_cannot_be_meant_is_one_line(run, folders, mask, words):
    code, out, err = run("audit", folders["B"], "--mask", mask)
    assert code == 2 and "--mask" in err and words in err and not out
