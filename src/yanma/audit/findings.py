"""What an audit found: one finding a check, as a table, as numbers, and as a picture of who reads whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

from ..masks import Mask
from ..report.tables import Table


class Verdict(StrEnum):
    """Whether a check passed."""

    PASS = "pass"
    FAIL = "FAIL"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Place:
    """A token, by the number of its document and its place there; `token` is None for a document's one output."""

    document: int
    token: int | None

    def __str__(self) -> str:
        token = "" if self.token is None else f"token {self.token} of "
        return f"{token}document {self.document}"


@dataclass(frozen=True)
class Leak:
    """Who was moved, and by what."""

    reader: Place
    read: Place

    def __str__(self) -> str:
        return f"{self.reader} is moved by {self.read}"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    check: str
    verdict: Verdict
    about: str
    """What was measured; for a skipped check, why."""
    number: int | float | None = None
    """The measure: the largest difference, or what `about` says."""
    same_bits: bool | None = None
    """Whether outputs that should be equal are, in every bit; None where that is not the question."""
    where: Leak | None = None
    fix: str | None = None
    pictures: tuple[Mask, Mask] | None = None
    """What the mask says, and what is really read."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which has no infinite numbers: they are None."""
        leak = self.where and {
            "reader": [self.where.reader.document, self.where.reader.token],
            "read": [self.where.read.document, self.where.read.token],
        }
        drawn = self.pictures and dict(
            zip(("mask", "read"), (mask.show().splitlines() for mask in self.pictures), strict=True)
        )
        return {
            "check": self.check,
            "verdict": self.verdict.lower(),
            "about": self.about,
            "number": self.number if self.number is None or isfinite(self.number) else None,
            "same_bits": self.same_bits,
            "where": leak,
            "fix": self.fix,
            "pictures": drawn,
        }


@dataclass(frozen=True)
class Audit:
    """All findings about one subject. `print(audit)` tells them in words."""

    subject: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed; checks that could not be made do not count."""
        return not self.failed

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(finding for finding in self.findings if finding.verdict is Verdict.FAIL)

    def __getitem__(self, check: str) -> Finding:
        """The finding of a check by its name; KeyError names those that there are."""
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise KeyError(f"{check!r} is no check; there are {', '.join(f.check for f in self.findings)}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "subject": self.subject,
            "ok": self.ok,
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def table(self) -> Table:
        """A line a check: verdict, number, bits, and what that is."""
        title, rows = f"{self.subject}: {self._summary()}", tuple(map(_cells, self.findings))
        return Table(("check", "verdict", "number", "bits", "what"), rows, title, ends_in_prose=True)

    def details(self) -> str:
        """The tokens that leaked, what mends it, and the two pictures side by side where they differ."""
        lines = [f"{finding.check}: {finding.where}" for finding in self.failed if finding.where is not None]
        fixes: dict[str, list[str]] = {}
        for finding in self.failed:
            if finding.fix is not None:
                fixes.setdefault(finding.fix, []).append(finding.check)
        lines += [f"to mend {', '.join(checks)}: {fix}" for fix, checks in fixes.items()]
        for finding in self.failed:
            if finding.pictures is not None:
                lines += ["", side_by_side(*finding.pictures)]
        return "\n".join(lines)

    def __str__(self) -> str:
        lines = [f"{self.subject}: {self._summary()}"]
        for finding in self.findings:
            check, verdict, number, bits, about = _cells(finding)
            lines.append(f"{check:<12} {verdict:<7} {number:>8} {bits:<6} {about}")
        return "\n".join([*lines, *([self.details()] if self.failed else [])])

    def _summary(self) -> str:
        if self.ok:
            return "nothing leaks in what was checked"
        return f"fails {', '.join(finding.check for finding in self.failed)}"


def _cells(finding: Finding) -> tuple[str, str, str, str, str]:
    number = "" if finding.number is None else f"{finding.number:.2g}"
    if isinstance(finding.number, int):
        number = str(finding.number)
    bits = {True: "same", False: "differ", None: ""}[finding.same_bits]
    return finding.check, str(finding.verdict), number, bits, finding.about


def side_by_side(says: Mask, reads: Mask) -> str:
    """Two pictures under their headings, one row a token that reads, one column a token that is read."""
    left, right = says.show().splitlines(), reads.show().splitlines()
    width = max(len("the mask says"), len(left[0])) + 3
    head = f"{'the mask says':<{width}}what is read"
    return "\n".join([head, *(f"{a:<{width}}{b}" for a, b in zip(left, right, strict=True))])
