"""The notebook's place on the fabric: its connector, and what it has open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from fabric_nb.errors import BadArgument, FabricError, NotConnected, NotServed
from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.amqp.translation import silence_client_logs
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.data.stream import Stream
from fabric_nb.fabric.data.stream_options import StreamOptions
from fabric_nb.fabric.logs.feed import LogFeed
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.methods import public_functions
from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.fabric.rpc.server import Server
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern
from fabric_nb.notebook.bridge import prompt_note
from fabric_nb.notebook.calling import CallHandle, all_items, all_results, with_sign_of_life
from fabric_nb.notebook.capture import OutputCapture, current_parent, in_terminal
from fabric_nb.notebook.checkup import examine
from fabric_nb.notebook.figures import ServedFigures
from fabric_nb.notebook.inspection import Fields, method_help
from fabric_nb.notebook.rerun import Rerun, failures_page
from fabric_nb.notebook.terminal import forms
from fabric_nb.notebook.views.base import Missing, TableView
from fabric_nb.notebook.views.calls import ALL, FAILED, CallsView
from fabric_nb.notebook.views.card import ConnectionCard, NoConnection
from fabric_nb.notebook.views.live import Place, Screen
from fabric_nb.notebook.views.logs import LogView
from fabric_nb.notebook.views.registry import Filter, RegistryView
from fabric_nb.notebook.views.serving import AllServingView, ServingView
from fabric_nb.notebook.views.stream import StreamView
from fabric_nb.notebook.views.streams import StreamsView

VARIABLE = "fabric"
"""The variable under which the user's namespace holds the connector."""
MAX_PARTS = 10_000
"""Things in a user's list in which a stream is looked for."""
STOP_GRACE = 2.0
"""Seconds that calls at hand have when serving is stopped."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A stream or log feed, the cell that has opened it, and the variable it was assigned to."""

    what: Stream | LogFeed
    place: Place
    variable: str | None

    def is_replaced_by(self, other: _Opened) -> bool:
        """Return whether a later run of the same cell assigns to the same variable."""
        return self.place.is_replaced_by(other.place) and self.variable == other.variable


def _parts(value: object) -> Iterable[object]:
    """Return what a plain container or an object of the user's holds itself, the first of many."""
    match value:
        case ModuleType() | Stream() | LogFeed():
            return ()
        case dict():
            return islice(value.values(), MAX_PARTS)
        case list() | tuple() | set() | frozenset():
            return islice(value, MAX_PARTS)
    try:  # past what the user's class makes of it
        return list(object.__getattribute__(value, "__dict__").values())
    except AttributeError:
        return ()


