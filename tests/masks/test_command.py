"""`yanma mask`: the picture on stdout, the counts on stderr, one line for every mistake."""

import json
import re
import shlex
from functools import partial
from pathlib import Path

import pytest

from yanma import cli
from yanma.masks import parse


@pytest.fixture
def mask(run):
    """Exit code, stdout and stderr of `yanma mask`."""
    return partial(run, "mask")


EXPRESSION = "documents & causal & window(2,0)"


def test_the_picture_goes_to_stdout_and_the_counts_to_stderr(mask):
    code, out, err = mask(EXPRESSION, "--lengths", "5,3,7")
    assert (code, out) == (0, parse(EXPRESSION, [5, 3, 7]).show() + "\n")
    assert err == (
        "15 queries x 15 keys: 36 of 225 pairs visible, density 16.0%, 84.0% of dense attention saved\n"
    )


def test_the_numbers_are_data_too(mask):
    code, out, _ = mask(EXPRESSION, "--lengths", "5,3,7", "--json")
    assert code == 0 and json.loads(out) == {
        "mask": "documents([5, 3, 7]) & window(2, 0)",
        "queries": 15,
        "keys": 15,
        "visible": 36,
        "density": 36 / 225,
        "saved": 1 - 36 / 225,
        "documents": [12, 6, 18],
    }
    _, out, _ = mask(EXPRESSION, "--lengths", "5,3,7", "--counts")
    assert out == "document\tvisible pairs\n0\t12\n1\t6\n2\t18\n"


def test_keys_of_another_length_than_queries(mask):
    code, out, _ = mask("documents", "--lengths", "1,2", "--kv-lengths", "3,1")
    assert (code, out) == (0, "###.\n...#\n...#\n")


def test_tokens_from_a_text_or_a_file_give_the_lengths(mask, tmp_path):
    assert mask("causal", "--tokens", "the cat")[1] == "#.  the\n##  cat\n"
    path = tmp_path / "words.txt"
    path.write_text("猫 坐\n\nhi\n", encoding="utf-8")
    assert mask("documents", "--tokens", path)[1] == "##.  猫\n##.  坐\n..#  hi\n"
    assert mask("causal", "--tokens", tmp_path)[1] == f"#  {tmp_path}\n", "the name of a folder is a word"
    long = " ".join(["word"] * 2000)
    assert mask("causal", "--tokens", long)[0] == 0, "a text longer than any name of a file"


@pytest.mark.parametrize("ending", ["html", "svg", "png", "pdf", "PNG"])
def test_a_file_is_drawn_by_its_ending(mask, tmp_path, ending):
    if ending.lower() in ("png", "pdf"):
        pytest.importorskip("matplotlib")
    path = tmp_path / f"mask.{ending}"
    code, out, err = mask(EXPRESSION, "--lengths", "5,3,7", "--out", path)
    assert (code, out) == (0, "") and "36 of 225" in err
    starts = {"html": b"<!doctype html>", "svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}
    assert path.read_bytes().startswith(starts[ending.lower()])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["documents & windo(2, 0)", "--lengths", "5"],
            "error: no mask is called windo; did you mean window? ",
        ),
        (["documents & windo(2, 0)", "--lengths", "5"], "; at character 13 of 'documents & windo(2, 0)'\n"),
        (["documents & (", "--lengths", "5"], "; at character 13 of 'documents & ('\n"),
        (["causal", "--lengths", "3000000000"], "--lengths: 3,000,000,000 tokens are more than 100,000,000"),
        (["documents & window(-1, 0)", "--lengths", "5"], "window: left is -1"),
        (["causal"], "the size is not known; say it with --lengths"),
        (["causal", "--lengths", "5,3"], "write documents & (causal())"),
        (["causal", "--kv-lengths", "3"], "--kv-lengths without --lengths"),
        (["documents", "--lengths", "5,x"], "error: --lengths: '5,x'; give numbers with commas between"),
        (["documents", "--lengths", "5,-1"], "documents: lengths has a negative length"),
        (["documents", "--lengths", "5,3", "--kv-lengths", "2"], "2 lengths but 1 kv_lengths"),
        (["causal", "--lengths", "3", "--tokens", "a b"], "--tokens: 2 tokens for 3 queries"),
        (["documents([3]) & causal", "--lengths", "4"], "documents([3]) already"),
        (["documents & tree([-1])", "--lengths", "2"], "the mask is 'documents & tree([-1])'"),
        (["causal", "--lengths", "3", "--out", "mask.bmp"], "mask.bmp ends in '.bmp'; it can end in .html, "),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(mask, arguments, message):
    code, out, err = mask(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err, err


def test_a_file_that_cannot_be_written_is_one_line(mask, tmp_path):
    code, _, err = mask("causal", "--lengths", "3", "--out", tmp_path / "no" / "mask.svg")
    assert code == 1 and err.startswith("error: ") and "mask.svg: No such file" in err


def test_colour_only_for_a_terminal_that_wants_it(mask, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b" not in mask("causal", "--lengths", "3")[1], "stdout is no terminal here"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\x1b[" in mask("causal", "--lengths", "3")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in mask("causal", "--lengths", "3")[1]


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_shows_what_the_command_prints(mask, page):
    text = (Path(__file__).resolve().parents[2] / page).read_text(encoding="utf-8")
    found = re.search(r"```sh\nyanma mask (.*)\n```\n\n```text\n(.*?)```", text, re.DOTALL)
    assert found, f"{page} has no example of yanma mask"
    assert mask(*shlex.split(found[1]))[:2] == (0, found[2])


def test_a_picture_that_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mask.html"
    path.write_text("an earlier one")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("yanma.files.os.fsync", full)
    with pytest.raises(SystemExit) as ended:
        cli.main(["mask", "causal", "--lengths", "3", "--out", str(path)])
    assert ended.value.code == 1 and f"{path}: No space left" in capsys.readouterr().err
    assert path.read_text() == "an earlier one" and [p.name for p in tmp_path.iterdir()] == ["mask.html"]
