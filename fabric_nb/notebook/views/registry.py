"""The registry, seen: who is there and how they are doing."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.registry import Service, ServiceState
from fabric_nb.notebook.pages import Badge, Cell, Code, Page, Table, Tone
from fabric_nb.notebook.views.state import state_badge

MAX_ROWS = 50
MAX_METHODS = 8
TONES: dict[ServiceState, Tone] = {
    ServiceState.UP: "good",
    ServiceState.BUSY: "busy",
    ServiceState.LATE: "warn",
    ServiceState.GONE: "bad",
}


@dataclass(frozen=True)
class Filter:
    """Which services to show; None shows all."""

    domain: str | None = None
    type: str | None = None
    id: str | None = None
    gone: bool = False


@dataclass(frozen=True)
class RegistryView:
    """A table of services, a row for each."""

    fabric: FabricMember
    filter: Filter

    def _services(self) -> list[Service]:
        wanted = self.filter
        return self.fabric.registry.services(
            domain=wanted.domain, type=wanted.type, id=wanted.id, gone=wanted.gone
        )

    def version(self) -> Hashable:
        """Who is there, how, since when, and whether we are connected."""
        registry = self.fabric.registry
        states = tuple((one.name, registry.state(one)) for one in self._services()[:MAX_ROWS])
        return self.fabric.state, int(registry.now), registry.changes, states

    def page(self) -> Page:
        """The table, cut at `MAX_ROWS`."""
        services = self._services()
        counts = self._counts(services)
        notes = []
        if len(services) > MAX_ROWS:
            notes.append(f"… and {len(services) - MAX_ROWS} more; narrow it with --type or --id.")
        if not services:
            notes.append("Nobody was heard yet. Services announce themselves every few seconds.")
        return Page(
            title="Services",
            badges=state_badge(self.fabric),
            facts=[self.filter.domain or "all domains", *counts],
            tables=[services_table(self.fabric, services[:MAX_ROWS])],
            notes=notes,
        )

    def _counts(self, services: Sequence[Service]) -> list[str]:
        states = [self.fabric.registry.state(service) for service in services]
        return [f"{states.count(state)} {state}" for state in ServiceState if state in states]


def services_table(fabric: FabricMember, services: Sequence[Service]) -> Table:
    """Services as rows."""
    registry = fabric.registry
    now = registry.now
    domains = {service.name.domain for service in services}
    several = domains - {fabric.domain}
    rows: list[list[Cell]] = []
    for service in services:
        state = registry.state(service)
        versions = service.versions(now)
        name = service.name
        rows.append(
            [
                *([name.domain] if several else []),
                name.type,
                name.id,
                Badge(str(state), TONES[state]),
                " + ".join(versions) + (" (mixed)" if len(versions) > 1 else ""),
                _members(service, now),
                _ago(now - service.last_seen),
                Code(_methods(service)),
            ]
        )
    columns = ["type", "id", "state", "version", "members", "last seen", "methods"]
    return Table(
        [*(["domain"] if several else []), *columns], rows, frozenset({"members", "last seen"})
    )


def _members(service: Service, now: float) -> Cell:
    """How many members there are; amqp-fabric's cannot be told apart, so there may be more."""
    present = service.present(now)
    return f"{len(present)}+" if any(not one.id for one in present) else len(present)


def _ago(seconds: float) -> str:
    if seconds < 1:
        return "now"
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"


def _methods(service: Service) -> str:
    names = [name for name in service.methods if name != "health_check"]
    shown = ", ".join(names[:MAX_METHODS])
    return shown if len(names) <= MAX_METHODS else f"{shown}, … {len(names) - MAX_METHODS} more"
