"""One model audited in every way to run it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..errors import Unsupported
from ..masks import Mask
from ..models import unpad
from .api import WAYS, audit
from .findings import Audit


@dataclass(frozen=True)
class Report:
    """The audits of a model by way, and the reason for each way in which it cannot be run."""

    audits: Mapping[str, Audit]
    absent: Mapping[str, str]
    decides: str
    """The way whose audit says whether all is well."""

    @property
    def ok(self) -> bool:
        """Whether nothing failed in the way that decides."""
        return self.audits[self.decides].ok

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "ok": self.ok,
            "decides": self.decides,
            "ways": {way: audit.as_dict() for way, audit in self.audits.items()},
            "absent": dict(self.absent),
        }

    def show(self) -> None:
        """Print a table a way, with what leaked and how to mend it, and which way decides."""
        from rich.console import Console

        out = Console(highlight=False)
        for found in self.audits.values():
            out.print(found.table())
            if found.failed:
                out.print(found.details(), markup=False, soft_wrap=True)
            out.print()
        for way, reason in self.absent.items():
            out.print(f"not {way}: {reason}", markup=False, soft_wrap=True)
        verdict = "passes" if self.ok else "fails"
        out.print(f"{self.audits[self.decides].subject} decides, and {verdict}", markup=False)


def every_way(
    model: nn.Module,
    documents: Sequence[Sequence[int]] | None = None,
    decides: str | None = None,
    mask: Mask | None = None,
) -> Report:
    """Audit a stock model in each of `WAYS`, and packed once it is unpadded.

    `decides` is by default "unpadded", else "packed", else "padded"; `mask` is as `audit` takes it.

    Raises Unsupported where the model cannot be run in the way that decides.
    """
    audits, absent = {}, {}
    for way in WAYS:
        try:
            audits[way] = audit(model, documents, way=way, mask=mask)
        except Unsupported as error:
            absent[way] = str(error)
    if "unpadded" in audits and "packed" in audits:
        audits["unpadded, packed"] = audit(unpad(copy.deepcopy(model)), documents, way="packed", mask=mask)
    decides = decides or next((way for way in ("unpadded", "packed") if way in audits), "padded")
    if decides in absent:
        raise Unsupported(absent[decides])
    return Report(audits, absent, decides)
