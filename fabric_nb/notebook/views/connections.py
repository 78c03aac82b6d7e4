"""Table of the notebook's connections, the output of `%fabric_connections`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.pages import Badge, counted
from fabric_nb.notebook.table import Column, Head, TableModel, Value
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.connection import CHECK_PERIOD, state_badge
from fabric_nb.notebook.views.services import Filter, Services

COLUMNS = (
    Column("connection", "code"),
    Column("", "badge"),
    Column("domain"),
    Column("services", "number"),
    Column("broker", line=0),
    Column("this notebook"),
    Column("serves", line=0),
)


@dataclass(frozen=True, slots=True)
class ListedConnection:
    """A connection as the table lists it.

    Attributes:
        name: name of the connection.
        member: member behind it.
        current: True if the magics use it.
    """

    name: str
    member: FabricMember
    current: bool


@dataclass(eq=False)
class ConnectionsView(TableView):
    """A row for each connection.

    Attributes:
        connections: returns the open connections.
    """

    connections: Callable[[], Iterable[ListedConnection]]
    _services: dict[FabricMember, Services] = field(init=False, default_factory=dict)

    def version(self) -> Hashable:
        """Return the connections with their states, registries and the current checks."""
        return tuple(
            (
                *(each.name, each.member, each.current, each.member.state),
                *(each.member.registry.revision, int(each.member.registry.now / CHECK_PERIOD)),
                tuple(server.name for server in each.member.servers),
            )
            for each in self.connections()
        )

    def model(self) -> TableModel:
        """Return an empty table of connections."""
        return TableModel("Connections", COLUMNS)

    def fill(self, model: TableModel) -> None:
        """Show a row for each connection."""
        listed = list(self.connections())
        known, self._services = self._services, {}
        for each in listed:
            own = Filter(domain=each.member.domain, own=False)
            self._services[each.member] = known.get(each.member) or Services(
                each.member, own, limit=0
            )
        model.replace(
            (each.name, _row(each, self._services[each.member].select().others), "")
            for each in listed
        )
        unused = bool(listed) and not any(each.current for each in listed)
        model.head = Head(
            "Connections",
            [Badge("none in use", "warn")] if unused else [],
            [counted(len(listed), "connection")] if listed else [],
            ["%fabric_use NAME switches; %fabric_call NAME/service.method calls by one."]
            if len(listed) > 1 or unused
            else [],
            empty="There is none: %fabric_connect --as NAME opens one.",
        )


def _row(each: ListedConnection, services: int) -> list[Value]:
    member = each.member
    connected = member.state is State.CONNECTED
    badges = [Badge("in use", "good")] if each.current and connected else state_badge(member)
    return [
        each.name,
        badges[0] if badges else Badge("connected", "quiet"),
        member.domain,
        services,
        f"{member.uri}  {member.broker}".strip(),
        member.name.local,
        ", ".join(server.name.local for server in member.servers),
    ]
