"""Errors of the library name settings; the command line says the flag of each in its place."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from yanma import cli
from yanma.audit import WAYS
from yanma.audit.config import AuditConfig
from yanma.compare_masking.config import ComparisonConfig
from yanma.corruption.config import CorruptConfig
from yanma.errors import ConfigError
from yanma.masks.command import MaskConfig
from yanma.settings import command_line, read

PACKAGE = Path(cli.__file__).parents[1]


@pytest.mark.parametrize(
    ("kind", "flags", "told", "argument"),
    [
        (CorruptConfig, {"tokenizer": "t", "seed": -1}, "`seed`: must be greater than or equal to 0", "a"),
        (CorruptConfig, {}, "tokenizer is missing: say `tokenizer`", "a"),
        (AuditConfig, {"text_column": "body"}, "`text_column` is 'body', but no `data` is given", "m"),
        (AuditConfig, {"way": "flat"}, "`way`: must be 'padded', 'packed' or 'unpadded'; got 'flat'", "m"),
        (MaskConfig, {"kv_lengths": "5,x"}, "`kv_lengths`: '5,x'; give numbers with commas", "causal"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_message_names_a_setting_and_the_command_line_its_flag(kind, flags, told, argument, capsys):
    own = {AuditConfig: {"model": argument}, MaskConfig: {"expression": argument}}.get(kind, {})
    with pytest.raises(ConfigError) as caught:
        read(kind, flags=flags | own)
    assert told in str(caught.value) and "--" not in str(caught.value)

    spelt = {name: "--as" if name == "way" else f"--{name.replace('_', '-')}" for name in kind.model_fields}
    command = {CorruptConfig: "corrupt", AuditConfig: "audit", MaskConfig: "mask"}[kind]
    words = [str(word) for name, value in flags.items() for word in (spelt[name], value)]
    with pytest.raises(SystemExit) as left:
        cli.main([command, argument, *words])
    for name in kind.model_fields:
        told = told.replace(f"`{name}`", spelt[name])
    said = capsys.readouterr().err
    assert left.value.code == 2 and told.replace("got -1", "got '-1'") in said and "`" not in said


def test_the_ways_of_an_audit_that_can_be_said_are_those_there_are():
    kind = AuditConfig.model_fields["way"].annotation
    assert str(kind) == f"typing.Optional[typing.Literal[{', '.join(map(repr, WAYS))}]]"


@pytest.mark.parametrize(
    "flags",
    [
        {"train": ("my texts/a.txt", "b.txt"), "out": "runs/x"},
        {"train": ("b.txt",), "out": "runs/a b", "arms": "dynamic,word", "steps": 9, "probe_columns": "text=a b",
         "probe_train": "c.csv", "probe_test": "it's.csv"},
    ],
    ids=["paths with spaces", "all kinds of values"],
)  # fmt: skip
def test_a_command_line_is_read_back_to_its_config_by_a_shell(flags):
    config = read(ComparisonConfig, flags=flags)
    program, command, *words = shlex.split(command_line(config, config.command))
    assert [program, command] == ["yanma", "compare-masking"] and words[-2] == "--out"
    said: dict[str, list[str]] = {}
    for flag, value in zip(words[::2], words[1::2], strict=True):
        said.setdefault(flag.removeprefix("--").replace("-", "_"), []).append(value)
    assert set(said) == set(flags), "what is as usual is not said"
    assert (
        read(
            ComparisonConfig,
            flags={name: values if name == "train" else values[0] for name, values in said.items()},
        )
        == config
    )


SOURCES = [
    path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in ("cli", "runs")
]


def test_no_error_of_the_library_names_a_flag():
    """But for whole commands, such as yanma train --model DIR."""
    texts = [
        (path.name, text.value)
        for path in SOURCES
        for raised in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(raised, ast.Raise)
        for text in ast.walk(raised)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    ]
    assert len(texts) > 500, "this test has lost its subject"
    named = [(name, text) for name, text in texts if re.search("--[a-z]", text) and "yanma" not in text]
    assert not named, f"name the setting between backquotes: {named}"
