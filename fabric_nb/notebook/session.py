"""State of one notebook: its connector, live views, streams and calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from fabric_nb.errors import FabricError, NotServed
from fabric_nb.fabric.amqp.translation import silence_client_logs
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.data.stream_options import StreamOptions
from fabric_nb.fabric.logs.feed import LogFeed
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.methods import public_functions
from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.fabric.rpc.server import Server
from fabric_nb.fabric.rpc.traced_call import TracedCall
from fabric_nb.fabric.timeline.events import window_seconds
from fabric_nb.fabric.timeline.timeline import Timeline
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern, parse_call
from fabric_nb.notebook.benchmarks import CellBenchmarks
from fabric_nb.notebook.bridge import prompt_note
from fabric_nb.notebook.calling import CellCalls
from fabric_nb.notebook.capture import OutputCapture, current_parent, in_terminal
from fabric_nb.notebook.cell_streams import CellStreams, is_source
from fabric_nb.notebook.connections import Connections, NamedConnection
from fabric_nb.notebook.dashboard import (
    DEFAULT_SECTIONS,
    MIN_WIDTH,
    ChosenChart,
    ViewChoice,
    part_of,
    shown_views,
    text_of,
)
from fabric_nb.notebook.doctor_page import examine
from fabric_nb.notebook.figures import ServedFigures
from fabric_nb.notebook.maps import CellMaps
from fabric_nb.notebook.options import DEFAULT_CONNECTION
from fabric_nb.notebook.pages import Page, counted
from fabric_nb.notebook.terminal import forms
from fabric_nb.notebook.views.base import TableView, UnavailableTable
from fabric_nb.notebook.views.calls import ALL, FAILED, CallsView
from fabric_nb.notebook.views.card import ConnectionCard, NoConnection
from fabric_nb.notebook.views.connections import ConnectionsView, ListedConnection
from fabric_nb.notebook.views.graph import GraphView
from fabric_nb.notebook.views.live import Screen
from fabric_nb.notebook.views.logs import LogView
from fabric_nb.notebook.views.registry import RegistryView
from fabric_nb.notebook.views.services import Filter
from fabric_nb.notebook.views.serving import AllServingView, ServingView
from fabric_nb.notebook.views.streams import StreamsView
from fabric_nb.notebook.views.traces import TraceView

if TYPE_CHECKING:
    from fabric_nb.fabric.data.stream import Stream
    from fabric_nb.notebook.connect.finder import BrokerFinder

VARIABLE = "fabric"
"""Variable of the user's namespace that holds the connector."""
STOP_GRACE = 2.0
"""Seconds that in-flight calls may take when serving is stopped."""


