"""Table of services, with forms to call their methods."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from fabric_nb.fabric.discovery.services import Instance, Service, ServiceState, versions_of
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern, parse_call
from fabric_nb.notebook.pages import Badge, Tone, counted
from fabric_nb.notebook.table import Column, Detail, Head, TableModel, Value
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.methods import method_forms, parse_arguments, result_text
from fabric_nb.notebook.views.state import state_badge

MAX_ROWS = 1000
MAX_METHODS = 8
"""Maximum number of methods named in a row."""
MAX_SIGNATURES = 30
"""Maximum number of methods listed in the detail of a row."""
MAX_OPENED = 50
"""Maximum number of cached descriptions; the least recently requested is dropped first."""
CLOCK_TOLERANCE = 1.0
"""Seconds by which the two clocks may diverge; they do when the machine was suspended."""
TONES: dict[ServiceState, Tone] = {
    ServiceState.UP: "good",
    ServiceState.BUSY: "busy",
    ServiceState.LATE: "warn",
    ServiceState.GONE: "bad",
}
COLUMNS = (
    Column("domain", line=0),
    Column("type"),
    Column("id"),
    Column("state", "badge"),
    Column("version", line=0),
    Column("instances", "number", line=2),
    Column("last seen", "age", line=2),
    Column("methods", "code", line=2),
)

Description = Mapping[str, Mapping[str, str]]
"""``signature`` and ``doc`` by method name."""


@dataclass(frozen=True)
class Filter:
    """Criteria for the services to show; None matches all.

    Attributes:
        gone: True to include services that are gone.
    """

    domain: str | None = None
    type: str | None = None
    id: str | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class _RenderedMethods:
    """Rendered methods of a service, cached together with their inputs.

    Attributes:
        methods: input, announced signatures by method name.
        description: input, the service's description, or the error in its place.
        names: names of the first methods.
        detail: detail of the row.
    """

    methods: Mapping[str, str]
    description: Description | str | None
    names: str
    detail: Detail


@dataclass(eq=False)
class RegistryView(TableView):
    """A row for each service; its detail has forms to call the methods.

    Attributes:
        filter: criteria for the services to show.
        show_connection: True to show the connection too, where there is no card.
    """

    fabric: FabricMember
    filter: Filter = Filter()
    show_connection: bool = False
    _descriptions: OrderedDict[ServiceName, Description | str] = field(default_factory=OrderedDict)
    _requests: dict[ServiceName, asyncio.Task[None]] = field(default_factory=dict)
    _received: int = 0
    _rendered: dict[ServiceName, _RenderedMethods] = field(default_factory=dict)
    _epoch: float = 0.0

    def version(self) -> Hashable:
        """Return the registry's version, received descriptions, and the second, as states age."""
        fabric, registry = self.fabric, self.fabric.registry
        connection = fabric.state, fabric.uri
        return *connection, registry.revision, int(registry.now), self._received, self._unreadable

    def model(self) -> TableModel:
        """Return an empty table of services."""
        return TableModel("Services", COLUMNS, max_rows=MAX_ROWS)

    def fill(self, model: TableModel) -> None:
        """Show the services that match the filter, sorted by name."""
        registry, wanted = self.fabric.registry, self.filter
        now, epoch = registry.now, self._clock_offset()
        found = registry.services(domain=wanted.domain, type=wanted.type, id=wanted.id, gone=True)
        services = [
            (service, state)
            for service in found
            if (state := service.state(now)) is not ServiceState.GONE or wanted.gone
        ]
        model.replace(
            self._rows(services[:MAX_ROWS], now, epoch), more=max(0, len(services) - MAX_ROWS)
        )
        counts = Counter(state for _, state in services)
        notes = []
        if registry.stale:
            notes.append("Not connected, so no keep-alive is received: states are the last known.")
        if len(services) > MAX_ROWS:
            notes.append("Narrow it with --type or --id to see others.")
        if registry.dropped:
            notes.append(
                f"The registry is full ({len(registry):,} services):"
                f" {counted(registry.dropped, 'service')} dropped."
            )
        if self._unreadable:
            notes.append(f"{counted(self._unreadable, 'keep-alive')} could not be read.")
        model.head = Head(
            "Services",
            state_badge(self.fabric),
            [
                *(self._connection() if self.show_connection else [wanted.domain or "all domains"]),
                *(f"{counts[state]:,} {state}" for state in ServiceState if counts[state]),
            ],
            notes,
            empty="No service has announced itself yet. Services do so every few seconds.",
        )

    @property
    def _unreadable(self) -> int:
        return self.fabric.rejected.counts["keep-alive"]

    def _connection(self) -> list[str]:
        fabric, name = self.fabric, self.fabric.name
        return [fabric.uri, f"domain {fabric.domain}", f"this notebook: {name.type}.{name.id}"]

    def _clock_offset(self) -> float:
        """Return the Unix time of the registry clock's zero; constant, as the sum is shown."""
        epoch = time.time() - self.fabric.registry.now
        if abs(epoch - self._epoch) > CLOCK_TOLERANCE:
            self._epoch = epoch
        return self._epoch

    def _rows(
        self, services: Sequence[tuple[Service, ServiceState]], now: float, epoch: float
    ) -> Iterator[tuple[ServiceName, list[Value], Detail]]:
        # Cached, because methods rarely change and rendering them takes most of the time.
        before, self._rendered = self._rendered, {}
        for service, state in services:
            name, methods = service.name, service.methods
            description = self._descriptions.get(name)
            rendered = before.get(name)
            if (
                rendered is None
                or rendered.methods is not methods
                or rendered.description is not description
            ):
                detail = self._detail(name, methods, description)
                rendered = _RenderedMethods(methods, description, method_names(service), detail)
            self._rendered[name] = rendered
            yield name, _row(service, state, now, epoch, rendered.names), rendered.detail

    # -- detail of a row

    def _detail(
        self, name: ServiceName, methods: Mapping[str, str], description: Description | str | None
    ) -> Detail:
        if description is None:
            lines = [f"{name}{text}" for name, text in islice(methods.items(), MAX_SIGNATURES)]
            return Detail("\n".join(lines) + _more(len(methods) - MAX_SIGNATURES))
        error, docs = (description, {}) if isinstance(description, str) else ("", description)
        signatures = {**methods, **{name: doc.get("signature", "") for name, doc in docs.items()}}
        return Detail(
            error,
            method_forms(self._address(name), signatures, docs),
            more=max(0, len(signatures) - MAX_SIGNATURES),
        )

    def _address(self, name: ServiceName) -> str:
        """Return the name of the service in a call."""
        return f"{name.type}.{name.id}" if name.domain == self.fabric.domain else name.fqn

    def opened(self, key: Hashable) -> None:
        """Request the service's description, unless it is cached or requested already."""
        if not isinstance(key, ServiceName) or key in self._descriptions or key in self._requests:
            return
        self._requests[key] = asyncio.get_running_loop().create_task(self._describe(key))

    async def _describe(self, name: ServiceName) -> None:
        description: Description | str
        try:
            pattern = ServicePattern(name.domain, name.type, name.id)
            description = await self.fabric.rpc.describe(pattern)
        except Exception as error:  # noqa: BLE001 - shown in place of the description
            description = f"No documentation available: {error}"
        del self._requests[name]
        self._descriptions[name] = description
        self._received += 1
        while len(self._descriptions) > MAX_OPENED:
            self._descriptions.popitem(last=False)

    async def act(self, name: str, value: Any) -> str:
        """Call the method of a form and return its result and duration."""
        pattern, method = parse_call(name, domain=self.fabric.domain)
        arguments = parse_arguments(value if isinstance(value, dict) else {})
        start = time.perf_counter()
        result = await self.fabric.rpc.call(pattern, method, arguments)
        return f"{result_text(result)}\n{(time.perf_counter() - start) * 1000:,.1f} ms"


def _row(
    service: Service, state: ServiceState, now: float, epoch: float, methods: str
) -> list[Value]:
    present = service.present(now)
    versions = versions_of(present or service.instances.values())
    return [
        service.name.domain,
        service.name.type,
        service.name.id,
        Badge(str(state), TONES[state]),
        " + ".join(versions) + (" (mixed)" if len(versions) > 1 else ""),
        instance_count(present),
        service.last_seen + epoch,
        methods,
    ]


def instance_count(present: Sequence[Instance]) -> str | int:
    """Return the number of instances, with ``+`` if some run amqp-fabric, which sends no ids."""
    return f"{len(present)}+" if any(not each.id for each in present) else len(present)


def method_names(service: Service) -> str:
    """Return the names of the first methods."""
    names = [name for name in service.methods if name != "health_check"]
    shown = ", ".join(names[:MAX_METHODS])
    return shown if len(names) <= MAX_METHODS else f"{shown}, … {len(names) - MAX_METHODS} more"


def _more(methods: int) -> str:
    return f"\n… and {methods:,} more methods." if methods > 0 else ""
