"""What a cell serves, seen under it: a line for each method, and what went wrong last."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.serving import FailedCall, Server
from fabric_nb.notebook.pages import Badge, Cell, Code, Page, Table, glimpse
from fabric_nb.notebook.views.state import state_badge

FAILURES_KEPT = 20
PRINTED_KEPT, LINES_SHOWN = 20_000, 20
"""Characters, and lines, of what the functions printed."""


@dataclass(eq=False)
class ServingView:
    """A service that this notebook offers."""

    fabric: FabricMember
    server: Server
    failures: deque[FailedCall] = field(default_factory=lambda: deque(maxlen=FAILURES_KEPT))
    printed: str = ""

    def take_output(self, text: str) -> None:
        """Text that a function has printed; from any thread."""
        self.printed = (self.printed + text)[-PRINTED_KEPT:]

    def version(self) -> Hashable:
        """Calls, functions and failures so far."""
        running = sum(stats.running for stats in self.server.stats.values())
        failed = self.failures[-1].time if self.failures else 0.0
        server = self.server
        return self.fabric.state, server.changes, running, failed, server.closed, self.printed

    def page(self) -> Page:
        """The methods and the last failure."""
        server = self.server
        badge = Badge("stopped", "quiet") if server.closed else Badge("serving", "good")
        version = [f"version {server.version}"] if server.version else []
        folded = []
        if self.failures:
            last = self.failures[-1]
            arguments = ", ".join(
                f"{name}={glimpse(value)}"[:80] for name, value in last.kwargs.items()
            )
            folded.append((f"Last failure: {last.method}({arguments})", last.traceback))
        return Page(
            title=f"{server.name.type}.{server.name.id}",
            badges=[badge, *state_badge(self.fabric)],
            facts=[f"in {server.name.domain}", *version],
            tables=[self._methods()],
            printed="\n".join(self.printed.splitlines()[-LINES_SHOWN:]),
            folded=folded,
        )

    def _methods(self) -> Table:
        signatures = self.server.signatures
        rows: list[list[Cell]] = []
        for name, stats in self.server.stats.items():
            if name == "health_check" and not stats.calls:
                continue
            rows.append(
                [
                    Code(f"{name}{signatures.get(name, '')}"),
                    stats.calls,
                    stats.errors,
                    stats.running,
                    stats.mean_ms,
                    stats.p95_ms,
                    stats.last_error,
                ]
            )
        columns = ["method", "calls", "errors", "running", "mean ms", "p95 ms", "last error"]
        return Table(columns, rows, frozenset(columns[1:6]))
