"""scripts/peer_tests.py tells refusals, artefacts and faults of other libraries' tests apart, and miscounts none."""

import json

import pytest

import peer_tests

SUITE = """
import pytest
import torch
import yanma
from transformers import BertConfig, BertForSequenceClassification, FNetConfig, FNetModel

def made():
    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    return BertForSequenceClassification(BertConfig(**sizes))

ROW = torch.tensor([[1, 2, 3]])

def test_passes():
    assert made().eval()(ROW).logits.shape == (1, 2)

def test_sees_a_stock_model_where_it_chooses_an_attention():
    model = made().eval()
    model.set_attn_implementation("eager")
    assert len(model.eval()(ROW, output_attentions=True).attentions) == 1

def test_of_a_family_outside_the_table():
    FNetModel(FNetConfig(hidden_size=8, num_hidden_layers=1, intermediate_size=8, vocab_size=9)).eval()(ROW)

def test_refused():
    made().eval()(ROW, output_attentions=True)

def test_refused_beneath_another_error():
    try:
        made().eval()(ROW, output_attentions=True)
    except ValueError as error:
        raise RuntimeError("no attentions") from error

def test_error_that_befalls():
    yanma.PackedBatch.from_sequences([[1, 2]]).unpack(3)

def test_fault():
    assert type(made().eval()) is BertForSequenceClassification

@pytest.mark.parametrize("number", [1])
def test_fails_stock(number):
    assert number == 2

def test_skipped_stock():
    pytest.skip("needs a network")
"""


def test_each_test_of_a_suite_is_judged(tmp_path):
    (tmp_path / "test_small.py").write_text(SUITE, encoding="utf-8")
    path = tmp_path / peer_tests.UNPADDED
    peer_tests.record(tmp_path, ["test_small.py"], path)
    found = {test.partition("::test_")[2]: record for test, (record,) in peer_tests.records(path).items()}
    assert {test: peer_tests.verdict(test, record).kind for test, record in found.items()} == {
        "passes": "passes",
        "sees_a_stock_model_where_it_chooses_an_attention": "passes",
        "of_a_family_outside_the_table": "passes",
        "refused": "refusal",
        "refused_beneath_another_error": "refusal",
        "fault": "fault",
        "error_that_befalls": "fault",
        "fails_stock[1]": "fault",
        "skipped_stock": "fault",
    }
    stock = {"of_a_family_outside_the_table", "error_that_befalls", "fails_stock[1]", "skipped_stock"}
    assert {test for test, record in found.items() if not record["unpadded"]} == stock


def test_only_what_passes_stock_counts_and_what_differs_is_run_again(tmp_path, monkeypatch, capsys):
    outcomes = {
        peer_tests.STOCK: [
            {"a": "passed", "b": "passed", "c": "passed", "d": "failed", "e": "skipped", "f": "passed"},
            {"b": "passed", "c": "failed", "f": "passed"},
        ],
        peer_tests.UNPADDED: [
            {"a": "passed", "b": "failed", "c": "failed", "d": "failed", "e": "passed", "f": "failed"},
            {"b": "passed", "c": "failed", "f": "failed"},
        ],
    }

    def recorded(checkout, tests, path):
        found = outcomes[path.name].pop(0)
        assert list(tests) == (["models/bert"] if len(found) == 6 else ["b", "c", "f"])
        failure = {"refused": False, "says": "IndexError: 3"}
        with path.open("a", encoding="utf-8") as file:
            for test, outcome in found.items():
                failures = [failure] * (outcome == "failed")
                line = {"test": test, "outcome": outcome, "unpadded": 1, "failures": failures}
                file.write(json.dumps(line) + "\n")

    monkeypatch.setattr(peer_tests, "record", recorded)
    results = ["--results", str(tmp_path)]
    assert peer_tests.main(["run", str(tmp_path), "models/bert", "--suite", "small", *results]) == 0
    found = peer_tests.judged(next(tmp_path.glob("small/*")))
    assert {test: one.kind for test, one in found.items()} == {"a": "passes", "b": "passes", "f": "fault"}
    assert peer_tests.main(["table", *results]) == 0
    printed = capsys.readouterr().out
    assert "| small | all | 3 | 3 | 2 | 0 | 0 | 1 |" in printed and "| IndexError: ... | 1 |" in printed
    outcomes[peer_tests.STOCK].append({"f": "passed"})
    outcomes[peer_tests.UNPADDED].append({"f": "passed"})
    monkeypatch.setattr(peer_tests, "record", lambda *given: recorded(given[0], ["b", "c", "f"], given[2]))
    assert peer_tests.main(["again", str(tmp_path), "--suite", "small", *results]) == 0
    assert {one.kind for one in peer_tests.judged(next(tmp_path.glob("small/*"))).values()} == {"passes"}


def test_a_test_that_was_not_finished_or_is_skipped_is_a_fault():
    skipped = {"outcome": "skipped", "unpadded": 1, "failures": []}
    assert peer_tests.verdict("test", None).kind == peer_tests.verdict("test", skipped).kind == "fault"


def test_a_test_with_a_refusal_and_another_failure_is_a_fault():
    failures = [{"refused": True, "says": "no"}, {"refused": False, "says": "IndexError: 3"}]
    assert (
        peer_tests.verdict("test", {"outcome": "failed", "unpadded": 1, "failures": failures}).says
        == "IndexError: 3"
    )


def test_an_artefact_needs_both_its_name_and_its_words():
    says = "AssertionError: False is not true"
    failed = {"outcome": "failed", "unpadded": 0, "failures": [{"refused": False, "says": says}]}
    test = "x::test_sdpa_can_dispatch_non_composite_models"
    reason = "reads in the config which attention is used"
    assert peer_tests.verdict(test, failed) == peer_tests.Verdict("artefact", reason)
    assert peer_tests.verdict("x::test_another", failed) == peer_tests.Verdict("fault", says)
    failed["failures"][0]["says"] = "IndexError: 3"
    assert peer_tests.verdict(test, failed).kind == "fault"


def test_logits_that_were_kept_may_differ_by_zeros_alone():
    for largest, kind in (("1.0", "artefact"), ("0.5", "fault"), ("1.03", "fault")):
        lines = [
            "AssertionError: Tensor-likes are not close!",
            "",
            f"Greatest relative difference: {largest} at (0,)",
        ]
        failed = {
            "outcome": "failed",
            "unpadded": 0,
            "failures": [{"refused": False, "says": "\n".join(lines)}],
        }
        assert peer_tests.verdict("x::test_forward_with_logits_to_keep", failed).kind == kind


def test_the_tables_are_put_between_their_markers():
    page = f"before\n{peer_tests.BEGIN}\nold\n{peer_tests.END}\nafter\n"
    assert "old" not in (written := peer_tests.with_table(page, "| new |\n")) and "| new |" in written
    assert written.startswith("before") and written.endswith("after\n")
    assert peer_tests.with_table(written, "| new |\n") == written
    with pytest.raises(ValueError, match="lacks the markers"):
        peer_tests.with_table("no markers", "")
