"""What `yanma audit` can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ..masks import Mask, ParseError, parse
from ..settings import Section


class AuditConfig(Section):
    """An audit of a model in every way to run it."""

    model: str = Field(description="folder or hub name")
    data: str | None = Field(
        default=None,
        description="texts to audit it with: .txt, a text a line, rows, or NAME:SPLIT (default: random)",
    )
    text_column: str = Field(default="text", description="where texts stand in rows")
    way: Literal["padded", "packed", "unpadded"] | None = Field(
        default=None,
        description="the way that decides the exit code (default: unpadded where yanma knows the model, else packed, "
        "else padded)",
    )
    mask: str | None = Field(
        default=None,
        description="who may read whom inside a document, through all layers: `causal`, `full`, or another mask in "
        "words (default: as the model promises, or is seen to do)",
    )

    @field_validator("mask")
    @classmethod
    def _a_mask_of_positions(cls, given: str | None) -> str | None:
        """It holds for documents of any length."""
        try:
            bound = None if given is None else parse(given)._of_one_pack()
        except ParseError as error:
            raise ValueError(error.reason) from None
        if bound is not None:
            raise ValueError(f"{bound.describe()} holds for one pack only; give a mask of positions")
        return given

    @model_validator(mode="after")
    def _a_column_of_something(self) -> AuditConfig:
        if self.data is None and self.text_column != "text":
            raise ValueError(f"`text_column` is {self.text_column!r}, but no `data` is given to have it")
        return self

    @property
    def who_reads_whom(self) -> Mask | None:
        """The mask, read."""
        return None if self.mask is None else parse(self.mask)
