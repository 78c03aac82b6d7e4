"""The panel in the companion thread: looks twice a second, and pushes what has changed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import orjson

from fabric_nb.errors import FabricError, NotThere
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.core.companion import Companion
from fabric_nb.fabric.core.tasks import failures
from fabric_nb.fabric.data.stream import Stream
from fabric_nb.notebook.live.pace import budget
from fabric_nb.notebook.pages import plain
from fabric_nb.notebook.panel import state
from fabric_nb.notebook.panel.changes import Changes
from fabric_nb.notebook.panel.demo import DemoServices
from fabric_nb.notebook.panel.observer import Observer
from fabric_nb.notebook.panel.state import Item, Look
from fabric_nb.notebook.panel.tables import PanelTable
from fabric_nb.notebook.views.methods import result_text
from fabric_nb.notebook.views.serving import AllServingView
from fabric_nb.notebook.views.streams import StreamsView

PERIOD = 0.5
"""Seconds between two looks, and so between two pushes at least."""
MAX_CALLS = 8
END_TIMEOUT = 2.0


class Notebook(Protocol):
    """What is looked at; the session."""

    @property
    def connected(self) -> bool:
        """Whether there is a connector."""

    @property
    def fabric(self) -> AmqBrokerConnector:
        """The connector."""

    def streams(self) -> list[tuple[str, Stream]]:
        """Its streams, with the variables that hold them."""


class Watcher:
    """Watches a notebook and its fabric, from the first `tell_all` on, until `close`.

    Args:
        notebook: tells what to watch; None as long as there is nothing.
        loop: the notebook's.
        push: takes each message; called in the thread.
    """

    def __init__(
        self,
        notebook: Callable[[], Notebook | None],
        loop: asyncio.AbstractEventLoop,
        push: Callable[[Mapping[str, Any]], object],
    ) -> None:
        self._notebook = notebook
        self._notebook_loop = loop
        self._push = push
        self._glance = _Glance(notebook, loop, on_connection=lambda: self._do(lambda: None))
        self._observer = Observer()
        self._demo = DemoServices()
        self._changes = Changes()
        self._results: list[Item] = []
        self._paid_after = 0.0  # seconds until the next push is within the budget
        self._running: dict[str, asyncio.Task[None]] = {}
        self._guard = threading.Lock()
        self._companion: Companion | None = None
        self._ended = threading.Event()
        self._woken = asyncio.Event()
        self._ending = False

    # -- from any thread

    def tell_all(self) -> None:
        """Somebody new listens: push everything again."""
        self._do(self._changes.reset)

    def call(self, request: str, call: str, arguments: Mapping[str, Any]) -> None:
        """Call a method; the result is pushed under the request's id."""

        async def work() -> str:
            result = await self._observer.call(call, arguments)
            return plain(result_text(result), state.MAX_RESULT)

        self._do(lambda: self._start(request, work))

    def cancel(self, request: str) -> None:
        """Give up what was asked for under that id, and push that as its result."""
        self._do(lambda: self._cancel(request))

    def describe(self, request: str, call: str) -> None:
        """Ask for a method's doc; pushed under the request's id."""

        async def work() -> str:
            return plain((await self._observer.describe(call)).get("doc", ""), state.MAX_RESULT)

        self._do(lambda: self._start(request, work))

    def hear_logs(self, request: str) -> None:
        """Push the domain's logs from now on, as the table ``logs``."""

        async def work() -> str:
            await self._observer.hear_logs()
            return ""

        self._do(lambda: self._start(request, work))

    def act(self, request: str, table: str, name: str, row: int | None, value: Any) -> None:
        """Use a button or choice of a table; done when the table's loop comes to it.

        Args:
            request: id of the request.
            table: name of the table.
            name: the action.
            row: the row that it is for; None for an action of the whole table.
            value: the option that was chosen; None for a button.
        """

        async def work() -> str:
            found = self._tables.get(table)
            if found is None:
                raise NotThere(f"There is no table {table!r}.")
            return await found.act(name, row, value)

        self._do(lambda: self._start(request, work))

    def start_demo(self, request: str) -> None:
        """Start the demo's services in the notebook's domain."""

        async def work() -> str:
            look = self._glance.look
            fabric = look.connection if look is not None else {}
            if not fabric.get("embedded"):
                raise NotThere("The demo services are for the embedded broker only.")
            await self._demo.start(fabric["domain"])
            return ""

        self._do(lambda: self._start(request, work))

    def close(self) -> None:
        """End, within two seconds."""
        self._ending = True
        companion = self._companion
        if companion is None:
            return
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            companion.loop.call_soon_threadsafe(self._woken.set)
        if self._ended.wait(END_TIMEOUT):
            companion.wait_for_end(END_TIMEOUT)

    def _do(self, action: Callable[[], object]) -> None:
        with self._guard:
            if self._ending:
                return
            if self._companion is None:
                self._companion = Companion.join(self._notebook_loop)
                self._companion.start(self._main(self._companion))
            companion = self._companion

        def act() -> None:
            action()
            self._woken.set()

        with contextlib.suppress(RuntimeError):  # it has just ended
            companion.loop.call_soon_threadsafe(act)

    # -- in the thread

    async def _main(self, companion: Companion) -> None:
        try:
            await self._run(companion)
        except Exception as error:  # noqa: BLE001 - a thread has no caller
            failures.add("the panel's thread", error)
        finally:
            companion.leave(self._ended.set)

    async def _run(self, companion: Companion) -> None:
        try:
            while not self._ending:
                self._woken.clear()
                began = time.monotonic()
                try:
                    await self._turn(companion.busy_since())
                except Exception as error:  # noqa: BLE001 - the next turn may succeed
                    failures.add("the panel", error)
                if not self._ending:
                    period = max(PERIOD, self._paid_after)
                    await _wait(self._woken, period - (time.monotonic() - began))
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(self._observer.close(), self._demo.stop())

    async def _turn(self, busy_since: float | None) -> None:
        look = self._glance.latest()
        if look is None:
            return  # nothing is known yet, and to say that there is nothing would be wrong
        await self._observer.follow(look.fabric)
        registry = self._observer.registry
        services = state.services(registry, look.answered) if registry is not None else {}
        facts = {
            "connection": look.connection,
            "busy_since": busy_since,
            "elsewhere": state.elsewhere(registry, look) if registry is not None else "",
        }
        message = self._changes.since({"services": services}, facts) or {}
        if tables := self._news_of_tables(whole="reset" in message):
            message["tables"] = tables
        if self._results:
            message["results"], self._results = self._results, []
        if message:
            size = len(orjson.dumps(tables)) if tables else 0
            self._paid_after = budget.spend(size)
            self._push(message)

    @property
    def _tables(self) -> dict[str, PanelTable]:
        return {**self._glance.tables, **self._observer.tables}

    def _news_of_tables(self, *, whole: bool) -> dict[str, Any]:
        for table in self._observer.tables.values():
            table.refresh()
        news = {name: table.news(whole=whole) for name, table in self._tables.items()}
        return {name: delta for name, delta in news.items() if delta is not None}

    def _start(self, request: str, work: Callable[[], Awaitable[str]]) -> None:
        if len(self._running) >= MAX_CALLS:
            self._results.append(_result(request, error="Too many calls are still running."))
            return
        task = asyncio.create_task(self._finish(request, work))
        self._running[request] = task
        task.add_done_callback(lambda _: self._running.pop(request, None))

    def _cancel(self, request: str) -> None:
        task = self._running.get(request)
        if task is not None and task.cancel():
            told = "Cancelled. A service that was called may go on."
            self._results.append(_result(request, error=told))
            self._woken.set()

    async def _finish(self, request: str, work: Callable[[], Awaitable[str]]) -> None:
        try:
            self._results.append(_result(request, text=await work()))
        except Exception as error:  # noqa: BLE001 - it is for whoever has asked
            name = "" if isinstance(error, FabricError) else f"{type(error).__name__}: "
            self._results.append(_result(request, error=f"{name}{error}"))
        self._woken.set()


