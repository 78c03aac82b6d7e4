"""What a check found, as data. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import pandas as pd


class Severity(StrEnum):
    """How much a finding matters; from best to worst."""

    OK = "ok"
    UNKNOWN = "unknown"
    """Nothing tells."""
    WARNING = "warning"
    """Something does not work, or will not, or is not safe; the rest does."""
    ERROR = "error"
    """A notebook cannot work so."""


_ORDER = list(Severity)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what was looked at, in a word or two.
        severity: how much it matters.
        found: what was found, a sentence.
        advice: what to do about it; empty where there is nothing to do.
    """

    check: str
    severity: Severity
    found: str
    advice: str = ""


class Diagnosis:
    """All findings, in the order in which they were looked at.

    Example::

        diagnosis = await fabric.diagnose()
        print(diagnosis)
        [one.advice for one in diagnosis if one.severity is Severity.ERROR]

    Args:
        findings: what was found.
    """

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)

    @property
    def worst(self) -> Severity:
        """The severity of the worst finding."""
        found = {one.severity for one in self.findings}
        return max(found, key=_ORDER.index, default=Severity.OK)

    @property
    def df(self) -> pd.DataFrame:
        """A row for each finding: check, severity, found, advice."""
        rows = [(one.check, str(one.severity), one.found, one.advice) for one in self.findings]
        return pd.DataFrame(rows, columns=["check", "severity", "found", "advice"])

    def as_json(self) -> dict[str, Any]:
        """For machines: ``{"worst": ..., "findings": [{"check": ...}, ...]}``."""
        return {"worst": str(self.worst), "findings": [asdict(one) for one in self.findings]}

    def count(self, severity: Severity) -> int:
        """How many findings are of that severity."""
        return sum(one.severity is severity for one in self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __str__(self) -> str:
        width = max((len(one.check) for one in self.findings), default=0)
        lines = []
        for one in self.findings:
            lines.append(f"{one.severity:7}  {one.check.ljust(width)}  {one.found}")
            if one.advice:
                lines.append(f"{'':7}  {'':{width}}  -> {one.advice}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        counts = (f"{self.count(one)} {one}" for one in Severity if self.count(one))
        return f"<Diagnosis: {', '.join(counts) or 'nothing looked at'}>"
