"""The registry, seen: who is there, how they are doing, and what can be called."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from fabric_nb.fabric.discovery.registry import Instance, Service, ServiceState, versions_of
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern, parse_call
from fabric_nb.notebook.pages import Badge, Tone
from fabric_nb.notebook.table import Column, Detail, Head, TableModel, Value
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.methods import method_forms, read_arguments, shown_result
from fabric_nb.notebook.views.state import state_badge

MAX_ROWS = 1000
MAX_METHODS = 8
"""Methods that are named in a row."""
MAX_SIGNATURES = 30
"""Methods that are listed under a row."""
MAX_OPENED = 50
"""Services whose descriptions are kept; those opened last."""
LEAP = 1.0
"""Seconds by which the clocks must part to be set anew, as after the machine has slept."""
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
"""Signature and doc by method name."""


@dataclass(frozen=True)
class Filter:
    """Which services to show; None shows all."""

    domain: str | None = None
    type: str | None = None
    id: str | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is shown of a service's methods, and what it was made from."""

    methods: Mapping[str, str]
    told: Description | str | None
    named: str
    detail: Detail


@dataclass(eq=False)
class RegistryView(TableView):
    """A row for each service; it opens to its methods, which can be called there.

    Attributes:
        filter: which services.
        tells_where: whether it says who we are and where, as there is no card beside it.
    """

    fabric: FabricMember
    filter: Filter = Filter()
    tells_where: bool = False
    _asked: OrderedDict[ServiceName, Description | str] = field(default_factory=OrderedDict)
    _asking: dict[ServiceName, asyncio.Task[None]] = field(default_factory=dict)
    _told: int = 0
    _shown: dict[ServiceName, _Shown] = field(default_factory=dict)
    _epoch: float = 0.0

    def version(self) -> Hashable:
        """Who is there, what was asked, and the second, as states pass."""
        fabric, registry = self.fabric, self.fabric.registry
        where = fabric.state, fabric.uri
        return *where, registry.roster, int(registry.now), self._told, self._unreadable

    def model(self) -> TableModel:
        """A table of services."""
        return TableModel("Services", COLUMNS, max_rows=MAX_ROWS)

    def fill(self, model: TableModel) -> None:
        """Show the services that pass the filter, in the order of their names."""
        registry, wanted = self.fabric.registry, self.filter
        now, epoch = registry.now, self._seconds_since_1970()
        found = registry.services(domain=wanted.domain, type=wanted.type, id=wanted.id, gone=True)
        services = [
            (one, state)
            for one in found
            if (state := one.state(now)) is not ServiceState.GONE or wanted.gone
        ]
        model.replace(
            self._rows(services[:MAX_ROWS], now, epoch), more=max(0, len(services) - MAX_ROWS)
        )
        counts = Counter(state for _, state in services)
        notes = []
        if registry.deaf:
            notes.append(
                "There is no connection, so no keep-alive is received: states are the last known."
            )
        if len(services) > MAX_ROWS:
            notes.append("Narrow it with --type or --id to see others.")
        if registry.dropped:
            notes.append(
                f"The registry is full: {len(registry):,} services are held, and"
                f" {registry.dropped:,} times another one made room or was not taken."
            )
        if self._unreadable:
            what = "keep-alive" if self._unreadable == 1 else "keep-alives"
            notes.append(f"{self._unreadable:,} {what} could not be read.")
        model.head = Head(
            "Services",
            state_badge(self.fabric),
            [
                *(self._where() if self.tells_where else [wanted.domain or "all domains"]),
                *(f"{counts[state]:,} {state}" for state in ServiceState if counts[state]),
            ],
            notes,
            empty="Nobody was heard yet. Services announce themselves every few seconds.",
        )

    @property
    def _unreadable(self) -> int:
        return self.fabric.rejected.counts["keep-alive"]

    def _where(self) -> list[str]:
        fabric = self.fabric
        return [fabric.uri, f"domain {fabric.domain}", f"I am {fabric.name.type}.{fabric.name.id}"]

    def _seconds_since_1970(self) -> float:
        """What to add to the registry's clock; the same each time, as the sum is shown."""
        epoch = time.time() - self.fabric.registry.now
        if abs(epoch - self._epoch) > LEAP:
            self._epoch = epoch
        return self._epoch

    def _rows(
        self, services: Sequence[tuple[Service, ServiceState]], now: float, epoch: float
    ) -> Iterator[tuple[ServiceName, list[Value], Detail]]:
        # What they tell rarely changes, and would take most of the time to write out again.
        before, self._shown = self._shown, {}
        for service, state in services:
            methods, told = service.methods, self._asked.get(service.name)
            shown = before.get(service.name)
            if shown is None or shown.methods is not methods or shown.told is not told:
                detail = self._detail(service.name, methods, told)
                shown = _Shown(methods, told, named_methods(service), detail)
            self._shown[service.name] = shown
            yield service.name, _row(service, state, now, epoch, shown.named), shown.detail

    # -- what opens under a row

    def _detail(
        self, name: ServiceName, methods: Mapping[str, str], told: Description | str | None
    ) -> Detail:
        if told is None:
            lines = [f"{name}{text}" for name, text in islice(methods.items(), MAX_SIGNATURES)]
            return Detail("\n".join(lines) + _more(len(methods) - MAX_SIGNATURES))
        docs: Description = {} if isinstance(told, str) else told
        signatures = {**methods, **{name: one.get("signature", "") for name, one in docs.items()}}
        return Detail(
            told if isinstance(told, str) else "",
            method_forms(self._address(name), signatures, docs),
            more=max(0, len(signatures) - MAX_SIGNATURES),
        )

    def _address(self, name: ServiceName) -> str:
        """How a call names the service."""
        return f"{name.type}.{name.id}" if name.domain == self.fabric.domain else name.fqn

    def opened(self, key: Hashable) -> None:
        """Ask the service for signatures and docs, unless that was done."""
        if isinstance(key, ServiceName) and key not in self._asked and key not in self._asking:
            self._asking[key] = asyncio.get_running_loop().create_task(self._describe(key))

    async def _describe(self, name: ServiceName) -> None:
        told: Description | str
        try:
            told = await self.fabric.describe(ServicePattern(name.domain, name.type, name.id))
        except Exception as error:  # noqa: BLE001 - it is shown where the description would be
            told = f"Its docs cannot be had: {error}"
        del self._asking[name]
        self._asked[name] = told
        self._told += 1
        while len(self._asked) > MAX_OPENED:
            self._asked.popitem(last=False)

    async def act(self, name: str, value: Any) -> str:
        """Call the method that a form is for."""
        pattern, method = parse_call(name, domain=self.fabric.domain)
        arguments = read_arguments(value if isinstance(value, dict) else {})
        began = time.perf_counter()
        result = await self.fabric.call_service(pattern, method, arguments)
        return f"{shown_result(result)}\n{(time.perf_counter() - began) * 1000:,.1f} ms"


def _row(
    service: Service, state: ServiceState, now: float, epoch: float, named: str
) -> list[Value]:
    present = service.present(now)
    versions = versions_of(present or service.instances.values())
    return [
        service.name.domain,
        service.name.type,
        service.name.id,
        Badge(str(state), TONES[state]),
        " + ".join(versions) + (" (mixed)" if len(versions) > 1 else ""),
        instances(present),
        service.last_seen + epoch,
        named,
    ]


def instances(present: Sequence[Instance]) -> str | int:
    """How many members there are; amqp-fabric's cannot be told apart, so there may be more."""
    return f"{len(present)}+" if any(not one.id for one in present) else len(present)


def named_methods(service: Service) -> str:
    """The names of the first methods."""
    names = [name for name in service.methods if name != "health_check"]
    shown = ", ".join(names[:MAX_METHODS])
    return shown if len(names) <= MAX_METHODS else f"{shown}, … {len(names) - MAX_METHODS} more"


def _more(methods: int) -> str:
    return f"\n… and {methods:,} more methods." if methods > 0 else ""
