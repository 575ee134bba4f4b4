"""What in the documentation is made or run by a machine.

`docs/cli.md` is written from the `--help` of every command, the gallery in `docs/masks.md` and `docs/masks.svg` from
scripts/gallery.py:

    python scripts/docs.py            write them
    python scripts/docs.py --check    exit with 1 and show the difference if one is out of date

The Python blocks of a page are examples that run (tests/test_docs.py), from top to bottom in one namespace.
A ```text block right after one is what it prints. A block that opens with ```python no-run is only shown.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLI_PAGE = ROOT / "docs" / "cli.md"
WIDTH = 100

_HEAD = """\
# Command line

<!-- Written by scripts/docs.py from each command's --help: change that, then run the script. -->
"""


def cli_page(command: Any, name: str = "yanma") -> str:
    """The text of docs/cli.md for a click command and all below it, in the commands' own order.

    Widths are fixed and nothing is coloured, so that the same commands give the same text everywhere.
    """
    sections = (f"\n## `{path}`\n\n```text\n{text}\n```\n" for path, text in _helps(command, name, None))
    return _HEAD + "".join(sections)


def _helps(command: Any, name: str, parent: Any) -> Iterator[tuple[str, str]]:
    command.rich_markup_mode = None  # plain text; rich would draw boxes as wide as the terminal
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH, color=False
    )
    text = "\n".join(line.rstrip() for line in command.get_help(context).strip().splitlines())
    yield context.command_path, text
    if hasattr(command, "list_commands"):
        for child_name in command.list_commands(context):
            child = command.get_command(context, child_name)
            if not child.hidden:
                yield from _helps(child, child_name, context)


def drift(path: Path, wanted: str) -> str:
    """A unified diff from the file to the wanted text; empty if they are the same."""
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    return "".join(
        difflib.unified_diff(
            found.splitlines(keepends=True),
            wanted.splitlines(keepends=True),
            fromfile=f"{path.name} as it is",
            tofile=f"{path.name} as the code says",
        )
    )


@dataclass(frozen=True)
class Example:
    """A Python block of a page that is to be run."""

    page: Path
    line: int  # of its first line of code, counted from 1
    code: str
    printed: str | None  # what the page says that it prints; None = the page says nothing


_FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<info>[^`]*)$")


def pages(root: Path = ROOT) -> list[Path]:
    """The pages whose examples run."""
    return [*sorted(root.glob("README*.md")), *sorted((root / "docs").glob("*.md"))]


def examples(page: Path) -> list[Example]:
    """The page's runnable Python blocks, in their order."""
    blocks = list(_blocks(page.read_text(encoding="utf-8").splitlines()))
    found = []
    for index, block in enumerate(blocks):
        if block.info != "python":
            continue
        following = blocks[index + 1] if index + 1 < len(blocks) else None
        says = following is not None and following.info == "text" and following.right_after_another
        found.append(Example(page, block.line, block.text, following.text if following and says else None))
    return found


@dataclass(frozen=True)
class _Block:
    info: str  # what stands after the opening ticks
    line: int
    text: str
    right_after_another: bool  # only blank lines between the block before and this one


def _blocks(lines: list[str]) -> Iterator[_Block]:
    number = 0
    right_after_another = False
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if opening is None:
            right_after_another = right_after_another and not lines[number].strip()
            number += 1
            continue
        start = number + 1
        number = start
        while number < len(lines) and lines[number].rstrip() != opening["ticks"]:
            number += 1
        text = "".join(line + "\n" for line in lines[start:number])
        yield _Block(opening["info"].strip(), start + 1, text, right_after_another)
        right_after_another = True
        number += 1


def run(example: Example, namespace: dict[str, Any]) -> str:
    """Run the block in `namespace` and return what it printed; errors show the page's own lines."""
    code = compile("\n" * (example.line - 1) + example.code, str(example.page), "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    return printed.getvalue()


def written() -> dict[Path, str]:
    """Each file that is written by a machine, and its text."""
    import typer

    import gallery
    from yanma.cli import app

    masks_page = ROOT / "docs" / "masks.md"
    return {
        CLI_PAGE: cli_page(typer.main.get_command(app)),
        masks_page: gallery.with_section(masks_page.read_text(encoding="utf-8")),
        ROOT / "docs" / "masks.svg": gallery.overview(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Write what code says in docs/, or check that it is current."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it is out of date")
    check: bool = parser.parse_args().check

    code = 0
    for path, wanted in written().items():
        difference = drift(path, wanted)
        if not check:
            path.write_text(wanted, encoding="utf-8")
        elif difference:
            print(f"{difference}\n{path.name} is out of date; run: python scripts/docs.py", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
