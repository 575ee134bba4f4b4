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
    counted = re.search(r"of ([\d,]+) \(document, batch\) pairs, (\d+) differ", TEXT)
    assert counted is not None and int(counted[1].replace(",", "")) >= 10_000 and counted[2] == "0"
    rows = re.findall(r"^\| \S+ \| `\w+` \| (.+) \| (\d+) of (\d+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == len(families.listed(TEXT))
    for cells, leaks, pairs in rows:
        assert leaks == "0" and int(pairs) > 0
        for column, cell in enumerate(cells.split(" | ")):
            error, gradient = map(float, cell.split(", "))
            # The gradients of float32 have a bound of their own each (tests/models/measured.py); none is far from 1e-5.
            assert error <= 2 and gradient <= (2e-5 if column < 2 else 2)


@pytest.mark.parametrize(("text", "numbers"), [("5.23.0", (5, 23, 0)), ("5.9.1", (5, 9, 1))])
def test_versions_are_compared_by_their_numbers(text: str, numbers: tuple[int, ...]):
    assert families._numbers(text) == numbers
