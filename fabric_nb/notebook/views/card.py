"""Connection card, the output of `%fabric_connect`."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.core.tasks import failures
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.pages import Badge, Cell, Code, Page, Table, counted
from fabric_nb.notebook.table.cells import ago
from fabric_nb.notebook.views.base import PageView
from fabric_nb.notebook.views.connection import CHECK_PERIOD, state_badge
from fabric_nb.notebook.views.registry import method_names
from fabric_nb.notebook.views.services import Filter, ServiceFacts, Services, service_badge

MAX_ROWS = 12


@dataclass(eq=False)
class ConnectionCard(PageView):
    """Card with the broker, the domain, this notebook's service and the other services.

    Attributes:
        notes: permanent remarks, for instance on the kind of broker.
        name: name of the connection; empty for the only one.
    """

    fabric: FabricMember
    notes: tuple[str, ...] = ()
    name: str = ""
    _services: Services = field(init=False)

    def __post_init__(self) -> None:
        others = Filter(domain=self.fabric.domain, own=False)
        self._services = Services(self.fabric, others, limit=MAX_ROWS)

    def version(self) -> Hashable:
        """Return the connection state, the registry's version and the current interval."""
        fabric, registry = self.fabric, self.fabric.registry
        connection = fabric.state, fabric.uri, fabric.transient_queues_refused, failures.total
        # The registry's clock stops during an outage. This one continues, because a stored card
        # gives the time at which the state was last observed, not when it began.
        return *connection, registry.revision, int(time.monotonic() / CHECK_PERIOD)

    def page(self) -> Page:
        """Return the card."""
        fabric = self.fabric
        connected = fabric.state is State.CONNECTED
        found = self._services.select()
        facts = Table(
            ["", " "],
            [
                *([["connection", self.name]] if self.name else []),
                ["broker", f"{fabric.uri}  {fabric.broker}".strip()],
                ["domain", fabric.domain],
                ["this notebook", fabric.name.local],
                ["other services", f"{found.others:,}" if found.others else "none announced yet"],
            ],
        )
        remarks = [f"… and {found.more:,} more: %fabric_services"] if found.more else []
        remarks += self._services.notes()
        if other_domains := self._services.other_domains():
            remarks.append(other_domains)
        if fabric.transient_queues_refused:
            remarks.append(
                "This broker refuses transient queues: services on amqp-fabric cannot run on it."
            )
        if failed := failures.total:
            remarks.append(f"{counted(failed, 'background error')}: %fabric_doctor shows details.")
        return Page(
            title="Fabric",
            badges=[Badge("connected", "good")] if connected else state_badge(fabric),
            tables=[facts, _table(found.services, fabric.registry.now)],
            notes=[*remarks, *self.notes],
        )


def _table(services: Sequence[ServiceFacts], now: float) -> Table:
    rows: list[Sequence[Cell]] = [
        [
            facts.name.type,
            facts.name.id,
            service_badge(facts.state),
            facts.version,
            facts.count,
            ago(now - facts.last_seen),
            Code(method_names(facts.methods)),
        ]
        for facts in services
    ]
    columns = ["type", "id", "state", "version", "instances", "last seen", "methods"]
    return Table(columns, rows, frozenset({"instances"}))


@dataclass(eq=False)
class NoConnection(PageView):
    """Page of a notebook without a current connection.

    Attributes:
        others: names of the open connections.
    """

    others: Sequence[str] = ()

    def version(self) -> Hashable:
        """Return None, because the page never changes."""
        return None

    def page(self) -> Page:
        """Return a badge and the instruction to connect."""
        choice = f"Choose one of {', '.join(self.others)} with %fabric_use, or connect"
        connect = choice if self.others else "Connect"
        return Page(
            title="Fabric",
            badges=[Badge("not connected", "quiet")],
            notes=[f"{connect} with %fabric_connect, then run this cell again."],
        )
