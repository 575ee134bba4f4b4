"""What `yanma pretrain` can be told: the models below are the whole list of settings, made usable by settings.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from ..corruption.config import HidingConfig, check_rate_text
from ..loading.shapes import SHAPES
from ..settings import Files, Section, read
from .config import ModelConfig, OptimConfig, PathOrShare, RunConfig, SavingConfig, Share
from .train_config import check_streaming

Goal = Literal["mlm", "rtd", "span-corruption", "causal-lm"]
_PADDED = ("mlm", "causal-lm")

# What only some objectives use; another refuses them where they differ from the default.
_USED_BY: dict[str, tuple[Goal, ...]] = {
    "unit": ("mlm", "rtd"),
    "rate": ("mlm", "rtd", "span-corruption"),
    "mean_span": ("span-corruption",),
    "replacement": ("mlm",),
    "resampling": ("mlm", "rtd", "span-corruption"),
    "segmenter": ("mlm", "rtd"),
    "phrases": ("mlm", "rtd"),
    "hard_tokens": ("mlm",),
    "generator_share": ("rtd",),
    "discriminator_weight": ("rtd",),
}


class ObjectiveConfig(HidingConfig):
    """What is learned: which tokens are hidden, and what the model makes of it."""

    name: Goal = Field(
        description="mlm: find hidden tokens; rtd: tell replaced tokens (ELECTRA); span-corruption: write hidden spans "
        "(T5); causal-lm: write the next token"
    )
    unit: Literal["token", "word", "span", "phrase", "sentence", "ngram"] = Field(
        default="token", description="what is hidden as a whole"
    )
    rate: Annotated[str, BeforeValidator(lambda given: str(given))] = Field(
        default="0.15",
        description="share of tokens that is hidden: a number, '0.3->0.15 linear' (cosine, step 4) over the steps, "
        "or 0.1..0.5, drawn for each block; span-corruption: a number",
    )
    mean_span: float = Field(default=3.0, ge=1, description="span-corruption: tokens of a span on average")
    replacement: Literal["bert", "spanbert", "mask", "random"] = Field(
        default="bert",
        description="mlm: what stands for hidden tokens; bert: 80 % mask, 10 % random, 10 % as they are; "
        "spanbert: the same by unit",
    )
    resampling: Literal["every epoch", "never"] | int = Field(
        default="every epoch",
        description="when other tokens are hidden: 'every epoch' (dynamic), 'never' (static), or a number of fixed "
        "copies that take turns",
    )
    segmenter: Literal["jieba"] | None = Field(
        default=None, description="jieba: Chinese words by its dictionary"
    )
    phrases: str | None = Field(default=None, description="for unit phrase: what yanma pmi wrote")
    hard_tokens: bool = Field(
        default=False, description="hide tokens more often whose loss has been high of late"
    )
    generator_share: Share = Field(
        default=0.25, gt=0, description="rtd: the generator's width as a share of the model's"
    )
    discriminator_weight: float = Field(
        default=50.0, gt=0, description="rtd: weight of the model's loss beside the generator's"
    )

    @field_validator("rate")
    @classmethod
    def _a_rate_can_be_met(cls, given: str, info: ValidationInfo) -> str:
        is_denoiser = info.data.get("name") == "span-corruption"
        check_rate_text(given, denoiser="`objective` span-corruption" if is_denoiser else None)
        return given

    @model_validator(mode="after")
    def _settings_that_are_used(self) -> ObjectiveConfig:
        fields = type(self).model_fields
        for key, goals in _USED_BY.items():
            if self.name not in goals and getattr(self, key) != fields[key].default:
                raise ValueError(f"`{key}` does nothing with {self.name}; it goes with {_and(goals)}")
        return self


class TextsConfig(Section):
    """Where the texts come from, and how they are cut."""

    train: Files = Field(
        min_length=1, description="texts to learn from: a file, a folder, a glob, or NAME:SPLIT of `datasets`"
    )
    validation: PathOrShare = Field(
        default=0.05, description="texts to measure on; a number below 1 holds that share of train out"
    )
    column: str = Field(default="text", description="where texts stand in rows")
    documents: Literal["line", "paragraph", "file"] = Field(
        default="line", description="what is one text in plain text files"
    )
    blocks: Literal["split", "join"] = Field(
        default="split",
        description="split: each text by itself, cut where it is longer than max_length; "
        "join: texts end to end, cut every max_length tokens",
    )
    streaming: bool = Field(
        default=False,
        description="read train anew in each epoch instead of keeping its tokens, and shuffle a few thousand blocks at "
        "a time",
    )


class PretrainedModelConfig(ModelConfig):
    """Which model is trained."""

    from_scratch: str | None = Field(
        default=None, description=f"a fresh model with random weights: {', '.join(SHAPES)}"
    )
    max_length: int | None = Field(
        default=None,
        ge=4,
        description="longest block in tokens (default: what the model allows, at most 512)",
    )
    tokenizer_kind: Literal["wordpiece", "bpe", "unigram"] = Field(
        default="wordpiece", description="of the tokenizer that is learned"
    )
    vocab_size: int = Field(default=8192, ge=32, description="tokens of the tokenizer that is learned")

    @model_validator(mode="after")
    def _a_tokenizer_that_is_learned(self) -> PretrainedModelConfig:
        given = self.path or self.tokenizer
        for key in ("tokenizer_kind", "vocab_size"):
            if given is not None and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"`{key}` is of a tokenizer that is learned; {given} brings one")
        return self


class PretrainOptimConfig(OptimConfig):
    """How the weights move. A step is one move of the weights, however many packs its blocks fill."""

    learning_rate: float = Field(default=5e-4, gt=0, description="highest learning rate of the schedule")
    epochs: int | None = Field(default=None, ge=1, description="passes over train (default: 1)")
    batch_tokens: int = Field(default=8192, ge=1, description="tokens a step, at most")
    warmup: Share = Field(default=0.06, description="share of all steps in which the learning rate rises")


class PretrainSavingConfig(SavingConfig):
    """When a run measures itself and what it keeps; neither moves its weights."""

    pseudo_perplexity_tokens: int = Field(
        default=1000,
        ge=0,
        description="mlm: tokens of validation on which pseudo-perplexity is measured at the end (0: none)",
    )


class PretrainConfig(RunConfig):
    """One pre-training run."""

    command: ClassVar = "yanma pretrain"
    flags: ClassVar = {("objective", "name"): "objective", ("model", "path"): "model"}

    objective: ObjectiveConfig
    data: TextsConfig
    model: PretrainedModelConfig
    optim: PretrainOptimConfig = PretrainOptimConfig()
    saving: PretrainSavingConfig = PretrainSavingConfig()

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> PretrainConfig:
        shape, goal = self.model.from_scratch, self.objective.name
        if shape is not None and goal not in SHAPES[shape].goals:
            fit = [name for name, known in SHAPES.items() if goal in known.goals]
            raise ValueError(f"`from_scratch` {shape} does not learn {goal}; {', '.join(fit)} do")
        check_streaming(self.data.streaming, self.optim.steps, self.data.validation)
        usual = PretrainSavingConfig().pseudo_perplexity_tokens
        if goal != "mlm" and self.saving.pseudo_perplexity_tokens != usual:
            raise ValueError("`pseudo_perplexity_tokens` goes with mlm")
        if self.batching == "padded" and goal not in _PADDED:
            raise ValueError(f"`batching` padded goes with {_and(_PADDED)}; {goal} is packed")
        return self


def load(path: Path | None = None, flags: Mapping[str, object] | None = None) -> PretrainConfig:
    """The config in a TOML file, or an empty one, overridden by those `flags` (by name) that are not None.

    >>> flags = {"objective": "mlm", "train": "a.txt", "from_scratch": "bert-tiny", "out": "runs/x", "rate": 0.4}
    >>> load(flags=flags).objective.rate
    '0.4'

    Raises ConfigError, which names file and key, or the flag.
    """
    return read(PretrainConfig, path, flags)


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
