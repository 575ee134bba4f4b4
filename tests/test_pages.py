"""Lists in the documentation that must not fall behind the code."""

import re
from pathlib import Path

import pytest

import yanma
import yanma.corruption
import yanma.masks
from yanma.models.families import FAMILIES, SPEECH
from yanma.models.reasons import REASONS

DOCS = Path(__file__).resolve().parent.parent / "docs"


def first_cells(text: str) -> set[str]:
    """Names in backticks in the first column of the tables of a Markdown text."""
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


PUBLIC = [yanma, yanma.attention, yanma.audit, yanma.corruption, yanma.masks]


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_the_page_of_public_names_lists_what_is_public(module):
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    section = page.partition(f"## `{module.__name__}`\n")[2].partition("\n## ")[0]
    listed, public = first_cells(section), set(module.__all__)
    assert listed, f"docs/api.md has no section for {module.__name__}, or no table in it"
    assert not public - listed, f"docs/api.md does not name {sorted(public - listed)}"
    assert not listed - public, (
        f"docs/api.md names {sorted(listed - public)}, which {module.__name__} does not offer"
    )


def test_the_page_of_unpad_lists_every_head_of_every_family():
    page = (DOCS / "unpad.md").read_text(encoding="utf-8")
    table = page.partition("| family | heads |\n")[2].partition("\n\n")[0]
    listed = set(re.findall(r"`(\w+)`", table))
    known = {head for family in (*FAMILIES, *SPEECH) for head in family.heads}
    assert len(known) > 30, f"only {len(known)} heads found: this test has lost its subject"
    assert listed == known, (
        f"docs/unpad.md lacks {sorted(known - listed)} and has {sorted(listed - known)} too many"
    )


def test_the_page_of_unpad_gives_every_reason():
    page = (DOCS / "unpad.md").read_text(encoding="utf-8")
    table = page.partition("| model type | why it is not unpadded |\n")[2].partition("\n\n")[0]
    lines = re.findall(r"^\| (`[^|]*`) \| (.*) \|$", table, re.MULTILINE)
    listed = {name: reason for names, reason in lines for name in re.findall(r"`(\w+)`", names)}
    assert len(REASONS) > 20 and listed == REASONS
