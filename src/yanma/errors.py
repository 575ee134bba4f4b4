"""What yanma raises.

YanmaError
├── ConfigError    a setting that is unknown, missing or impossible       (the command line exits with 2)
├── DataError      input that cannot be used; the message names file:line (the command line exits with 1)
└── Unsupported    what cannot be honoured exactly, and who can           (the command line exits with 2)

Wrong arguments of a Python call are plain `ValueError`s: each class here is one too.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

_NEAR = 0.65


class YanmaError(ValueError):
    """Base of everything yanma raises on purpose."""


class ConfigError(YanmaError):
    """A setting is unknown, missing or impossible."""


class DataError(YanmaError):
    """Input data cannot be used; the message names `file:line` where there is one."""


class Unsupported(YanmaError):
    """What was asked for cannot be honoured exactly; the message says by whom it can."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The question of a message about an unknown name; empty where no known one is near.

    >>> did_you_mean("epoch", ["seed", "epochs"]), did_you_mean("epoch", ["seed"])
    ("did you mean 'epochs'?", '')
    """
    near = get_close_matches(name, known, n=1, cutoff=_NEAR)
    return f"did you mean {near[0]!r}?" if near else ""


def did_you_mean_file(path: Path) -> str:
    """The question of a message about a file that is not there; empty where none beside it has nearly its name."""
    suffix = "".join(path.suffixes)  # what all names here share says nothing
    stem = path.name.removesuffix(suffix)
    others = (other.name for other in path.parent.glob("*") if other.name.endswith(suffix))
    near = get_close_matches(stem, (name.removesuffix(suffix) for name in others), n=1, cutoff=_NEAR)
    return f"did you mean {near[0] + suffix!r}?" if near else ""
