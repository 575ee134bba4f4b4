"""The arms of the comparison: what is hidden while a model is pre-trained, and when it is drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BASELINE = "dynamic"
"""The arm from which differences are taken: all others differ from it in one thing."""


@dataclass(frozen=True)
class Arm:
    """One way to hide tokens, in the words of `yanma pretrain`'s settings."""

    name: str
    about: str
    unit: Literal["token", "word", "span", "phrase"] = "token"
    rate: str = "0.15"
    resampling: Literal["every epoch", "never"] | int = "every epoch"

    @property
    def copies(self) -> int | None:
        """After how many epochs the same masks come again; None = never."""
        match self.resampling:
            case "every epoch":
                return None
            case "never":
                return 1
        return self.resampling


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("static-1", "one copy: a text's masks are drawn once", resampling="never"),
        Arm("static-10", "ten copies that take turns, as BERT's data had them", resampling=10),
        Arm("dynamic", "drawn anew in every epoch"),
        Arm(
            "scheduled",
            "as dynamic; the rate falls from 30 % to 15 % in a line over training",
            rate="0.3->0.15 linear",
        ),
        Arm(
            "span",
            "as dynamic; whole spans of words, geometric lengths, 10 words at most (SpanBERT)",
            unit="span",
        ),
        Arm("word", "as dynamic; whole words", unit="word"),
        Arm("pmi", "as dynamic; whole collocations of the training text, else whole words", unit="phrase"),
    )
}
"""By name, in the order in which they are shown."""
