"""What `yanma compare-masking` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ..errors import did_you_mean
from ..runs.config import LengthConfig, PathOrShare
from ..runs.train_config import ColumnNames
from ..settings import Files, Names, Section
from .arms import ARMS, BASELINE


class CorpusConfig(Section):
    """The text of all arms."""

    train: Files = Field(min_length=1, description="text to pre-train on: what `yanma pretrain` reads")
    validation: PathOrShare = Field(
        default=0.1,
        description="text to be judged on; a number below 1 holds that share of train's texts out",
    )
    column: str = Field(default="text", description="where texts stand in rows")


class ModelConfig(Section):
    """The model of all arms, always from scratch."""

    from_scratch: Literal["bert-tiny", "bert-mini", "bert-small", "bert-medium", "bert-base"] = Field(
        default="bert-tiny", description="its size"
    )
    vocab_size: int = Field(
        default=8192, ge=100, description="tokens of the WordPiece vocabulary learned from train"
    )
    max_length: int = Field(
        default=128, ge=8, description="tokens of a block; texts stand end to end in blocks"
    )


class BudgetConfig(LengthConfig):
    """What every arm gets."""

    usual: ClassVar = {"epochs": 40}

    epochs: int | None = Field(default=None, ge=1, description="passes over train (default: 40, as BERT's)")
    steps: int | None = Field(default=None, ge=1, description="steps, instead of epochs")
    batch_tokens: int = Field(default=4096, ge=1, description="tokens a step")
    learning_rate: float = Field(default=1e-3, gt=0, description="highest learning rate of the schedule")


class ProbeConfig(Section):
    """A task that every pre-trained model is fine-tuned on; none without `train`."""

    task: Literal["sequence-classification", "token-classification"] = Field(
        default="sequence-classification", description="what is learned"
    )
    train: str | None = Field(default=None, description="rows to fine-tune on (default: no probe)")
    test: str | None = Field(default=None, description="rows to be judged on")
    columns: ColumnNames = Field(
        default={}, description="names of the columns where they differ from the usual"
    )
    epochs: int = Field(default=3, ge=1, description="passes over the probe's rows")
    learning_rate: float = Field(default=5e-4, gt=0, description="highest learning rate of fine-tuning")

    @model_validator(mode="after")
    def _both_or_neither(self) -> ProbeConfig:
        if (self.train is None) != (self.test is None):
            raise ValueError("`probe_train` and `probe_test` go together; give both or neither")
        return self


class ComparisonConfig(Section):
    """One comparison."""

    command: ClassVar = "yanma compare-masking"
    flags: ClassVar[Mapping[tuple[str, str], str]] = {
        ("probe", key): f"probe_{key}" for key in ProbeConfig.model_fields
    }

    out: str = Field(description="folder of outcomes and page; a second call goes on with what is there")
    arms: Names = Field(default=tuple(ARMS), description="ways to mask, with commas between")
    seeds: int = Field(default=5, ge=2, description="runs of each arm, with seeds from 0")
    jobs: int = Field(default=1, ge=1, description="runs at a time, a thread each; moves no result")
    corpus: CorpusConfig
    model: ModelConfig = ModelConfig()
    budget: BudgetConfig = BudgetConfig()
    probe: ProbeConfig = ProbeConfig()

    @field_validator("arms")
    @classmethod
    def _known_arms_and_the_baseline(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for name in given:
            if name not in ARMS:
                hint = did_you_mean(name, ARMS) or f"there are {', '.join(ARMS)}"
                raise ValueError(f"there is no {name!r}; {hint}")
        if BASELINE not in given or len(set(given)) < 2:
            raise ValueError(f"differences are taken from {BASELINE}: name it and at least one other arm")
        return tuple(name for name in ARMS if name in given)
