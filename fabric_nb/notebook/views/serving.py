"""What a cell serves, seen under it: a line for each method, and what went wrong."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.history import FailedCall
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.serving import Server
from fabric_nb.notebook.pages import Badge, glimpse
from fabric_nb.notebook.table import Column, Head, TableModel
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.state import state_badge

WHEN = ("Last failure", "Before it", "Before that")
"""How many failures of a method are shown, and what stands before each."""
MAX_READ = 100_000
"""Bytes of a failed call's arguments that are read again to be shown."""
PRINTED_KEPT, LINES_SHOWN = 20_000, 20
"""Characters, and lines, of what the functions printed."""
COLUMNS = (
    Column("method", "code"),
    Column("calls", "number"),
    Column("errors", "number"),
    Column("running", "number"),
    Column("mean ms", "number", digits=1),
    Column("p95 ms", "number", digits=1),
    Column("last error"),
)


@dataclass(eq=False)
class ServingView(TableView):
    """A service that this notebook offers; a method that failed opens to the tracebacks."""

    fabric: FabricMember
    server: Server
    printed: str = ""
    _told: dict[int, str] = field(default_factory=dict)

    def take_output(self, text: str) -> None:
        """Text that a function has printed; from any thread."""
        self.printed = (self.printed + text)[-PRINTED_KEPT:]

    def version(self) -> Hashable:
        """Calls, functions and failures so far."""
        running = sum(stats.running for stats in self.server.stats.values())
        server = self.server
        return self.fabric.state, server.changes, running, server.closed, self.printed

    def model(self) -> TableModel:
        """A table of methods."""
        return TableModel("Serving", COLUMNS)

    def fill(self, model: TableModel) -> None:
        """Show each method, with its last failures."""
        server = self.server
        signatures, failures = server.signatures, self._failures()
        model.replace(
            (
                name,
                [
                    f"{name}{signatures.get(name, '')}",
                    stats.calls,
                    stats.errors,
                    stats.running,
                    stats.mean_ms,
                    stats.p95_ms,
                    stats.last_error,
                ],
                "\n".join(map(": ".join, zip(WHEN, failures.get(name, ()), strict=False))),
            )
            for name, stats in server.stats.items()
            if name != "health_check" or stats.calls
        )
        model.head = Head(
            f"{server.name.type}.{server.name.id}",
            [
                Badge("stopped", "quiet") if server.closed else Badge("serving", "good"),
                *state_badge(self.fabric),
            ],
            [
                f"in {server.name.domain}",
                *([f"version {server.version}"] if server.version else []),
            ],
            printed="\n".join(self.printed.splitlines()[-LINES_SHOWN:]),
            empty="Nothing is served.",
        )

    def _failures(self) -> dict[str, list[str]]:
        """What failed here, by method, the last first."""
        kept = {
            failed.number: failed
            for failed in reversed(self.fabric.calls.failures)
            if failed.record.service == self.server.name.fqn
        }
        # Arguments are read again from what came: once for each.
        self._told = {number: self._told.get(number) or _told(one) for number, one in kept.items()}
        texts: dict[str, list[str]] = {}
        for number, failed in kept.items():
            texts.setdefault(failed.record.method, []).append(self._told[number])
        return texts


def _told(failed: FailedCall) -> str:
    return f"{failed.record.method}({shown_arguments(failed)})\n{failed.record.traceback}"


def shown_arguments(failed: FailedCall) -> str:
    """The beginning of its arguments, as text."""
    if failed.size > MAX_READ:
        return f"… {failed.size / 1e6:,.1f} MB"
    try:
        kwargs = failed.kwargs()
    except (MalformedMessage, ValueError):
        return "…"
    return ", ".join(f"{name}={glimpse(value)}"[:80] for name, value in kwargs.items())
