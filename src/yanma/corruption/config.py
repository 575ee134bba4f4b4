"""What `yanma corrupt` and `yanma pmi` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ..settings import Files, Section
from .by_name import UNITS, rate_of, resampling_of
from .plan import Plan, Resampling
from .rates import Decay, Rate, highest

DENOISERS = ("t5", "bart", "ul2")
_SEGMENTER = "jieba: Chinese words by its dictionary"


class CorruptConfig(Section):
    """How texts are shown corrupted."""

    tokenizer: str = Field(description="folder or hub name")
    epochs: int = Field(default=3, ge=1, description="how many versions of each text")
    unit: Literal["token", "word", "phrase", "sentence", "span", "ngram", "t5", "bart", "ul2"] = Field(
        default="token", description="what is hidden as a whole; t5, bart and ul2 are denoisers"
    )
    rate: str | None = Field(
        default=None,
        description="share of tokens that is hidden: a number, '0.3->0.15 linear' (cosine, step 4) over the epochs, or "
        "0.1..0.5, drawn for each text; t5 and bart: a number (default: 0.15; bart: 0.3)",
    )
    replacement: Literal["bert", "spanbert", "mask", "random"] | None = Field(
        default=None,
        description="what stands for hidden tokens (default: bert); a denoiser has one of its own",
    )
    resampling: Literal["every epoch", "never"] | int = Field(
        default="every epoch",
        description="when other tokens are hidden: 'every epoch', 'never', or a number of copies that take turns",
    )
    seed: int = Field(default=0, ge=0, description="other seeds hide other tokens")
    segmenter: Literal["jieba"] | None = Field(default=None, description=_SEGMENTER)
    phrases: str | None = Field(default=None, description="for unit phrase: what yanma pmi wrote")

    @field_validator("rate", mode="before")
    @classmethod
    def _a_rate_can_be_met(cls, given: Any, info: ValidationInfo) -> str | None:
        if given is None:
            return None
        unit, rate, most = info.data.get("unit"), rate_of(str(given)), Plan.max_share
        if unit == "ul2":
            raise ValueError("`unit` ul2 is seven denoisers, each with a rate of its own; leave `rate` out")
        if unit in DENOISERS and not isinstance(rate, float):
            raise ValueError(f"`unit` {unit} takes one share for all texts and epochs, such as 0.15")
        if unit in DENOISERS and not 0 < highest(rate) < 1:
            raise ValueError(f"give a share between 0 and 1, such as 0.15; got {highest(rate):g}")
        if unit in UNITS and not 0 < highest(rate) <= most:
            raise ValueError(
                f"give a share above 0 and up to {most:g}, no more is hidden of a text; got {highest(rate):g}"
            )
        return str(given)

    @field_validator("resampling", mode="before")
    @classmethod
    def _a_number_of_copies_is_one(cls, given: Any) -> Resampling:
        return resampling_of(str(given))

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> CorruptConfig:
        if self.unit in DENOISERS and self.replacement is not None:
            raise ValueError(f"`replacement`: `unit` {self.unit} has one of its own; leave it out")
        if isinstance(self.share, Decay) and self.resampling != "every epoch":
            raise ValueError(
                f"`resampling` is {self.resampling!r}; a `rate` that changes over the epochs needs 'every epoch'"
            )
        if self.segmenter is not None and self.unit in ("token", "sentence", *DENOISERS):
            raise ValueError(f"`segmenter` cuts words; `unit` {self.unit} has none: leave it out")
        if (self.unit == "phrase") != (self.phrases is not None):
            raise ValueError("`unit` phrase and `phrases` (which yanma pmi writes) go together; give both")
        return self

    @property
    def share(self) -> Rate | None:
        """The rate, read; None = what is usual for the unit."""
        return None if self.rate is None else rate_of(self.rate)

    def share_or(self, usual: float) -> float:
        """A denoiser's rate, or the usual one where none was said."""
        return usual if self.rate is None else float(self.rate)

    def progress(self, epoch: int) -> float:
        """From 0 in the first epoch to 1 in the last, where a rate is at its end; 0 where there is one."""
        return epoch / max(1, self.epochs - 1)


class PmiConfig(Section):
    """How collocations are found."""

    corpus: Files = Field(min_length=1, description="text files, a text a line, or rows with `text`")
    out: str = Field(description="file for the collocations, for yanma corrupt --phrases")
    size: int = Field(
        default=10_000,
        ge=1,
        description="how many at most: half of two words, a quarter of three, an eighth of four and five each",
    )
    min_count: int = Field(default=11, ge=1, description="rarer ones are left out")
    segmenter: Literal["jieba"] | None = Field(default=None, description=_SEGMENTER)

    @model_validator(mode="after")
    def _what_is_read_is_not_written(self) -> PmiConfig:
        if Path(self.out).resolve() in [Path(path).resolve() for path in self.corpus]:
            raise ValueError(f"`out` is {self.out}, which is read; name another file")
        return self
