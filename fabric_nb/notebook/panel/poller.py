"""State of the notebook for the panel, taken on the notebook's own event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.core.tasks import failures
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.pages import plain
from fabric_nb.notebook.panel.tables import PanelTable
from fabric_nb.notebook.panel.tree import MAX_SERVICES, ServicesTree, TreeState
from fabric_nb.notebook.table.parts import encoded_badge
from fabric_nb.notebook.views.calls import CallsView
from fabric_nb.notebook.views.connection import check_interval, state_badge, with_other_domains
from fabric_nb.notebook.views.connections import ListedConnection
from fabric_nb.notebook.views.graph import GraphView
from fabric_nb.notebook.views.services import EVERY, NotebookFacts, Services
from fabric_nb.notebook.views.serving import AllServingView
from fabric_nb.notebook.views.streams import NamedStreams, StreamsView

MAX_CALLS = 200
"""Maximum number of calls that are shown."""

Connector = Callable[[], AmqBrokerConnector | None]
"""Returns the connector of the notebook; None if it is not connected."""
Streams = Callable[[], NamedStreams]
"""Returns the streams of the notebook."""
Connections = Callable[[], Sequence[ListedConnection]]
"""Returns the open connections of the notebook."""


@dataclass(frozen=True)
class Snapshot:
    """State of the notebook at one moment.

    Attributes:
        fabric: connector; None if the notebook is not connected.
        connection: see `connection`; None if the notebook is not connected.
        facts: facts on services that only the notebook's connection has.
        tree: services in the registry of the notebook; None if it is not connected.
        elsewhere: sentence on other domains with services; empty if there are none.
        connections: name, domain and use of each open connection.
    """

    fabric: AmqBrokerConnector | None = None
    connection: dict[str, Any] | None = None
    facts: NotebookFacts = NotebookFacts()  # noqa: RUF009 - immutable
    tree: TreeState | None = None
    elsewhere: str = ""
    connections: Sequence[Mapping[str, Any]] = ()


def connection(fabric: FabricMember) -> dict[str, Any]:
    """Return the notebook's connection; the URI's password is masked."""
    return {
        "badges": [encoded_badge(badge) for badge in state_badge(fabric)],
        "domain": fabric.domain,
        "name": fabric.name.local,
        "broker": plain(fabric.broker),
        "uri": plain(fabric.uri),
        "embedded": fabric.embedded,
        "join": _join(fabric),
    }


def _join(fabric: FabricMember) -> str:
    """Return the URI for %fabric_connect in another notebook, without password.

    Empty if %fabric_connect finds the broker without a URI.
    """
    uri = plain(fabric.uri)
    default = os.environ.get("AMQP_URL", "")
    if fabric.embedded or (default and _host(default) == _host(uri)):
        return ""
    return uri.replace(":***@", "@")


def _host(uri: str) -> str:
    return uri.rpartition("@")[2].rpartition("//")[2].rstrip("/")


class NotebookPoller:
    """Takes snapshots of the notebook on the notebook's own loop, whenever that runs.

    Args:
        connector: returns the notebook's connector.
        streams: returns the notebook's streams; called while it is connected.
        connections: returns the notebook's open connections.
        loop: the notebook's event loop.
        on_connection: called on that loop when the connection has changed.

    Attributes:
        tables: tables of the notebook's streams and services; empty if it is not connected.
    """

    def __init__(
        self,
        connector: Connector,
        streams: Streams,
        connections: Connections,
        loop: asyncio.AbstractEventLoop,
        on_connection: Callable[[], object],
    ) -> None:
        self.snapshot: Snapshot | None = None
        self.tables: dict[str, PanelTable] = {}
        self._connector = connector
        self._streams = streams
        self._connections = connections
        self._loop = loop
        self._on_connection = on_connection
        self._scheduled = False
        self._facts = NotebookFacts()
        self._elsewhere = ""
        self._checked: Hashable = None
        self._tree: ServicesTree | None = None

    @property
    def facts(self) -> NotebookFacts:
        """Facts on services that only the notebook's connection has."""
        return self.snapshot.facts if self.snapshot is not None else NotebookFacts()

    @property
    def elsewhere(self) -> str:
        """Sentence on other domains with services; empty if there are none."""
        return self.snapshot.elsewhere if self.snapshot is not None else ""

    def latest(self) -> Snapshot | None:
        """Return the last snapshot, None before the first, and schedule the next."""
        if not self._scheduled and not self._loop.is_closed():
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._poll)
        return self.snapshot

    def _poll(self) -> None:
        before = self.snapshot
        try:
            fabric = self._connector()
            if before is None or before.fabric is not fabric:
                self.tables, self._tree = self._tables_of(fabric), self._tree_of(fabric)
            self.snapshot = self._snapshot_of(fabric)
            for table in self.tables.values():
                table.refresh()
        except Exception as error:  # noqa: BLE001 - the next poll may succeed
            failures.add("the panel's poll of the notebook", error)
        finally:
            self._scheduled = False
        # Pushed at once, because with the next poll a lost connection would be shown a second late.
        now = self.snapshot
        if now is not None and (before is None or before.connection != now.connection):
            self._on_connection()

    def _snapshot_of(self, fabric: AmqBrokerConnector | None) -> Snapshot:
        connections = [
            {"name": each.name, "domain": each.member.domain, "current": each.current}
            for each in self._connections()
        ]
        if fabric is None or self._tree is None:
            return Snapshot(connections=connections)
        member = fabric.member
        self._facts = NotebookFacts.of(member)
        if self._checked != (check := (member.domain, check_interval(member, member.domain))):
            self._checked = check
            self._elsewhere = with_other_domains("", member, member.domain)
        tree = self._tree.state()
        about = connection(member)
        return Snapshot(fabric, about, self._facts, tree, self._elsewhere, connections)

    def _tree_of(self, fabric: AmqBrokerConnector | None) -> ServicesTree | None:
        if fabric is None:
            return None
        # Collected once for each poll, because that takes a look at every service.
        notebook = lambda: self._facts  # noqa: E731
        return ServicesTree(Services(fabric.member, EVERY, limit=MAX_SERVICES, notebook=notebook))

    def _tables_of(self, fabric: AmqBrokerConnector | None) -> dict[str, PanelTable]:
        if fabric is None:
            return {}
        return {
            "calls": PanelTable(CallsView(fabric.member, max_rows=MAX_CALLS), self._loop),
            "streams": PanelTable(StreamsView(fabric.member, self._streams), self._loop),
            "serving": PanelTable(AllServingView(fabric.member), self._loop),
            "graph": PanelTable(GraphView(fabric.member, fabric.member.domain), self._loop),
        }
