"""What `%fabric_connect` shows: where we are, who we are, who is there."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from fabric_nb.fabric.amqp import State
from fabric_nb.fabric.member import FabricMember
from fabric_nb.notebook.pages import Badge, Page, Table
from fabric_nb.notebook.views.registry import services_table
from fabric_nb.notebook.views.state import state_badge

MAX_ROWS = 12


@dataclass(frozen=True)
class ConnectionCard:
    """The connection and its surroundings.

    Attributes:
        notes: remarks that stay, such as what kind of broker this is.
    """

    fabric: FabricMember
    notes: tuple[str, ...] = ()

    def version(self) -> Hashable:
        """Who is there, how, and whether we are connected."""
        registry = self.fabric.registry
        services = registry.services(domain=self.fabric.domain)[:MAX_ROWS]
        states = tuple((one.name, registry.state(one)) for one in services)
        refused = self.fabric.transient_queues_refused
        return self.fabric.state, refused, len(registry), states, int(registry.now / 5)

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
        if fabric.transient_queues_refused:
            remarks.append(
                "This broker refuses transient queues: services on amqp-fabric cannot run on it."
            )
        return Page(
            title="Fabric",
            badges=[Badge("connected", "good")] if connected else state_badge(fabric),
            tables=[facts, services_table(fabric, others[:MAX_ROWS])],
            notes=[*remarks, *self.notes],
        )
