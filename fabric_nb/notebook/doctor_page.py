"""Page of the doctor's findings, including checks of the notebook itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.doctor.findings import Diagnosis, Finding, Severity
from fabric_nb.notebook.bridge import broken_nesting
from fabric_nb.notebook.pages import Badge, Cell, Page, Table, Tone

TONES: dict[Severity, Tone] = {
    Severity.OK: "good",
    Severity.UNKNOWN: "quiet",
    Severity.WARNING: "warn",
    Severity.ERROR: "bad",
}


async def examine(fabric: AmqBrokerConnector, saved: str | None, **options: Any) -> Page:
    """Diagnose a connector's fabric and the notebook.

    Args:
        fabric: connector; need not be open.
        saved: warning about a password in the cell; None if there is none.
        options: options of `AmqBrokerConnector.diagnose`.
    """
    findings = await fabric.diagnose(**options)
    return _page(Diagnosis([*findings, *_notebook_findings(saved)]))


def _notebook_findings(saved: str | None) -> Iterator[Finding]:
    nesting = broken_nesting()
    if nesting is not None:
        yield _warning("waiting in cells", nesting)
    else:
        yield Finding("waiting in cells", Severity.OK, "Nothing else has patched asyncio.")
    if saved is not None:
        yield _warning("password", saved)


def _warning(check: str, text: str) -> Finding:
    """Return a finding; its text is the problem and, after a colon, the advice."""
    problem, _, advice = text.partition(": ")
    return Finding(check, Severity.WARNING, f"{problem}.", advice[:1].upper() + advice[1:])


def _page(diagnosis: Diagnosis) -> Page:
    rows: list[Sequence[Cell]] = [
        [each.check, Badge(str(each.severity), TONES[each.severity]), each.found, each.advice]
        for each in diagnosis
    ]
    worst = diagnosis.worst
    counts = [
        f"{count} {severity}" for severity in Severity if (count := diagnosis.count(severity))
    ]
    return Page(
        title="Doctor",
        badges=[Badge(str(worst), TONES[worst])],
        facts=[", ".join(counts)],
        tables=[Table(["check", "", "found", "what to do"], rows)],
    )
