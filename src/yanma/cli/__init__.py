"""The command line. Data goes to stdout, words to stderr; each command is a thin wrapper over an importable function.

train.py            train, evaluate, predict
pretrain.py         pretrain
bench.py            bench, bench masks, bench pretraining
mask.py             mask
compare_masking.py  compare-masking
corrupt.py          corrupt, pmi
audit.py            audit
demo.py             demo
flags.py            settings of a run as flags of a command
output.py           what all of them say, and how

Exit codes: 0 done; 1 input that cannot be used, a full disk and the like, or an audit that failed; 2 a wrong setting
or usage; 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NoReturn

import typer

from ..errors import ConfigError, DataError, YanmaError
from .audit import audit
from .bench import bench, bench_masks, bench_pretraining
from .compare_masking import compare_masking
from .corrupt import corrupt, pmi
from .demo import demo
from .mask import mask
from .output import fail, told, with_flags
from .pretrain import pretrain
from .train import evaluate, predict, train

app = typer.Typer(
    name="yanma",
    help="Transformers without padding: masks that follow the data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(train)
app.command()(evaluate)
app.command()(predict)
app.command()(pretrain)
app.command()(mask)
app.command("compare-masking")(compare_masking)
app.command()(corrupt)
app.command()(pmi)
app.command()(audit)
app.command()(demo)

benches = typer.Typer(invoke_without_command=True)
benches.callback()(bench)
benches.command("masks")(bench_masks)
benches.command("pretraining")(bench_pretraining)
app.add_typer(benches, name="bench")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit; every error that is the user's to solve is one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _refuse_repeated(arguments)
        app(arguments)
    except YanmaError as error:
        fail(with_flags(str(error), _flags(arguments)), code=1 if isinstance(error, DataError) else 2)
    except OSError as error:
        fail(told(error), code=1)
    sys.exit(0)


def _refuse_repeated(arguments: Sequence[str]) -> None:
    """Raises ConfigError for a flag that is given twice and takes one value: the first would be dropped in silence."""
    said = Counter(word.partition("=")[0] for word in takewhile(lambda word: word != "--", arguments))
    for parameter in _parameters(arguments):
        names = [*parameter.opts, *parameter.secondary_opts]
        count = sum(said[name] for name in names)
        if parameter.param_type_name == "option" and not parameter.multiple and count > 1:
            raise ConfigError(f"{names[0]} is given {count} times, and takes one value")


def _flags(arguments: Sequence[str]) -> dict[str, str]:
    """Of the command that was asked for: how it spells each setting, by the setting's name."""
    return {
        parameter.name: parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
        for parameter in _parameters(arguments)
    }


def _parameters(arguments: Sequence[str]) -> list[Any]:
    """Of the command that was asked for."""
    command: Any = typer.main.get_command(app)
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    return list(command.params)
