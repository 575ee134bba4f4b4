"""What is made ready before the first step: what is held out, what the user is told."""

import pytest
import torch

from yanma.data.examples import Example, Tokens
from yanma.data.hold_out import hold_out
from yanma.errors import DataError
from yanma.runs.train_setup import set_up

CPU = torch.device("cpu")


def examples(count):
    return [Example(number, (Tokens((2, 3)),), 0, f"a.jsonl:{number + 1}") for number in range(count)]


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("count", [2, 3, 50, 1000])
def test_about_the_share_is_held_out_and_both_parts_have_something(share, count):
    kept, held = hold_out(examples(count), share, seed=0)
    assert sorted(e.key for e in (*kept, *held)) == list(range(count)), "no example is lost or twice there"
    assert kept and held
    if count == 1000 and 0.05 < share < 0.95:
        assert abs(len(held) / count - share) < 0.05


def test_rows_that_are_added_later_move_none_of_the_others():
    held = [{e.key for e in hold_out(examples(count), 0.2, seed=3)[1]} for count in (500, 600)]
    assert held[0] == {number for number in held[1] if number < 500}
    assert held[0] != {e.key for e in hold_out(examples(500), 0.2, seed=4)[1]}, (
        "another seed holds out others"
    )


def test_one_row_cannot_be_both():
    with pytest.raises(DataError, match=r"one row alone .* others as `validation`"):
        hold_out(examples(1), 0.5, seed=0)


def test_the_user_is_told_what_is_fresh_frozen_cut_held_out_and_rare(config, tmp_path):
    kept, held = hold_out(examples(21), 0.2, seed=0)
    blue = (kept[-1].key, held[0].key)  # two, of which one is held out
    colours = ["blue" if number in blue else "red" for number in range(21)]
    rows = [f'{{"text": "the card is {colour}", "label": "{colour}"}}' for colour in colours]
    (tmp_path / "train.jsonl").write_text("\n".join(rows) + "\n")
    wanted = config(
        train=str(tmp_path / "train.jsonl"), validation=0.2, freeze="embeddings", max_length=5, test=None
    )
    said = []
    setup = set_up(wanted, CPU, said.append)
    told = "\n".join(said)
    for part in (
        "weights that start at random, and are learned: classifier.bias, classifier.weight",
        "frozen: bert.embeddings",
        "21 of 21 texts are longer than 5 tokens",
        f"{kept[-1].where.replace('a.', 'train.')}: the only example of class 'blue' to learn from",
        "batching: packed, examples end to end in packs of at most 4096 tokens; linear layers in float32 on cpu: ",
        f"{len(setup.judge.validation)} of its 21 rows, drawn by the seed, are kept for validation",
    ):
        assert part in told, f"{part!r} was not told:\n{told}"
    assert setup.config.model.max_length == 5 and max(setup.order.lengths) == 5


def test_very_many_rare_classes_are_counted_not_listed(config, tmp_path):
    (tmp_path / "train.jsonl").write_text(
        "".join(f'{{"text": "card", "label": "c{n}"}}\n' for n in range(40))
    )
    said = []
    set_up(config(train=str(tmp_path / "train.jsonl"), validation=0.2, test=None), CPU, said.append)
    assert sum("the only example" in line for line in said) == 5
    assert any("40 classes have one example to learn from, or none" in line for line in said)


def test_a_class_that_is_only_held_out_is_told(config, tmp_path):
    held = hold_out(examples(20), 0.2, seed=0)[1]
    labels = ["blue" if number == held[0].key else "red" for number in range(20)]
    rows = (f'{{"text": "the card", "label": "{label}"}}\n' for label in labels)
    (tmp_path / "train.jsonl").write_text("".join(rows))
    said = []
    set_up(config(train=str(tmp_path / "train.jsonl"), validation=0.2, test=None), CPU, said.append)
    assert "class 'blue' has no example to learn from, only to validate" in said


def test_padded_batches_say_how_wide_its_rows_are(config):
    said = []
    set_up(config(batching="padded", max_length=9), CPU, said.append)
    assert any(line.startswith("batching: padded, rows of 9 slots") for line in said)
