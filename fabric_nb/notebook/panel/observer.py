"""Connection of the panel to the fabric, on the companion thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from fabric_nb.errors import FabricError, NotThere
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.core.tasks import failures, watched
from fabric_nb.fabric.logs.feed import LogFeed
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.wire.names import ServiceName, parse_call
from fabric_nb.notebook.panel.tables import PanelTable
from fabric_nb.notebook.panel.tree import MAX_SERVICES, ServicesTree
from fabric_nb.notebook.views.form_call import FormCall, call_from_form
from fabric_nb.notebook.views.logs import MAX_ROWS, LogView
from fabric_nb.notebook.views.services import EVERY, NotebookFacts, Services

log = logging.getLogger(__name__)

RETRY = 5.0
"""Seconds between two attempts to connect."""
LEVEL = "INFO"
"""Initial minimum level of the log records that are shown."""
LINGER = 10.0
"""Seconds without a blocked loop after which the notebook's registry is used again: by then it has
read what has arrived meanwhile, and cells that block one after another need no new consumer."""
OPEN_TIME = 5.0
"""Seconds for which a call waits for the connection."""
CLOSE_TIMEOUT = 1.0


class Observer:
    """Connects to the fabric of the notebook, makes calls, and receives logs.

    It receives keep-alives only while the notebook's loop is blocked: until then the notebook's
    registry has the same services.

    Args:
        loop: the notebook's event loop.
        notebook: returns the facts on services that only the notebook's connection has.
        elsewhere: returns a sentence on other domains with services.

    Attributes:
        tree: services of the fabric, while it receives keep-alives; else None.
        tables: tables by name, on the event loop of the companion thread.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        notebook: Callable[[], NotebookFacts],
        elsewhere: Callable[[], str],
    ) -> None:
        self.tree: ServicesTree | None = None
        self.tables: dict[str, PanelTable] = {}
        self._loop = loop
        self._notebook = notebook
        self._elsewhere = elsewhere
        self._discovering: asyncio.Task[None] | None = None
        self._blocked_at = float("-inf")
        self._fabric: AmqBrokerConnector | None = None
        self._connection: FabricMember | None = None
        self._opening: asyncio.Task[None] | None = None
        self._feed: LogFeed | None = None
        self._logs: LogView | None = None
        self._logs_requested = False

    async def follow(self, fabric: AmqBrokerConnector | None) -> None:
        """Connect to the fabric of a connector, with its credentials; None disconnects."""
        if fabric is self._fabric:
            return
        await self.close()
        self._fabric = fabric
        if fabric is not None:
            self._opening = asyncio.create_task(self._open(fabric.member.observer()))
            watched(self._opening, "the panel's connection")

    async def _open(self, connection: FabricMember) -> None:
        while True:
            try:
                await connection.open()
                break
            except FabricError as error:
                log.debug("The panel has no connection: %s", error)
                await asyncio.sleep(RETRY)
        self._connection = connection
        connection.registry.on_reply = self._on_reply
        if self._logs_requested:
            try:
                await self._listen()
            except FabricError as error:  # requested again when a level is chosen
                failures.add("the panel's log lines", error)

    async def close(self) -> None:
        """Disconnect."""
        self._fabric, connection, self._connection = None, self._connection, None
        feed, self._feed = self._feed, None
        self.tree, self.tables = None, {}
        self._blocked_at = float("-inf")
        tasks = [task for task in (self._opening, self._discovering) if task is not None]
        self._opening = self._discovering = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if connection is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    if feed is not None:
                        await feed.close()
                    if not connection.listener.paused:
                        await connection.listener.pause()
                    await connection.close()

    # -- discovery

    def discover(self, *, blocked: bool) -> None:
        """Begin to receive keep-alives when the notebook's loop is blocked, and end later.

        Args:
            blocked: True if the loop is blocked now.
        """
        now = time.monotonic()
        if blocked:
            self._blocked_at = now
        if self._connection is None or (self._discovering and not self._discovering.done()):
            return
        needed = now - self._blocked_at < LINGER
        if needed is (self.tree is None):
            work = self._begin if needed else self._end
            self._discovering = asyncio.create_task(work(self._connection))
            watched(self._discovering, "the panel's discovery")

    async def _begin(self, connection: FabricMember) -> None:
        self._copy_registry(connection)
        try:
            await connection.listener.resume()
        except FabricError as error:  # tried again with the next poll
            log.debug("The panel receives no keep-alives: %s", error)
            return
        self.tree = ServicesTree(
            Services(connection, EVERY, limit=MAX_SERVICES, notebook=self._notebook)
        )

    async def _end(self, connection: FabricMember) -> None:
        self.tree = None
        await connection.listener.pause()

    def _copy_registry(self, connection: FabricMember) -> None:
        """Copy the services that the notebook knows, which this connection may receive no more."""
        if self._fabric is not None and connection.listener.paused:
            connection.registry.copy_from(self._fabric.member.registry)

    def _on_reply(self, name: ServiceName, method: str) -> None:
        """Record in the notebook's registry, too, that a method has replied."""
        if self._fabric is not None and not self._loop.is_closed():
            registry = self._fabric.member.registry
            self._loop.call_soon_threadsafe(registry.record_reply, name, method)

    # -- logs

    async def receive_logs(self) -> None:
        """Receive the domain's log records from now on.

        Raises:
            FabricError: the broker refused.
        """
        self._logs_requested = True
        await self._listen()

    async def _listen(self) -> None:
        connection = self._connection
        if connection is None or self._feed is not None:
            return
        self._feed = await connection.logs(max_records=MAX_ROWS)
        level = self._logs.level if self._logs is not None else LEVEL
        self._logs = LogView(connection, self._feed, level, elsewhere=self._elsewhere)
        self.tables = {"logs": PanelTable(self._logs, asyncio.get_running_loop())}

    # -- calls

    async def start_call(self, call: str, texts: Mapping[str, Any]) -> FormCall:
        """Call a method with the texts of a form; see `call_from_form`."""
        connection = await self._require_connection()
        return call_from_form(connection, call, texts, timed=False)

    async def describe(self, call: str) -> Mapping[str, str]:
        """Return signature and doc of a method; empty if the service describes none."""
        connection = await self._require_connection()
        pattern, method = parse_call(call, domain=connection.domain)
        return (await connection.rpc.describe(pattern)).get(method, {})

    async def _require_connection(self) -> FabricMember:
        """Return the connection, for a call whose errors may name services of the registry."""
        if self._connection is None and self._opening is not None:
            # The services are shown before, because they are those of the notebook's registry.
            await asyncio.wait([self._opening], timeout=OPEN_TIME)
        if self._connection is None:
            raise NotThere("The panel has no connection to the fabric yet; try again in a moment.")
        self._copy_registry(self._connection)
        return self._connection
