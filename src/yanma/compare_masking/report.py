"""What a comparison found, with what it takes to find it again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .outcome import Pairs
from .statistics import Line, lines


@dataclass(frozen=True)
class Report:
    """All outcomes of one comparison."""

    command: str
    date: str
    about: tuple[tuple[str, str], ...]
    """(what, how much): corpus, model, budget, versions."""
    pairs: Pairs

    def lines(self) -> list[list[Line]]:
        """For each metric, a line an arm."""
        return [lines(self.pairs, metric) for metric in self.pairs.metrics]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "command": self.command,
            "date": self.date,
            "about": dict(self.about),
            "seeds": list(self.pairs.seeds),
            "metrics": {shown[0].metric.name: [_as_dict(line) for line in shown] for shown in self.lines()},
        }


def _as_dict(line: Line) -> dict[str, Any]:
    return {
        "arm": line.arm,
        **asdict(line.plain),
        "difference": None if line.difference is None else asdict(line.difference),
    }
