"""What a cell serves, seen under it: a line for each method, and what went wrong."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.history import CallLog, FailedCall
from fabric_nb.fabric.rpc.server import Server
from fabric_nb.notebook.pages import Badge, glimpse
from fabric_nb.notebook.table import Column, Head, TableModel, Value
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
    Column("calls", "number", line=2),
    Column("errors", "number", line=2),
    Column("running", "number", line=2),
    Column("mean ms", "number", digits=1, line=2),
    Column("p95 ms", "number", digits=1, line=0),
    Column("last error", line=0),
)


@dataclass(eq=False)
class ServingView(TableView):
    """A service that this notebook offers; a method that failed opens to the tracebacks."""

    fabric: FabricMember
    server: Server
    notes: Sequence[str] = ()
    printed: str = ""
    _failures: Failures = field(init=False)

    def __post_init__(self) -> None:
        self._failures = Failures(self.fabric.calls)

    def take_output(self, text: str) -> None:
        """Text that a function has printed; from any thread."""
        self.printed = (self.printed + text)[-PRINTED_KEPT:]

    def version(self) -> Hashable:
        """Calls, functions and failures so far."""
        return self.fabric.state, _version(self.server), self.printed

    def model(self) -> TableModel:
        """A table of methods."""
        return TableModel("Serving", COLUMNS)

    def fill(self, model: TableModel) -> None:
        """Show each method, with its last failures."""
        server = self.server
        model.replace(_rows(server, self._failures.texts()))
        model.head = Head(
            f"{server.name.type}.{server.name.id}",
            [
                Badge("stopped", "quiet") if server.closed else Badge("serving", "good"),
                *state_badge(self.fabric),
            ],
            [
                f"in {server.name.domain}",
                *([f"version {server.version}"] if server.version else []),
                _to_whom(server),
            ],
            notes=self.notes,
            printed="\n".join(self.printed.splitlines()[-LINES_SHOWN:]),
            empty="Nothing is served.",
        )


@dataclass(eq=False)
class AllServingView(TableView):
    """Everything that this notebook serves."""

    narrow = True

    fabric: FabricMember
    _failures: Failures = field(init=False)

    def __post_init__(self) -> None:
        self._failures = Failures(self.fabric.calls)

    def version(self) -> Hashable:
        """Calls, functions and failures so far."""
        servers = self.fabric.servers
        return self.fabric.state, *((one.name, _version(one)) for one in servers)

    def model(self) -> TableModel:
        """A table of methods."""
        return TableModel("Serving", (Column("service", line=2), *COLUMNS))

    def fill(self, model: TableModel) -> None:
        """Show each method of each service, with its last failures."""
        servers, failures = self.fabric.servers, self._failures.texts()
        model.replace(
            ((server.name, method), [f"{server.name.type}.{server.name.id}", *cells], detail)
            for server in servers
            for method, cells, detail in _rows(server, failures)
        )
        count = len(servers)
        model.head = Head(
            "Serving",
            state_badge(self.fabric),
            [f"{count:,} {'service' if count == 1 else 'services'}"] if count else [],
            empty="Nothing is served: a cell that begins with %%fabric_serve offers its functions.",
        )


class Failures:
    """The calls to our methods that failed, as text.

    Args:
        calls: where they are kept.
    """

    def __init__(self, calls: CallLog) -> None:
        self._calls = calls
        self._told: dict[int, str] = {}

    def texts(self) -> dict[tuple[str, str], list[str]]:
        """By service and method, the last first."""
        kept = self._calls.failures[::-1]
        # Arguments are read again from what came: once for each.
        self._told = {one.number: self._told.get(one.number) or _told(one) for one in kept}
        texts: dict[tuple[str, str], list[str]] = {}
        for one in kept:
            where = one.record.service, one.record.method
            texts.setdefault(where, []).append(self._told[one.number])
        return texts


def _version(server: Server) -> Hashable:
    running = sum(stats.running for stats in server.stats.values())
    return server.changes, running, server.closed


def _rows(
    server: Server, failures: Mapping[tuple[str, str], Sequence[str]]
) -> Iterator[tuple[str, list[Value], str]]:
    """Name, cells and detail of each method."""
    signatures = server.signatures
    for name, stats in server.stats.items():
        if name == "health_check" and not stats.calls:
            continue
        cells: list[Value] = [
            f"{name}{signatures.get(name, '')}",
            stats.calls,
            stats.errors,
            stats.running,
            stats.mean_ms,
            stats.p95_ms,
            stats.last_error,
        ]
        told = failures.get((server.name.fqn, name), ())
        yield name, cells, "\n".join(map(": ".join, zip(WHEN, told, strict=False)))


def _to_whom(server: Server) -> str:
    users = server.admission.users
    return "for everybody there" if users is None else f"for {', '.join(sorted(users))} only"


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
