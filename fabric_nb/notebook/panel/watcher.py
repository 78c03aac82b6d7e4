"""Worker of the panel in the companion thread: polls twice a second and pushes changes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import orjson

from fabric_nb.errors import FabricError, NotThere
from fabric_nb.fabric.core.companion import Companion
from fabric_nb.fabric.core.tasks import failures
from fabric_nb.notebook.connect.finder import BrokerFinder
from fabric_nb.notebook.live.pace import budget
from fabric_nb.notebook.pages import plain
from fabric_nb.notebook.panel.changes import Changes
from fabric_nb.notebook.panel.demo import DemoServices
from fabric_nb.notebook.panel.observer import Observer
from fabric_nb.notebook.panel.poller import Connections, Connector, NotebookPoller, Streams
from fabric_nb.notebook.panel.tables import PanelTable
from fabric_nb.notebook.table.parts import CANCELLED
from fabric_nb.notebook.views.form_call import FormCall

PERIOD = 0.5
"""Seconds between two polls, and so the minimum between two pushes."""
MAX_CALLS = 8
MAX_RESULT = 4000
"""Maximum characters of a result."""
KEPT_RESULTS = 32
"""Results that a panel receives again if it has missed a push."""
CLOSE_TIMEOUT = 2.0


class Watcher:
    """Polls a notebook and its fabric, from the first request until `close`.

    Args:
        connector: returns the notebook's connector.
        streams: returns the notebook's streams.
        connections: returns the notebook's open connections.
        finder: returns what answers the form that connects.
        loop: the notebook's event loop.
        push: sends a message; called in the companion thread.
    """

    def __init__(
        self,
        connector: Connector,
        streams: Streams,
        connections: Connections,
        finder: Callable[[], BrokerFinder],
        loop: asyncio.AbstractEventLoop,
        push: Callable[[Mapping[str, Any]], object],
    ) -> None:
        self._notebook_loop = loop
        self._push = push
        self._finder = finder
        self._poller = NotebookPoller(
            connector, streams, connections, loop, on_connection=lambda: self._submit(lambda: None)
        )
        self._observer = Observer(loop, lambda: self._poller.facts, lambda: self._poller.elsewhere)
        self._demo = DemoServices()
        self._changes = Changes()
        self._results: list[dict[str, str]] = []
        """Results that were not pushed yet."""
        self._recent: deque[dict[str, str]] = deque(maxlen=KEPT_RESULTS)
        """Last results, which are pushed again with a complete state."""
        self._pushes = itertools.count(1)
        self._calls: dict[str, FormCall] = {}
        """Running calls by request."""
        self._progress: dict[str, str] = {}
        """Progress that was pushed, by request."""
        self._budget_delay = 0.0  # seconds until the next push is within the budget
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lock = threading.Lock()
        self._companion: Companion | None = None
        self._closed = threading.Event()
        self._wakeup = asyncio.Event()
        self._closing = False

    # -- thread-safe

    def push_all(self) -> None:
        """Push the complete state, for a new panel."""
        self._submit(self._changes.reset)

    def call(self, request: str, call: str, texts: Mapping[str, Any]) -> None:
        """Call a method with the texts of a form, and push the result under the request's id."""

        async def work() -> str:
            running = self._calls[request] = await self._observer.start_call(call, texts)
            try:
                return plain(await running, MAX_RESULT)
            finally:
                del self._calls[request]

        self._submit(lambda: self._start(request, work))

    def cancel(self, request: str) -> None:
        """Cancel a request and push that as its result."""
        self._submit(lambda: self._cancel(request))

    def describe(self, request: str, call: str) -> None:
        """Request a method's doc and push it under the request's id."""

        async def work() -> str:
            return plain((await self._observer.describe(call)).get("doc", ""), MAX_RESULT)

        self._submit(lambda: self._start(request, work))

    def receive_logs(self, request: str) -> None:
        """Push the domain's log records from now on, as the table ``logs``."""

        async def work() -> str:
            await self._observer.receive_logs()
            return ""

        self._submit(lambda: self._start(request, work))

    def act(self, request: str, table: str, name: str, row: int | None, value: Any) -> None:
        """Perform an action of a table, on the table's loop.

        Args:
            request: id of the request.
            table: name of the table.
            name: name of the action.
            row: id of the row; None for an action of the table.
            value: chosen option, or texts of a form by field; None for a button.
        """

        async def work() -> str:
            target = self._tables.get(table)
            if target is None:
                raise NotThere(f"There is no table {table!r}.")
            return await target.act(name, row, value)

        self._submit(lambda: self._start(request, work))

    def open_row(self, table: str, row: int) -> None:
        """Have the view of a table show the details of a row."""

        def open_row() -> None:
            target = self._tables.get(table)
            if target is not None:
                target.open_row(row, then=lambda: self._submit(lambda: None))

        self._submit(open_row)

    def find_broker(self, request: str, name: str, values: Mapping[str, Any]) -> None:
        """Answer the form that connects, in JSON; see `BrokerFinder.answer`."""

        async def work() -> str:
            return orjson.dumps(await self._finder().answer(name, values)).decode()

        self._submit(lambda: self._start(request, work))

    def start_demo(self, request: str) -> None:
        """Start the demo services in the notebook's domain."""

        async def work() -> str:
            snapshot = self._poller.snapshot
            connection = snapshot.connection if snapshot is not None else None
            if connection is None or not connection["embedded"]:
                raise NotThere("The demo services are for the embedded broker only.")
            await self._demo.start(connection["domain"])
            return ""

        self._submit(lambda: self._start(request, work))

    def close(self) -> None:
        """Stop, within two seconds."""
        self._closing = True
        companion = self._companion
        if companion is None:
            return
        with contextlib.suppress(RuntimeError):  # its loop was closed
            companion.loop.call_soon_threadsafe(self._wakeup.set)
        if self._closed.wait(CLOSE_TIMEOUT):
            companion.wait_for_end(CLOSE_TIMEOUT)

    def _submit(self, action: Callable[[], object]) -> None:
        """Run an action in the companion thread, which is started if necessary."""
        with self._lock:
            if self._closing:
                return
            if self._companion is None:
                self._companion = Companion.join(self._notebook_loop)
                self._companion.start(self._main(self._companion))
            companion = self._companion

        def act() -> None:
            action()
            self._wakeup.set()

        with contextlib.suppress(RuntimeError):  # its loop was closed
            companion.loop.call_soon_threadsafe(act)

    # -- in the companion thread

    async def _main(self, companion: Companion) -> None:
        try:
            await self._run(companion)
        except Exception as error:  # noqa: BLE001 - a thread has no caller
            failures.add("the panel's thread", error)
        finally:
            companion.leave(self._closed.set)

    async def _run(self, companion: Companion) -> None:
        try:
            while not self._closing:
                self._wakeup.clear()
                start = time.monotonic()
                try:
                    await self._poll(companion.busy_since())
                except Exception as error:  # noqa: BLE001 - the next poll may succeed
                    failures.add("the panel", error)
                    self._changes.reset()  # the changes of this poll were not pushed
                if not self._closing:
                    period = max(PERIOD, self._budget_delay)
                    await _wait(self._wakeup, period - (time.monotonic() - start))
        finally:
            tasks = tuple(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(self._observer.close(), self._demo.stop())
            if tasks:
                await asyncio.wait(tasks)

    async def _poll(self, busy_since: float | None) -> None:
        snapshot = self._poller.latest()
        if snapshot is None:
            return  # the notebook's state is not known yet
        await self._observer.follow(snapshot.fabric)
        self._observer.discover(blocked=busy_since is not None)
        own = self._observer.tree
        tree = snapshot.tree if own is None else own.state()
        facts = {
            "connection": snapshot.connection,
            "connections": snapshot.connections,
            "busy_since": busy_since,
            "services": tree.remarks if tree is not None else None,
        }
        items = {
            "services": tree.items if tree is not None else {},
            "statistics": tree.statistics if tree is not None else {},
        }
        message = self._changes.diff(items, facts) or {}
        if tables := self._table_changes(whole="reset" in message):
            message["tables"] = tables
        if progress := self._progress_changes():
            message["progress"] = progress
        if results := [*self._recent] if "reset" in message else self._results:
            message["results"] = results
        if message:
            size = len(orjson.dumps(tables)) if tables else 0
            self._budget_delay = budget.spend(size)
            # The Jupyter server may drop a push; a panel that misses a number requests the state.
            self._push({"number": next(self._pushes), **message})
            self._results = []

    @property
    def _tables(self) -> dict[str, PanelTable]:
        return {**self._poller.tables, **self._observer.tables}

    def _table_changes(self, *, whole: bool) -> dict[str, Any]:
        for table in self._observer.tables.values():
            table.refresh()
        changes = {name: table.changes(whole=whole) for name, table in self._tables.items()}
        return {name: change for name, change in changes.items() if change is not None}

    def _progress_changes(self) -> list[dict[str, str]]:
        """Return the progress of the calls of which it has changed."""
        before = self._progress
        self._progress = {
            request: plain(call.progress, MAX_RESULT) for request, call in self._calls.items()
        }
        return [
            {"id": request, "text": text}
            for request, text in self._progress.items()
            if before.get(request, "") != text
        ]

    def _start(self, request: str, work: Callable[[], Awaitable[str]]) -> None:
        if len(self._tasks) >= MAX_CALLS:
            self._add_result(request, error="Too many calls are still running.")
            return
        task = asyncio.create_task(self._run_request(request, work))
        self._tasks[request] = task
        task.add_done_callback(partial(self._on_end, request))

    def _on_end(self, request: str, task: asyncio.Task[None]) -> None:
        del self._tasks[request]
        if task.cancelled():  # before it began
            self._add_result(request, error=CANCELLED)
        self._wakeup.set()

    def _cancel(self, request: str) -> None:
        if task := self._tasks.get(request):
            task.cancel()

    async def _run_request(self, request: str, work: Callable[[], Awaitable[str]]) -> None:
        try:
            self._add_result(request, text=await work())
        except asyncio.CancelledError as cancelled:
            self._add_result(request, error=str(cancelled) or CANCELLED)
        except Exception as error:  # noqa: BLE001 - sent to the panel as the result
            name = "" if isinstance(error, FabricError) else f"{type(error).__name__}: "
            field = str(getattr(error, "field", ""))
            self._add_result(request, error=f"{name}{error}", field=field)

    def _add_result(
        self, request: str, *, text: str = "", error: str = "", field: str = ""
    ) -> None:
        result = {"id": request, "text": text, "error": plain(error, MAX_RESULT), "field": field}
        self._results.append(result)
        self._recent.append(result)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
