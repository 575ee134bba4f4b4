"""One table in three forms: every cell is in each, and none of its texts is taken as markup."""

import io

from rich.console import Console

from yanma.report.page import page
from yanma.report.tables import Table

TABLE = Table(("what", "a|b"), (("<b>", "[red]1[/red]"), ("all", "2|3")), "a [title]", num_totals=1)


def test_in_a_terminal_every_cell_stands_as_it_is_and_totals_apart():
    screen = io.StringIO()
    Console(file=screen, width=60).print(TABLE)
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert lines == ["a [title]", "what           a|b", "<b>   [red]1[/red]", "", "all            2|3"]


def test_a_sentence_is_folded_and_a_number_never_is():
    screen = io.StringIO()
    Console(file=screen, width=24).print(
        Table(("", "n", "why"), (("x", "12345", "a b " * 9),), ends_in_prose=True)
    )
    lines = screen.getvalue().splitlines()
    assert len(lines) > 3 and "12345" in lines[1] and "…" not in screen.getvalue()


def test_in_markdown_a_bar_is_no_border():
    lines = list(TABLE.markdown())
    assert lines[0] == r"| what | a\|b |" and lines[-1] == r"| all | 2\|3 |"
    assert all(line.replace(r"\|", "").count("|") == 3 for line in lines)


def test_in_a_page_texts_are_escaped():
    made = page("a < b", TABLE.html())
    assert (
        "<title>a &lt; b</title>" in made and "<td>&lt;b&gt;</td>" in made and "<td>[red]1[/red]</td>" in made
    )
    assert made.count("<tr>") == 3 and "script" not in made
