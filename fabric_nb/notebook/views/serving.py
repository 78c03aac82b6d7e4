"""Tables of served methods, with statistics and failures."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.history import CallLog, FailedCall
from fabric_nb.fabric.rpc.server import Server
from fabric_nb.notebook.pages import Badge, counted, glimpse
from fabric_nb.notebook.table import Column, Head, TableModel, Value
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.connection import state_badge

FAILURE_LABELS = ("Last failure", "Failure before", "Failure before that")
"""Labels of the failures that are shown for a method, newest first."""
MAX_DECODED = 100_000
"""Maximum size in bytes of a failed call's arguments that are decoded to be shown."""
MAX_PRINTED, MAX_LINES = 20_000, 20
"""Maximum characters that are retained, and lines that are shown, of the functions' output."""
COLUMNS = (
    Column("method", "code"),
    Column("calls", "number", line=2),
    Column("errors", "number", line=2),
    Column("cancelled", "number", line=0),
    Column("running", "number", line=2),
    Column("mean ms", "number", digits=1, line=2),
    Column("p95 ms", "number", digits=1, line=0),
    Column("last error", line=0),
)


@dataclass(eq=False)
class ServingView(TableView):
    """A service of this notebook; the row of a method opens to its failures."""

    fabric: FabricMember
    server: Server
    notes: Sequence[str] = ()
    printed: str = ""
    _failures: FailureTexts = field(init=False)

    def __post_init__(self) -> None:
        self._failures = FailureTexts(self.fabric.calls)

    def append_output(self, text: str) -> None:
        """Append output of a served function; thread-safe."""
        self.printed = (self.printed + text)[-MAX_PRINTED:]

    def version(self) -> Hashable:
        """Return the connection state and the counters of calls."""
        return self.fabric.state, _version(self.server), self.printed

    def model(self) -> TableModel:
        """Return an empty table of methods."""
        return TableModel("Serving", COLUMNS)

    def fill(self, model: TableModel) -> None:
        """Show each method with its last failures."""
        server = self.server
        model.replace(_rows(server, self._failures.by_method()))
        model.head = Head(
            server.name.local,
            [
                Badge("stopped", "quiet") if server.closed else Badge("serving", "good"),
                *state_badge(self.fabric),
            ],
            [
                f"in {server.name.domain}",
                *([f"version {server.options.version}"] if server.options.version else []),
                _allowed_callers(server),
            ],
            notes=self.notes,
            printed="\n".join(self.printed.splitlines()[-MAX_LINES:]),
            empty="Nothing is served.",
        )


@dataclass(eq=False)
class AllServingView(TableView):
    """All services of this notebook."""

    narrow = True

    fabric: FabricMember
    _failures: FailureTexts = field(init=False)

    def __post_init__(self) -> None:
        self._failures = FailureTexts(self.fabric.calls)

    def version(self) -> Hashable:
        """Return the connection state and the counters of calls."""
        servers = self.fabric.servers
        return self.fabric.state, *((server.name, _version(server)) for server in servers)

    def model(self) -> TableModel:
        """Return an empty table of methods."""
        return TableModel("Serving", (Column("service", line=2), *COLUMNS))

    def fill(self, model: TableModel) -> None:
        """Show each method of each service with its last failures."""
        servers, failures = self.fabric.servers, self._failures.by_method()
        model.replace(
            ((server.name, method), [server.name.local, *cells], detail)
            for server in servers
            for method, cells, detail in _rows(server, failures)
        )
        model.head = Head(
            "Serving",
            state_badge(self.fabric),
            [counted(len(servers), "service")] if servers else [],
            empty="Nothing is served: a cell that begins with %%fabric_serve serves its functions.",
        )


class FailureTexts:
    """Texts of failed served calls, cached because each decodes the arguments again.

    Args:
        calls: history with the failed calls.
    """

    def __init__(self, calls: CallLog) -> None:
        self._calls = calls
        self._cache: dict[int, str] = {}

    def by_method(self) -> dict[tuple[str, str], list[str]]:
        """Return the texts by service and method, newest first."""
        before, self._cache = self._cache, {}
        texts: dict[tuple[str, str], list[str]] = {}
        for failed in reversed(self._calls.failures):
            text = before.get(failed.number) or _failure_text(failed)
            self._cache[failed.number] = text
            method = failed.record.service, failed.record.method
            texts.setdefault(method, []).append(text)
        return texts


def _version(server: Server) -> Hashable:
    running = sum(stats.running for stats in server.stats.values())
    return server.changes, running, server.closed


def _rows(
    server: Server, failures: Mapping[tuple[str, str], Sequence[str]]
) -> Iterator[tuple[str, list[Value], str]]:
    """Yield name, cells and detail of each method."""
    signatures = server.signatures
    for name, stats in server.stats.items():
        if name == "health_check" and not stats.calls:
            continue
        cells: list[Value] = [
            f"{name}{signatures.get(name, '')}",
            stats.calls,
            stats.errors,
            stats.cancelled,
            stats.running,
            stats.mean_ms,
            stats.p95_ms,
            stats.last_error,
        ]
        texts = failures.get((server.name.fqn, name), ())
        yield name, cells, "\n".join(map(": ".join, zip(FAILURE_LABELS, texts, strict=False)))


def _allowed_callers(server: Server) -> str:
    users = server.access.users
    return "open to all callers" if users is None else f"only for {', '.join(sorted(users))}"


def _failure_text(failed: FailedCall) -> str:
    return f"{failed.record.method}({arguments_text(failed)})\n{failed.record.traceback}"


def arguments_text(failed: FailedCall) -> str:
    """Return the first characters of each argument of a failed call."""
    if failed.size > MAX_DECODED:
        return f"… {failed.size / 1e6:,.1f} MB"
    try:
        kwargs = failed.kwargs()
    except (MalformedMessage, ValueError):
        return "…"
    return ", ".join(f"{name}={glimpse(value)}"[:80] for name, value in kwargs.items())