class Session:
    """What one notebook has open; made by the first magic that needs it.

    Args:
        shell: the notebook's IPython.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        silence_client_logs()
        self._shell = shell
        self._fabric: AmqBrokerConnector | None = None
        self._settings: Mapping[str, Any] = {}
        self._open: list[_Opened] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop that the connector lives on, once there was one."""
        self._handles: list[CallHandle] = []
        self._all_logs: LogFeed | None = None
        self._capture = OutputCapture()
        self._figures: WeakKeyDictionary[Server, ServedFigures] = WeakKeyDictionary()
        self.screen = Screen()

    @property
    def fabric(self) -> AmqBrokerConnector:
        """The connector.

        Raises:
            NotConnected: there is none.
        """
        if self._fabric is None:
            raise NotConnected("This notebook is not connected: run %fabric_connect first.")
        return self._fabric

    @property
    def member(self) -> FabricMember:
        """The member that the connector is made of.

        Raises:
            NotConnected: there is none.
        """
        return self.fabric.member

    @property
    def connected(self) -> bool:
        """Whether there is a connector."""
        return self._fabric is not None

    def own_names(self) -> list[str]:
        """What `stop` takes: our services, and the variables of streams and log feeds."""
        served = [f"{one.name.type}.{one.name.id}" for one in self.fabric.servers]
        ids = [one.name.id for one in self.fabric.servers]
        held = [
            name
            for name, value in self._shell.user_ns.items()
            if isinstance(value, (Stream, LogFeed)) and not name.startswith("_")
        ]
        return [*ids, *served, *held]

    def streams(self) -> list[tuple[str, Stream]]:
        """The streams that are open here or held by a variable, each with that variable."""
        nameless = {
            id(one.what): ("", one.what)
            for one in self._open
            if isinstance(one.what, Stream) and not one.what.closed
        }
        named = {
            id(value): (name, value)
            for name, value in list(self._shell.user_ns.items())
            if isinstance(value, Stream) and not name.startswith("_")
        }
        return list((nameless | named).values())

    # -- connecting

    def connector(self, settings: Mapping[str, Any]) -> AmqBrokerConnector:
        """A connector that is not open yet; `settings` as `AmqBrokerConnector` takes them."""
        return AmqBrokerConnector(**settings)

    async def connect(
        self,
        settings: Mapping[str, Any],
        *,
        timeout: float,
        retry: bool = False,
        notes: tuple[str, ...] = (),
    ) -> AmqBrokerConnector:
        """Join the fabric and show where we are.

        A connection that stands and was made of the same settings is kept, with all that is open
        on it; any other is left once the new one is there.
        """
        self.loop = asyncio.get_running_loop()
        fabric = self._standing(settings)
        if fabric is None:
            fabric = self.connector(settings)
            await fabric.open(timeout=timeout, retry=retry)
            notes = (*self.ending(), *notes)
            await self.disconnect()
        self._fabric, self._settings = fabric, settings
        fabric.timeout = settings["timeout"]
        namespace = self._shell.user_ns
        if isinstance(namespace.get(VARIABLE), (AmqBrokerConnector, type(None))):
            namespace[VARIABLE] = fabric
            notes = (f"`{VARIABLE}` is this connection.", *notes)
        else:
            notes = (f"`{VARIABLE}` is a variable of yours and was left alone.", *notes)
        notes = (*notes, *prompt_note(self._shell))
        self.screen.show(ConnectionCard(fabric.member, notes))
        return fabric

    def _standing(self, settings: Mapping[str, Any]) -> AmqBrokerConnector | None:
        """The connection that there is, if it stands and these settings would make the same."""
        fabric = self._fabric
        if fabric is None or fabric.state not in (State.CONNECTED, State.BLOCKED):
            return None
        different = {name for name, value in settings.items() if self._settings[name] != value}
        return None if different - {"timeout"} else fabric

    def ending(self) -> Iterator[str]:
        """Say what ends when the connection that there is does."""
        if self._fabric is None:
            return
        variables = {id(value): name for name, value in self._shell.user_ns.items()}
        kinds = {Stream: "the stream", LogFeed: "the log feed"}
        ending = [f"the service {one.name.type}.{one.name.id}" for one in self._fabric.servers]
        ending += [
            f"{kinds[type(one.what)]} {variables.get(id(one.what), '')}".rstrip()
            for one in self._open
            if not one.what.closed
        ]
        with_it = f", and with it {', '.join(ending)}" if ending else ""
        yield f"The earlier connection, as {self._fabric.name}, has ended{with_it}."

    async def disconnect(self, grace: float = 0.0) -> None:
        """Leave the fabric; streams and logs keep what they hold.

        Args:
            grace: seconds that calls at hand have to end.
        """
        fabric, self._fabric = self._fabric, None
        if fabric is None:
            return
        for opened in self._open:
            await opened.what.close()
        self._open.clear()
        await fabric.close(grace)
        self.screen.close()

    # -- what magics do

    async def show_all(self) -> None:
        """Show who is there, calls, what is served, streams and logs together."""
        if self._fabric is None:
            self.screen.show(NoConnection())
            return
        member = self.member
        self.screen.show(
            RegistryView(member, tells_where=True),
            CallsView(member),
            AllServingView(member),
            StreamsView(member, self.streams),
            await self._logs_view(member),
        )

    async def _logs_view(self, member: FabricMember) -> TableView:
        """All logs, as far as the broker lets us hear them."""
        try:
            if self._all_logs is None or self._all_logs.closed:
                self._all_logs = await member.logs()
        except FabricError as error:
            return Missing("Logs", str(error))
        return LogView(member, self._all_logs, domain=self._all_logs.domain)

    async def show_services(
        self,
        domain: str | None = None,
        type: str | None = None,  # noqa: A002 - the field's word for it
        id: str | None = None,  # noqa: A002
        gone: bool = False,
    ) -> None:
        """Show the registry, or the part of it that is like this."""
        self.screen.show(RegistryView(self.member, Filter(domain, type, id, gone)))

    async def show_calls(self, *, failed: bool = False) -> None:
        """Show the calls that were made and served, or only those that failed."""
        self.screen.show(CallsView(self.member, FAILED if failed else ALL))

    async def call(
        self,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        progress_after: float,
        **options: Any,
    ) -> Any:
        """Call a method; after a while a line under the cell says what is awaited."""
        handle = await self.start_call(pattern, method, kwargs, **options)
        return await with_sign_of_life(self.member, pattern, handle, progress_after)

    async def start_call(
        self, pattern: ServicePattern, method: str, kwargs: Mapping[str, Any], **options: Any
    ) -> CallHandle:
        """Call a method and go on; the handle is for its result."""
        calling = self.member.rpc.call(pattern, method, kwargs, **options)
        return await self.start(f"{pattern}.{method}", calling)

    async def start(self, label: str, calling: Coroutine[Any, Any, Any]) -> CallHandle:
        """Let a call run behind a handle, which `results` knows of."""
        handle = CallHandle(label, asyncio.create_task(calling))
        self._handles = [*(one for one in self._handles if not one.settled), handle]
        return handle

    def take_items(
        self,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        most: int | None,
        **options: Any,
    ) -> Coroutine[Any, Any, list[Any]]:
        """Take the items that a generator sends, all of them or so many, and show them coming."""
        items = self.member.rpc.stream(pattern, method, kwargs, **options)
        return all_items(items, f"{pattern}.{method}", most)

    async def results(self, variables: Sequence[str] = ()) -> list[Any]:
        """The results of the calls in these variables, or of all that nobody has asked for yet.

        Of one variable its result, or what the call raised is raised; of several, errors stand in
        the list.

        Raises:
            BadArgument: a variable holds no call.
        """
        held = [self._shell.user_ns.get(name) for name in variables]
        for name, value in zip(variables, held, strict=True):
            if not isinstance(value, CallHandle):
                raise BadArgument(f"{name} is no call that was started with -a.")
        results = await all_results(held or [one for one in self._handles if not one.settled])
        if len(variables) == 1 and isinstance(results[0], BaseException):
            raise results[0]
        return results

    async def serve(
        self,
        functions: Mapping[str, Callable[..., Any]],
        options: ServeOptions,
        *,
        type: str | None,  # noqa: A002 - the field's word for it
        id: str | None,  # noqa: A002
        notes: Sequence[str] = (),
    ) -> Server:
        """Serve functions and show it; swap them in where the service is served already.

        Args:
            functions: the functions by their names.
            options: as `AmqBrokerConnector.serve` takes them.
            type: type of the service; the notebook's own if None.
            id: id of the service; the notebook's own if None.
            notes: sentences shown under the cell.
        """
        member = self.member
        name = ServiceName(member.domain, type or member.name.type, id or member.name.id)
        server = await member.host.serve_or_replace(name, public_functions(functions), options)
        view = ServingView(member, server, notes)
        self.screen.show(view)
        self._capture.divert(current_parent(), view.take_output)
        if not in_terminal():
            figures = self._figures[server] = ServedFigures(self._shell)
            server.around = figures.caught
        return server

    async def open_stream(
        self,
        headers: Mapping[str, Any],
        options: StreamOptions,
        *,
        domain: str | None,
        variable: str | None,
        record: str | None = None,
    ) -> Stream:
        """Open a stream, record it where a file is given, and show it.

        Args:
            headers: headers that its messages carry.
            options: as `AmqBrokerConnector.stream` takes them.
            domain: domain of the stream; the notebook's own if None.
            variable: variable that the stream is going to be assigned to; an earlier one that the
                same cell has assigned to it is closed.
            record: the file.
        """
        # Paused until the recording is set up, because the broker sends what it has kept at once.
        options = replace(options, paused=record is not None)
        stream = await self.member.streams.open(headers, options, domain=domain)
        if record is not None:
            try:
                await stream.record(record)
            except FabricError:
                await stream.close()
                raise
            await stream.resume()
        await self._put_in_place(stream, variable)
        self.screen.show(StreamView(self.member, stream, domain=stream.domain))
        return stream

    async def open_logs(self, variable: str | None, **options: Any) -> LogFeed:
        """Listen to logs and show them; `variable` as in `open_stream`."""
        feed = await self.fabric.logs(**options)
        await self._put_in_place(feed, variable)
        self.screen.show(LogView(self.member, feed, domain=feed.domain))
        return feed

    async def _put_in_place(self, what: Stream | LogFeed, variable: str | None) -> None:
        """Keep what was opened; close what an earlier run of this cell has opened in its place."""
        opened = _Opened(what, self._place(), variable)
        kept = [one for one in self._open if not one.what.closed]
        for one in [one for one in kept if one.is_replaced_by(opened)]:
            if not self._is_held(one.what, variable):
                await one.what.close()
                kept.remove(one)
        self._open = [*kept, opened]

    def _place(self) -> Place:
        """Identity of the running cell: its id, or its text if it has none."""
        place = Place.here()
        if place.cell is not None:
            return place
        history = self._shell.history_manager
        text = history.input_hist_raw[-1] if history is not None else None
        return Place(text, place.run or str(self._shell.execution_count))

    def _is_held(self, what: object, variable: str | None) -> bool:
        """Return whether a variable of the user's other than `variable` holds it, or its value."""
        return any(
            value is what or any(part is what for part in _parts(value))
            for name, value in self._shell.user_ns.items()
            if name != variable and name != "Out" and not name.startswith("_")
        )

    def cell_ended(self) -> None:
        """Bring all views up to date, with what was printed until now."""
        self._capture.flush()
        for figures in self._figures.values():
            figures.show()
        self.screen.settle()

    async def diagnose(
        self,
        fabric: AmqBrokerConnector,
        saved: str | None,
        *,
        seconds: float | None,
        **options: Any,
    ) -> None:
        """Show what is wrong; as `examine`, `seconds` the doctor's own where there are none."""
        if seconds is not None:
            options["seconds"] = seconds
        page = await examine(fabric, saved, **options)
        display(forms(page), raw=True)

    async def method_help(self, call: str) -> Fields | None:
        """What a remote method tells of itself; None when it is not known, or we know nobody."""
        return await method_help(self.member, call) if self._fabric is not None else None

    def show_failures(self) -> None:
        """Show the failed calls that can be run again."""
        display(forms(failures_page(self.fabric.calls.failures)), raw=True)

    def rerun(self, what: str | None) -> Rerun:
        """Return a failed call, ready to be run again; `what` as in `Rerun.prepare`."""
        return Rerun.prepare(self.member, self._shell.user_ns, what)

    async def stop(self, what: str) -> str:
        """Stop a service of ours, a stream or a log feed; returns what was stopped.

        Args:
            what: a service's ``id`` or ``type.id``, or the variable that holds a stream or feed.

        Raises:
            NotServed: there is nothing of that name.
        """
        held = self._shell.user_ns.get(what)
        if isinstance(held, (Stream, LogFeed)):
            await held.close()
            self.screen.refresh()
            return repr(held)
        pattern = ServicePattern.parse(what, domain=self.fabric.domain)
        stopped = [one for one in self.fabric.servers if pattern.matches(one.name)]
        if not stopped:
            mine = ", ".join(f"{one.name.type}.{one.name.id}" for one in self.fabric.servers)
            raise NotServed(f"This notebook serves no {what!r}; it serves {mine or 'nothing'}.")
        for server in stopped:
            await server.close(STOP_GRACE)
        self.screen.refresh()
        return ", ".join(str(server.name) for server in stopped)

    async def close(self) -> None:
        """The notebook leaves."""
        await self.disconnect()
        self._capture.close()
        self.screen.close()
