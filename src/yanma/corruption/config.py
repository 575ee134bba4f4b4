"""What `yanma corrupt` and `yanma pmi` can be told, and what holds for all settings of hiding."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ..settings import Files, Section
from .by_name import rate_of, resampling_of
from .plan import Plan, Resampling
from .rates import Decay, Rate, highest

DENOISERS = ("t5", "bart", "ul2")
_SEGMENTER = "jieba: Chinese words by its dictionary"


def check_rate_text(given: str, *, denoiser: str | None) -> None:
    """Raise ValueError for a rate that cannot be met; a `denoiser`, as a message names it, takes one for all texts."""
    rate, most = rate_of(given), Plan.max_share
    if denoiser is not None and not isinstance(rate, float):
        raise ValueError(f"{denoiser} takes one share for all texts and epochs, such as 0.15")
    if denoiser is not None and not 0 < highest(rate) < 1:
        raise ValueError(f"give a share between 0 and 1, such as 0.15; got {highest(rate):g}")
    if denoiser is None and not 0 < highest(rate) <= most:
        raise ValueError(
            f"give a share above 0 and up to {most:g}, no more is hidden of a text; got {highest(rate):g}"
        )


class HidingConfig(Section):
    """A config with the settings `unit`, `rate`, `resampling`, `segmenter`, `phrases`: what of them goes together."""

    @field_validator("resampling", mode="before", check_fields=False)
    @classmethod
    def _a_number_of_copies_is_one(cls, given: Any) -> Resampling:
        return resampling_of(str(given))

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> Self:
        said: Any = self  # the fields are of those who have them, in their own order
        if (
            said.rate is not None
            and isinstance(rate_of(said.rate), Decay)
            and said.resampling != "every epoch"
        ):
            raise ValueError(
                f"`resampling` is {said.resampling!r}; a `rate` that changes needs 'every epoch'"
            )
        if said.segmenter is not None and said.unit in ("token", "sentence", *DENOISERS):
            raise ValueError(f"`segmenter` cuts words; `unit` {said.unit} has none: leave it out")
        if (said.unit == "phrase") != (said.phrases is not None):
            raise ValueError("`unit` phrase and `phrases` (which yanma pmi writes) go together; give both")
        return self


class CorruptConfig(HidingConfig):
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
        unit = info.data.get("unit")
        if unit == "ul2":
            raise ValueError("`unit` ul2 is seven denoisers, each with a rate of its own; leave `rate` out")
        check_rate_text(str(given), denoiser=f"`unit` {unit}" if unit in DENOISERS else None)
        return str(given)

    @model_validator(mode="after")
    def _a_denoiser_has_its_own(self) -> CorruptConfig:
        if self.unit in DENOISERS and self.replacement is not None:
            raise ValueError(f"`replacement`: `unit` {self.unit} has one of its own; leave it out")
        return self

    def rate_or(self, usual: Rate) -> Any:
        """The rate, or the usual one where none was said; of a denoiser it is a number."""
        return usual if self.rate is None else rate_of(self.rate)

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
