"""Connection card, the output of `%fabric_connect`."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.core.tasks import failures
from fabric_nb.fabric.discovery.services import Service
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.pages import Badge, Cell, Code, Page, Table, counted
from fabric_nb.notebook.table.cells import ago
from fabric_nb.notebook.views.base import PageView
from fabric_nb.notebook.views.registry import TONES, instance_count, method_names
from fabric_nb.notebook.views.state import CHECK_PERIOD, state_badge

MAX_ROWS = 12


@dataclass(frozen=True)
class ConnectionCard(PageView):
    """Card with the broker, the domain, this notebook's service and the other services.

    Attributes:
        notes: permanent remarks, for instance on the kind of broker.
    """

    fabric: FabricMember
    notes: tuple[str, ...] = ()

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
        services = fabric.registry.services(domain=fabric.domain)
        others = [service for service in services if service.name != fabric.name]
        facts = Table(
            ["", " "],
            [
                ["broker", f"{fabric.uri}  {fabric.broker}".strip()],
                ["domain", fabric.domain],
                ["this notebook", f"{fabric.name.type}.{fabric.name.id}"],
                ["other services", f"{len(others)}" if others else "none announced yet"],
            ],
        )
        more = len(others) - MAX_ROWS
        remarks = [f"… and {more} more: %fabric_services"] if more > 0 else []
        if fabric.registry.stale and others:
            remarks.append("Not connected: the states of the other services are the last known.")
        if other_domains := fabric.registry.describe_other_domains(fabric.domain):
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
            tables=[facts, _services(others[:MAX_ROWS], fabric.registry.now)],
            notes=[*remarks, *self.notes],
        )


def _services(services: Sequence[Service], now: float) -> Table:
    rows: list[Sequence[Cell]] = [
        [
            service.name.type,
            service.name.id,
            Badge(str(state := service.state(now)), TONES[state]),
            " + ".join(service.versions(now)),
            instance_count(service.present(now)),
            ago(now - service.last_seen),
            Code(method_names(service)),
        ]
        for service in services
    ]
    columns = ["type", "id", "state", "version", "instances", "last seen", "methods"]
    return Table(columns, rows, frozenset({"instances"}))


class NoConnection(PageView):
    """Page of a notebook that is not connected."""

    def version(self) -> Hashable:
        """Return None, because the page never changes."""
        return None

    def page(self) -> Page:
        """Return a badge and the instruction to connect."""
        return Page(
            title="Fabric",
            badges=[Badge("not connected", "quiet")],
            notes=["Connect with %fabric_connect, then run this cell again."],
        )
