"""Results of the checks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fabric_nb.libraries import importing

if TYPE_CHECKING:
    import pandas as pd


class Severity(StrEnum):
    """Severity of a finding, from best to worst."""

    OK = "ok"
    UNKNOWN = "unknown"
    """The check could not be run."""
    WARNING = "warning"
    """A feature does not work, will stop working, or is not secure; all others work."""
    ERROR = "error"
    """A notebook cannot work with this."""


_ORDER = list(Severity)


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check.

    Attributes:
        check: name of the check.
        severity: severity of the result.
        found: the result as a sentence.
        advice: remedy as a sentence; empty if none is needed.
    """

    check: str
    severity: Severity
    found: str
    advice: str = ""


class Diagnosis:
    """All findings, in the order of the checks.

    Example::

        diagnosis = await fabric.diagnose()
        print(diagnosis)
        [finding.advice for finding in diagnosis if finding.severity is Severity.ERROR]

    Args:
        findings: results of the checks.
    """

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)

    @property
    def worst(self) -> Severity:
        """Severity of the worst finding."""
        found = {finding.severity for finding in self.findings}
        return max(found, key=_ORDER.index, default=Severity.OK)

    @property
    def df(self) -> pd.DataFrame:
        """DataFrame with a row for each finding: check, severity, found, advice."""
        with importing("pandas"):
            import pandas as pd
        rows = [(each.check, str(each.severity), each.found, each.advice) for each in self.findings]
        return pd.DataFrame(rows, columns=["check", "severity", "found", "advice"])

    def as_json(self) -> dict[str, Any]:
        """Return a JSON value: ``{"worst": ..., "findings": [{"check": ...}, ...]}``."""
        return {"worst": str(self.worst), "findings": list(map(asdict, self.findings))}

    def count(self, severity: Severity) -> int:
        """Return the number of findings of that severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __str__(self) -> str:
        width = max((len(finding.check) for finding in self.findings), default=0)
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.severity:7}  {finding.check.ljust(width)}  {finding.found}")
            if finding.advice:
                lines.append(f"{'':7}  {'':{width}}  -> {finding.advice}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        counts = (f"{self.count(each)} {each}" for each in Severity if self.count(each))
        return f"<Diagnosis: {', '.join(counts) or 'no checks'}>"
