"""What `%fabric_connect` shows: where we are, who we are, who is there."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.core.tasks import failures
from fabric_nb.fabric.discovery.registry import Service
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.pages import Badge, Cell, Code, Page, Table
from fabric_nb.notebook.table.cells import ago
from fabric_nb.notebook.views.base import PageView
from fabric_nb.notebook.views.registry import TONES, instances, named_methods
from fabric_nb.notebook.views.state import CHECKED_EVERY, state_badge

MAX_ROWS = 12


@dataclass(frozen=True)
class ConnectionCard(PageView):
    """The connection and its surroundings.

    Attributes:
        notes: remarks that stay, such as what kind of broker this is.
    """

    fabric: FabricMember
    notes: tuple[str, ...] = ()

    def version(self) -> Hashable:
        """Who is there, how, and whether and to what we are connected."""
        fabric, registry = self.fabric, self.fabric.registry
        where = fabric.state, fabric.uri, fabric.transient_queues_refused, failures.total
        # By a clock that goes on in an outage, where the registry's stands still: the time that a
        # stored card gives is when the state was seen last, not when it began.
        return *where, registry.roster, int(time.monotonic() / CHECKED_EVERY)

    def page(self) -> Page:
        """The card."""
        fabric = self.fabric
        connected = fabric.state is State.CONNECTED
        services = fabric.registry.services(domain=fabric.domain)
        others = [service for service in services if service.name != fabric.name]
        facts = Table(
            ["", " "],
            [
                ["broker", f"{fabric.uri}  {fabric.broker}".strip()],
                ["domain", fabric.domain],
                ["I am", f"{fabric.name.type}.{fabric.name.id}"],
                ["others", f"{len(others)}" if others else "none heard yet"],
            ],
        )
        more = len(others) - MAX_ROWS
        remarks = [f"… and {more} more: %fabric_services"] if more > 0 else []
        if fabric.registry.deaf and others:
            remarks.append("How the others are doing is as it was known last.")
        remarks += [elsewhere] if (elsewhere := fabric.registry.elsewhere(fabric.domain)) else []
        if fabric.transient_queues_refused:
            remarks.append(
                "This broker refuses transient queues: services on amqp-fabric cannot run on it."
            )
        if failed := failures.total:
            remarks.append(f"{failed:,} errors in background work: %fabric_doctor shows them.")
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
            instances(service.present(now)),
            ago(now - service.last_seen),
            Code(named_methods(service)),
        ]
        for service in services
    ]
    columns = ["type", "id", "state", "version", "instances", "last seen", "methods"]
    return Table(columns, rows, frozenset({"instances"}))


class NoConnection(PageView):
    """What there is to be seen without a connection: how to get one."""

    def version(self) -> Hashable:
        """It stays as it is."""
        return None

    def page(self) -> Page:
        """A badge and what to do."""
        return Page(
            title="Fabric",
            badges=[Badge("not connected", "quiet")],
            notes=["%fabric_connect joins a fabric; then run this cell again."],
        )