class Session:
    """Connections of one notebook, with its live views, streams and calls.

    It is created by the first magic that needs it.

    Args:
        shell: shell of the notebook.
        progress_after: returns the seconds before the progress of a map appears.

    Attributes:
        loop: event loop of the connectors; None before the first connection.
        connections: open connections.
        calls: calls from cells.
        maps: maps from cells.
        benchmarks: benchmarks from cells.
        screen: live views under cells.
    """

    def __init__(self, shell: InteractiveShell, progress_after: Callable[[], float]) -> None:
        silence_client_logs()
        self._shell = shell
        self.connections = Connections()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._cell_streams = CellStreams(shell)
        self.calls = CellCalls(shell)
        self._capture = OutputCapture()
        self._figures: WeakKeyDictionary[Server, ServedFigures] = WeakKeyDictionary()
        self.screen = Screen()
        self.maps = CellMaps(shell, self.screen, progress_after)
        self.benchmarks = CellBenchmarks(progress_after)

    # -- connections

    @property
    def fabric(self) -> AmqBrokerConnector:
        """Connector of the current connection.

        Raises:
            NotConnected: there is none.
        """
        return self.connections.current.fabric

    @property
    def member(self) -> FabricMember:
        """Member behind the connector.

        Raises:
            NotConnected: there is no connector.
        """
        return self.fabric.member

    @property
    def connected(self) -> bool:
        """True if there is a current connection."""
        return self.connections.selected is not None

    def called(self, call: str) -> tuple[FabricMember, ServicePattern, str]:
        """Return the member that makes a call, the service and the method.

        Args:
            call: as for `parse_call`, with the name of a connection and ``/`` before it, or of the
                current one.
        """
        connection, call = self.connections.resolve(call)
        member = connection.member
        return member, *parse_call(call, domain=member.domain)

    async def connect(
        self,
        settings: Mapping[str, Any],
        *,
        timeout: float,
        name: str = DEFAULT_CONNECTION,
        retry: bool = False,
        sample: float = 0.0,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Connect, make the connection current, and show it under the cell.

        A working connection of this name with the same settings is kept, with all that is open on
        it. Any other of this name is closed once the new one is open.

        Args:
            settings: arguments of `AmqBrokerConnector`.
            timeout: seconds that connecting may take.
            name: name of the connection.
            retry: retry within `timeout` while the broker is not reachable.
            sample: share of the calls that are traced.
            notes: sentences to show.
        """
        self.loop = asyncio.get_running_loop()
        connection = self.connections.get(name)
        if connection is None or not connection.is_reusable(settings):
            fabric = AmqBrokerConnector(**settings)
            await fabric.open(timeout=timeout, retry=retry)
            if connection is not None:
                notes = (self._closing_note(connection), *notes)
                await self._close(connection)
            connection = NamedConnection(name, fabric, settings)
            self.maps.watch(fabric.member)
            self.benchmarks.watch(fabric.member)
            fabric.member.rpc.on_cancel.append(self.calls.show_cancellation)
        connection.settings = settings
        connection.fabric.timeout = settings["timeout"]
        connection.fabric.traces.sample = sample
        self._show_card(connection, (self._make_current(connection), *notes))

    async def use(self, name: str) -> None:
        """Make a connection current, and show it under the cell.

        Raises:
            NotConnected: there is no connection of this name.
        """
        connection = self.connections.named(name)
        self._show_card(connection, (self._make_current(connection),))

    def _show_card(self, connection: NamedConnection, notes: Sequence[str]) -> None:
        others = [each.name for each in self.connections if each is not connection]
        if others:
            notes = (*notes, f"Also open: {', '.join(others)}. %fabric_use NAME switches.")
        name = connection.name if others or connection.name != DEFAULT_CONNECTION else ""
        card = ConnectionCard(connection.member, (*notes, *prompt_note(self._shell)), name)
        self.screen.show(card, of=connection.member)

    async def show_connect_form(self, finder: BrokerFinder) -> None:
        """Show the form that connects."""
        from fabric_nb.notebook.connect.widget import LiveConnectForm

        self.screen.add(lambda: LiveConnectForm(finder))

    async def show_connections(self) -> None:
        """Show the open connections."""
        self.screen.show(ConnectionsView(self.listed_connections))

    def listed_connections(self) -> list[ListedConnection]:
        """Return the open connections for views."""
        selected = self.connections.selected
        return [
            ListedConnection(each.name, each.member, each is selected) for each in self.connections
        ]

    def _make_current(self, connection: NamedConnection) -> str:
        """Make a connection current; return a sentence on its variable."""
        self.connections.use(connection)
        namespace = self._shell.user_ns
        if not isinstance(namespace.get(VARIABLE), (AmqBrokerConnector, type(None))):
            return f"`{VARIABLE}` is a variable of yours and was left alone."
        namespace[VARIABLE] = connection.fabric
        return f"`{VARIABLE}` is this connection."

    def closing_notes(self) -> list[str]:
        """Return a sentence on what ends with each connection."""
        return [self._closing_note(connection) for connection in self.connections]

    def _closing_note(self, connection: NamedConnection) -> str:
        fabric = connection.fabric
        services = [f"the service {server.name.local}" for server in fabric.servers]
        ending = [*services, *self._cell_streams.descriptions(fabric.member)]
        with_it = f", and with it {', '.join(ending)}" if ending else ""
        return f"The earlier connection, as {fabric.name}, has ended{with_it}."

    async def disconnect(self, name: str | None = None, grace: float = 0.0) -> None:
        """End a connection. Streams and logs keep the rows received so far.

        Args:
            name: name of the connection; None for the current one, if there is one.
            grace: seconds that in-flight calls may take.

        Raises:
            NotConnected: there is no connection of this name.
        """
        connections = self.connections
        connection = connections.selected if name is None else connections.named(name)
        if connection is not None:
            await self._close(connection, grace)

    async def _close(self, connection: NamedConnection, grace: float = 0.0) -> None:
        self.connections.remove(connection)
        await self._cell_streams.close(connection.member)
        await connection.fabric.close(grace)
        self.screen.freeze(connection.member)

    async def close(self) -> None:
        """End all connections, and release the output."""
        for connection in self.connections:
            await self._close(connection)
        self._capture.close()
        self.screen.close()

    # -- views

    async def show_all(self) -> None:
        """Show services, calls, served methods, streams and logs together."""
        if not self.connected:
            self.screen.show(NoConnection([each.name for each in self.connections]))
            return
        member = self.member
        self.screen.show(*[await self.section(name) for name in DEFAULT_SECTIONS], of=member)

    async def show_side_by_side(self, choices: Sequence[ViewChoice]) -> None:
        """Show chosen views and charts under one cell, side by side where the width allows it."""
        chosen = await self.resolved(choices)
        if in_terminal():
            display({"text/plain": "\n\n".join(map(text_of, chosen))}, raw=True)
            return
        parts = [part_of(each) for each in chosen]
        self.screen.show_parts(parts, MIN_WIDTH, self.member)

    async def resolved(self, choices: Sequence[ViewChoice]) -> list[TableView | ChosenChart]:
        """Return choices with the views of the sections that are named."""
        return [
            await self.section(choice) if isinstance(choice, str) else choice for choice in choices
        ]

    async def report(self, path: Path | None, choices: Sequence[ViewChoice]) -> None:
        """Write views and charts to a file, and show its name.

        Args:
            path: the file; None for one that is named by the time.
            choices: views; by default those that are live in the notebook, or else
                `DEFAULT_SECTIONS`.

        Raises:
            ReportError: the file cannot be written.
        """
        from fabric_nb.notebook.report import Section, default_name, report_html, write_report

        member, now = self.member, time.time()
        parts = [part_of(each) for each in await self.resolved(choices)]
        shown = [part.widget for part in parts] or shown_views(self.screen)
        if not shown:
            parts = [part_of(await self.section(name)) for name in DEFAULT_SECTIONS]
            shown = [part.widget for part in parts]
        self.screen.refresh()
        sections = [Section.of(widget) for widget in shown]
        for part in parts:
            part.widget.close()
        path = path or Path(default_name(now))
        title = f"{member.domain}, {time.strftime('%Y-%m-%d %H:%M', time.localtime(now))}"
        document = report_html(title, ConnectionCard(member).page(), sections, now)
        await asyncio.to_thread(write_report, path, document)
        size = f"{len(document.encode()) / 1000:,.0f} kB"
        page = Page(str(path), facts=[counted(len(sections), "view"), size])
        display(forms(page), raw=True)

    async def section(self, name: str) -> TableView:
        """Return the view of a section; see `dashboard.SECTIONS`."""
        member = self.member
        match name:
            case "services":
                return RegistryView(member, show_connection=True)
            case "statistics":
                return RegistryView(member, statistics=True)
            case "calls":
                return CallsView(member)
            case "serving":
                return AllServingView(member)
            case "streams":
                return StreamsView(member, self.streams)
            case "logs":
                return await self._logs_view(self.connections.current)
            case "graph":
                return await self._graph_view(member.domain)
        raise LookupError(f"There is no section {name!r}.")

    async def _logs_view(self, connection: NamedConnection) -> TableView:
        """Return a view of all logs, or of the reason why they cannot be received."""
        feed = connection.all_logs
        try:
            if feed is None or feed.closed:
                feed = connection.all_logs = await connection.member.logs()
        except FabricError as error:
            return UnavailableTable("Logs", str(error))
        return LogView(connection.member, feed, domain=feed.domain)

    async def show_services(
        self,
        domain: str | None = None,
        type: str | None = None,  # noqa: A002 - the field's word for it
        id: str | None = None,  # noqa: A002
        gone: bool = False,
        *,
        statistics: bool = False,
    ) -> None:
        """Show the registry, or the services that match, or the statistics of their calls."""
        wanted, member = Filter(domain, type, id, gone), self.member
        self.screen.show(RegistryView(member, wanted, statistics=statistics), of=member)

    async def show_graph(self, domain: str | None = None) -> None:
        """Show who calls whom in a domain, by default that of the notebook."""
        member = self.member
        self.screen.show(await self._graph_view(domain or member.domain), of=member)

    async def _graph_view(self, domain: str) -> GraphView:
        view = GraphView(self.member, domain)
        await view.update()
        return view

    async def show_calls(self, *, failed: bool = False) -> None:
        """Show the calls made and served, or only the failed ones."""
        member = self.member
        self.screen.show(CallsView(member, FAILED if failed else ALL), of=member)

    async def trace(self, call: str, kwargs: Mapping[str, Any], **options: Any) -> TracedCall:
        """Call a method with a trace, and show its waterfall; errors are those of the call."""
        member, pattern, method = self.called(call)
        traced = TracedCall(call)
        self.screen.show(TraceView(member, traced), of=member)
        await member.rpc.trace(traced, pattern, method, kwargs, **options)
        return traced

    async def show_timeline(self, last: str) -> None:
        """Show calls, instances, streams and logs of the last time on one time axis."""
        seconds = window_seconds(last)
        if in_terminal():
            display({"text/plain": Timeline.of(self.member, seconds).text}, raw=True)
            return
        from fabric_nb.notebook.timeline.live import LiveTimeline

        member = self.member
        self.screen.add(lambda: LiveTimeline(member, seconds), of=member)

    def cell_ended(self) -> None:
        """Update all views, with the output printed so far."""
        self._capture.flush()
        self.maps.cell_ended()
        self.benchmarks.cell_ended()
        for figures in self._figures.values():
            figures.show()
        self.screen.settle()

    # -- serving

    async def serve(
        self,
        functions: Mapping[str, Callable[..., Any]],
        options: ServeOptions,
        *,
        type: str | None,  # noqa: A002 - the field's word for it
        id: str | None,  # noqa: A002
        notes: Sequence[str] = (),
    ) -> None:
        """Serve functions, and show them; replace those of a service that is served already.

        Args:
            functions: functions by name.
            options: options of `AmqBrokerConnector.serve`.
            type: type of the service; the notebook's own if None.
            id: id of the service; the notebook's own if None.
            notes: sentences to show.
        """
        connection = self.connections.current
        member = connection.member
        name = ServiceName(member.domain, type or member.name.type, id or member.name.id)
        server = await member.host.serve_or_replace(name, public_functions(functions), options)
        view = ServingView(member, server, notes)
        self.screen.show(view, of=member)
        self._capture.divert(current_parent(), view.append_output)
        figures = None if in_terminal() else ServedFigures(self._shell)
        if figures is not None:
            self._figures[server] = figures

        @contextmanager
        def around() -> Iterator[None]:
            with connection.serving(), figures.caught() if figures else nullcontext():
                yield

        server.around = around

    def stoppable(self) -> list[str]:
        """Return what `stop` accepts: services, and variables of streams and log feeds."""
        servers = self.fabric.servers
        names = [name for server in servers for name in (server.name.id, server.name.local)]
        return [*names, *self._cell_streams.variables()]

    async def stop(self, target: str) -> str:
        """Stop a service of this notebook, or close a stream or log feed; return its name.

        Args:
            target: ``id`` or ``type.id`` of a service, with the name of its connection and ``/``
                before it unless that is current, or a variable with a stream or log feed.

        Raises:
            NotServed: there is no such service.
        """
        value = self._shell.user_ns.get(target)
        if is_source(value):
            await value.close()
            self.screen.refresh()
            return repr(value)
        connection, target = self.connections.resolve(target)
        pattern = ServicePattern.parse(target, domain=connection.fabric.domain)
        servers = connection.fabric.servers
        stopped = [server for server in servers if pattern.matches(server.name)]
        if not stopped:
            served = ", ".join(server.name.local for server in servers) or "nothing"
            raise NotServed(f"This notebook serves no {target!r}; it serves {served}.")
        for server in stopped:
            await server.close(STOP_GRACE)
        self.screen.refresh()
        return ", ".join(str(server.name) for server in stopped)

    def failed_call(self, call: str | None) -> tuple[FabricMember, str | None]:
        """Return the member that has a failed call, and its number or method.

        Args:
            call: number or method, with the name of a connection and ``/`` before it unless that
                is current; None for the last failed call of all connections.
        """
        if call is not None:
            connection, what = self.connections.resolve(call)
            return connection.member, what or None
        members = [self.member, *(each.member for each in self.connections)]
        failed = [member for member in members if member.calls.failures]
        newest = max(failed, key=lambda one: one.calls.failures[-1].record.time, default=members[0])
        return newest, None

    # -- streams and logs

    def streams(self) -> list[tuple[str, Stream]]:
        """Return pairs of variable and stream; see `CellStreams.streams`."""
        return self._cell_streams.streams()

    async def open_stream(
        self,
        headers: Mapping[str, Any],
        options: StreamOptions,
        *,
        domain: str | None,
        variable: str | None,
        record: str | None = None,
    ) -> Stream:
        """Open a stream, record it if a file is given, and show it.

        Args:
            headers: headers that messages must have.
            options: options of `AmqBrokerConnector.stream`.
            domain: domain of the stream; the notebook's own if None.
            variable: variable that the stream is going to be assigned to; see `CellStreams.add`.
            record: file to record to.
        """
        # Paused until the recording is set up, because the broker sends stored messages at once.
        options = replace(options, paused=record is not None)
        member = self.member
        stream = await member.streams.open(headers, options, domain=domain)
        if record is not None:
            try:
                await stream.record(record)
            except FabricError:
                await stream.close()
                raise
            await stream.resume()
        await self._cell_streams.add(stream, variable, member)
        from fabric_nb.notebook.views.stream import StreamView

        self.screen.show(StreamView(member, stream, domain=stream.domain), of=member)
        return stream

    async def open_logs(self, variable: str | None, **options: Any) -> LogFeed:
        """Open a log feed, and show it.

        Args:
            variable: variable that the feed is going to be assigned to; see `CellStreams.add`.
            options: options of `AmqBrokerConnector.logs`.
        """
        member = self.member
        feed = await member.logs(**options)
        await self._cell_streams.add(feed, variable, member)
        self.screen.show(LogView(member, feed, domain=feed.domain), of=member)
        return feed

    # -- the doctor

    async def diagnose(
        self, settings: Mapping[str, Any] | None, saved: str | None, **options: Any
    ) -> None:
        """Show the doctor's findings.

        Args:
            settings: arguments of `AmqBrokerConnector` for the broker to check; None for the
                notebook's connection.
            saved: warning about a password in the cell.
            options: options of `AmqBrokerConnector.diagnose`.
        """
        fabric = self.fabric if settings is None else AmqBrokerConnector(**settings)
        display(forms(await examine(fabric, saved, **options)), raw=True)
