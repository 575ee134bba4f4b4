"""docs/families.md lists what the table of families has, and its own numbers keep the bounds that it states."""

import re

import pytest

import families

TEXT = families.PAGE.read_text(encoding="utf-8")


def test_the_page_lists_every_head_of_the_table():
    assert len(families.listed(TEXT)) > 100 and not families.problems(TEXT)


def test_a_row_too_few_or_too_many_or_out_of_order_is_noticed():
    row = "| bert | `BertModel` |"
    start = TEXT.index(row)
    line = TEXT[start : TEXT.index("\n", start) + 1]
    assert "lacks [('bert', 'BertModel')]" in families.problems(TEXT.replace(line, ""))[0]
    extra = line.replace("BertModel", "BertForNothing")
    assert "[('bert', 'BertForNothing')] too many" in families.problems(TEXT.replace(line, line + extra))[0]
    moved = TEXT.replace(line, "").rstrip("\n") + "\n" + line
    assert "another order" in families.problems(moved)[0]


def test_the_numbers_of_the_page_keep_its_bounds():
    counted = re.search(r"of ([\d,]+) \(document, batch\) pairs", TEXT)
    assert counted is not None and int(counted[1].replace(",", "")) >= 10_000
    assert families.beyond_bounds(TEXT) == []


ROW = "| bert | `BertModel` | 0.5, 1e-06 | 0.5, 1e-06 | 1, 1.2 | 1, 1.2 | 0 of 90 |"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (ROW, []),
        (ROW.replace("0.5, 1e-06 | 1,", "2.5, 1e-06 | 1,"), ["bert, BertModel: error 2.5, gradient 1e-06"]),
        (ROW.replace("0.5, 1e-06 | 1,", "0.5, 3e-05 | 1,"), ["bert, BertModel: error 0.5, gradient 3e-05"]),
        (ROW.replace("1, 1.2 | 0", "1, 2.2 | 0"), ["bert, BertModel: error 1, gradient 2.2"]),
        (ROW.replace("0 of 90", "3 of 90"), ["bert, BertModel: 3 of 90 pairs leak"]),
        (ROW.replace("0 of 90", "0 of 0"), ["bert, BertModel: 0 of 0 pairs leak"]),
        (ROW.replace("0 of 90", ""), ["0 of 1 rows have all numbers"]),
        (
            "of 10,000 (document, batch) pairs, 1 differ in any bit.",
            ["of 10,000 (document, batch) pairs, 1 differ"],
        ),
    ],
)
def test_a_number_beyond_its_bound_is_noticed(row: str, said: list[str]):
    assert families.beyond_bounds(row) == [f"families.md: {sentence}" for sentence in said]


@pytest.mark.parametrize(("text", "numbers"), [("5.23.0", (5, 23, 0)), ("5.9.1", (5, 9, 1))])
def test_versions_are_compared_by_their_numbers(text: str, numbers: tuple[int, ...]):
    assert families._numbers(text) == numbers
