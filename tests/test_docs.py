"""The documentation's examples run and print what the pages say; docs/cli.md says what the commands say."""

from pathlib import Path

import pytest
import typer

import docs
import gallery
import yanma.masks
from yanma.masks import Mask
from yanma.objectives import TASKS

PAGES = [page for page in docs.pages() if docs.examples(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_runs_and_prints_what_its_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = dict(TASKS)
    namespace = {"__name__": "__main__"}
    try:
        for example in docs.examples(page):
            printed = docs.run(example, namespace)
            if example.printed is not None:
                assert printed == example.printed, (
                    f"{page.name}:{example.line} prints\n{printed}\nand the page says\n{example.printed}"
                )
    finally:
        for added in set(TASKS) - set(known):  # by an example
            del TASKS[added]


def test_the_readme_has_an_example_that_runs():
    names = [page.name for page in PAGES]
    assert "README.md" in names, f"README.md has no Python block that runs; pages that have one: {names}"


PAGE = """\
```python
x = 2
```

Words between: this is no output.

```text
free text
```
```python
print(x + 1)
```

```text
3
```
```python no-run
raise SystemExit
```
````markdown
```python
raise SystemExit
```
````
"""


def test_blocks_share_a_namespace_and_only_a_text_block_right_after_one_is_its_output(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    found = docs.examples(page)
    assert [(e.line, e.printed) for e in found] == [(2, None), (11, "3\n")], (
        "two blocks run: one without output, one with; the block marked no-run and the quoted one do not"
    )
    namespace = {}
    assert [docs.run(e, namespace) for e in found] == ["", "3\n"], "blocks share their names"


def test_an_error_in_an_example_names_the_line_of_its_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\n1 / 0\n```\n", encoding="utf-8")
    (example,) = docs.examples(page)
    with pytest.raises(ZeroDivisionError) as caught:
        docs.run(example, {})
    last = caught.traceback[-1]
    assert (Path(last.path), last.lineno + 1) == (page, 4), "the traceback points into the page"


def _command(about: str):
    app = typer.Typer()

    @app.command()
    def first(size: int = 3):
        """Do the first thing."""

    @app.command(help=about)
    def second(path: Path):
        pass

    @app.command(hidden=True)
    def inner():
        pass

    return typer.main.get_command(app)


def test_the_page_of_the_command_line_does_not_depend_on_the_terminal(monkeypatch):
    about = "A long text that has to be wrapped somewhere. " * 5
    texts = set()
    for columns, colour in (("40", "1"), ("200", "")):
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("TERMINAL_WIDTH", columns)
        monkeypatch.setenv("FORCE_COLOR", colour)
        texts.add(docs.cli_page(_command(about)))
    (text,) = texts
    assert "\x1b" not in text, "no colours in a page"
    widest = max(map(len, text.split("\n")))
    assert 80 < widest <= docs.WIDTH, f"lines wrap at {docs.WIDTH}; widest: {widest}"
    assert "`yanma first`" in text and "`yanma second`" in text, "every command has a section"
    assert "yanma inner" not in text, "a hidden command has none"


def test_a_changed_help_is_noticed(tmp_path):
    page = tmp_path / "cli.md"
    assert docs.drift(page, docs.cli_page(_command("One."))), "a page that is missing is out of date"
    page.write_text(docs.cli_page(_command("One.")), encoding="utf-8")
    assert not docs.drift(page, docs.cli_page(_command("One."))), "a page just written is current"
    assert "+  Two." in docs.drift(page, docs.cli_page(_command("Two."))), "the difference shows the new text"


def test_what_code_writes_into_the_documentation_is_current():
    files = docs.written()
    assert len(files) >= 3, f"only {sorted(files)} are written: this test has lost its subject"
    for path, wanted in files.items():
        assert not docs.drift(path, wanted), f"{path.name} is out of date; run: python scripts/docs.py"


def _nodes(mask: Mask) -> set[type]:
    """The kinds in an expression."""
    inner = getattr(mask, "masks", ()) or ([mask.mask] if hasattr(mask, "mask") else [])
    return {type(mask)}.union(*map(_nodes, inner))


def test_the_gallery_shows_every_kind():
    public = {getattr(yanma.masks, name) for name in yanma.masks.__all__}
    kinds = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Mask)} - {Mask}
    assert len(kinds) >= 18, f"only {len(kinds)} kinds found: this test has lost its subject"
    shown = set().union(*(_nodes(entry.mask) for entry in gallery.entries()))
    missing = sorted(kind.__name__ for kind in kinds - shown)
    assert not missing, f"the gallery has no picture of {missing}"
    assert len(gallery.overview()) < 100_000, "the overview is small enough to be kept in the repository"


def test_a_page_without_the_markers_of_the_gallery_is_refused():
    with pytest.raises(ValueError, match="lacks the markers"):
        gallery.with_section("# Masks\n")
