"""What `yanma bench` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from ..settings import Repeated, Section

Shape = Literal["bert-base", "xlm-roberta-base", "deberta-v3-base"]
"""Models whose time is that of the pretrained ones, as it does not depend on the weights: these are random."""
PartName = Literal["embeddings", "text", "classification", "training"]
WorkloadName = Literal["drawn", "real"]
_QUICK_TEXTS, _QUICK_ROUNDS = 24, 2


class BenchConfig(Section):
    """One measurement side by side."""

    command: ClassVar = "yanma bench"
    flags: ClassVar[Mapping[tuple[str, str], str]] = {("", "workloads"): "workload"}

    model: str | None = Field(
        default=None, description="folder or hub name (default: MiniLM, from the extra `demo`)"
    )
    shape: Shape | None = Field(
        default=None,
        description="random weights of this shape instead of a model: the time is that of real ones",
    )
    data: str | None = Field(
        default=None, description="real text: a file, or NAME:SPLIT (default: the demo's corpus)"
    )
    text_column: str = Field(default="text", description="its column of texts")
    texts: int = Field(default=512, ge=2, description="how many texts of each kind are computed")
    max_length: int = Field(
        default=128, ge=4, description="longer texts are cut; also the width of static padding"
    )
    rounds: int = Field(default=5, ge=1, description="turns of each contestant that are counted")
    threads: int | None = Field(
        default=None, ge=1, description="of everyone (default: as many as torch takes)"
    )
    only: Annotated[tuple[PartName, ...], Repeated()] = Field(
        default=get_args(PartName), min_length=1, description="what is measured"
    )
    workloads: Annotated[tuple[WorkloadName, ...], Repeated()] = Field(
        default=get_args(WorkloadName), min_length=1, description="on which texts"
    )
    quick: bool = Field(
        default=False, description="little of everything: to see that it runs, not for numbers"
    )

    @model_validator(mode="after")
    def _one_model(self) -> BenchConfig:
        if self.shape is not None and self.model is not None:
            raise ValueError("`shape` and `model` both say what is measured; give one of them")
        return self

    @model_validator(mode="after")
    def _real_text_that_is_read(self) -> BenchConfig:
        if self.data is not None and "real" not in self.workloads:
            raise ValueError(
                f"`data` is real text, and `workloads` is {', '.join(self.workloads)}: leave it out"
            )
        if self.data is None and self.text_column != type(self).model_fields["text_column"].default:
            raise ValueError(f"`text_column` is {self.text_column!r}, but no `data` is given: name its file")
        return self

    @property
    def num_texts(self) -> int:
        """How many are measured."""
        return min(self.texts, _QUICK_TEXTS) if self.quick else self.texts

    @property
    def num_rounds(self) -> int:
        """How many are counted; a warm-up round comes before them."""
        return min(self.rounds, _QUICK_ROUNDS) if self.quick else self.rounds