class _Glance:
    """Looks at the notebook on the notebook's own loop, whenever that runs."""

    def __init__(
        self,
        notebook: Callable[[], Notebook | None],
        loop: asyncio.AbstractEventLoop,
        on_connection: Callable[[], object],
    ) -> None:
        self._on_connection = on_connection
        self.look: Look | None = None
        self.tables: dict[str, PanelTable] = {}
        """Tables of what the notebook has open, while it is connected."""
        self._notebook = notebook
        self._loop = loop
        self._asked = False

    def latest(self) -> Look | None:
        """Return the last look, None before the first, and ask for the next."""
        if not self._asked and not self._loop.is_closed():
            self._asked = True
            self._loop.call_soon_threadsafe(self._look)
        return self.look

    def _look(self) -> None:
        before = self.look
        try:
            notebook = self._notebook()
            self.look = look_at(notebook)
            if before is None or before.fabric is not self.look.fabric:
                self.tables = tables_of(notebook, self._loop)
            for table in self.tables.values():
                table.refresh()
        except Exception as error:  # noqa: BLE001 - the next look may succeed
            failures.add("the panel's look at the notebook", error)
        finally:
            self._asked = False
        # That a connection was lost is told now: with the next look, it would be a second old.
        if self.look is not None and (before is None or before.connection != self.look.connection):
            self._on_connection()


def look_at(notebook: Notebook | None) -> Look:
    """Return the notebook's state now; on its own loop."""
    if notebook is None or not notebook.connected:
        return Look()
    fabric = notebook.fabric
    return Look(
        fabric,
        state.connection(fabric),
        [one.name.fqn for one in fabric.servers],
        state.answered(fabric.registry),
    )


def tables_of(notebook: Notebook | None, loop: asyncio.AbstractEventLoop) -> dict[str, PanelTable]:
    """Return the tables of what a notebook has open; none while it is not connected."""
    if notebook is None or not notebook.connected:
        return {}
    fabric = notebook.fabric
    return {
        "streams": PanelTable(StreamsView(fabric, notebook.streams), loop),
        "serving": PanelTable(AllServingView(fabric), loop),
    }


def _result(request: str, *, text: str = "", error: str = "") -> Item:
    return {"id": request, "text": text, "error": plain(error, state.MAX_RESULT)}


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
