"""What the doctor finds, as a page; with what can be wrong with a notebook alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.doctor import Diagnosis, Finding, Severity
from fabric_nb.notebook.bridge import broken_nesting
from fabric_nb.notebook.pages import Badge, Cell, Page, Table, Tone

TONES: dict[Severity, Tone] = {
    Severity.OK: "good",
    Severity.UNKNOWN: "quiet",
    Severity.WARNING: "warn",
    Severity.ERROR: "bad",
}


async def examine(fabric: AmqBrokerConnector, saved: str | None, **options: Any) -> Page:
    """Diagnose a connector's fabric, and add what the notebook itself knows.

    Args:
        fabric: who looks; need not be open.
        saved: what to say of a password that stands in the cell; None where there is none.
        options: as `AmqBrokerConnector.diagnose` takes them.
    """
    found = await fabric.diagnose(**options)
    return _page(Diagnosis([*found, *_of_notebook(saved)]))


def _of_notebook(saved: str | None) -> Iterator[Finding]:
    nesting = broken_nesting()
    if nesting is not None:
        yield _warning("waiting in cells", nesting)
    else:
        yield Finding("waiting in cells", Severity.OK, "Nothing else has patched asyncio.")
    if saved is not None:
        yield _warning("password", saved)


def _warning(check: str, told: str) -> Finding:
    """A finding made of a sentence that says what is wrong, and behind a colon what to do."""
    found, _, advice = told.partition(": ")
    return Finding(check, Severity.WARNING, f"{found}.", advice[:1].upper() + advice[1:])


def _page(diagnosis: Diagnosis) -> Page:
    rows: list[Sequence[Cell]] = [
        [one.check, Badge(str(one.severity), TONES[one.severity]), one.found, one.advice]
        for one in diagnosis
    ]
    worst = diagnosis.worst
    counts = [f"{diagnosis.count(one)} {one}" for one in Severity if diagnosis.count(one)]
    return Page(
        title="Doctor",
        badges=[Badge(str(worst), TONES[worst])],
        facts=[", ".join(counts)],
        tables=[Table(["check", "", "found", "what to do"], rows)],
    )
