"""Table of services, with forms to call their methods."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from fabric_nb.fabric.discovery.services import ServiceState
from fabric_nb.fabric.discovery.statistics import STEP
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.queues import DRAIN
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern
from fabric_nb.notebook.pages import Spark, counted
from fabric_nb.notebook.table import Column, Detail, Form, Head, TableModel, Value
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.connection import state_badge
from fabric_nb.notebook.views.form_call import FormCall, call_from_form
from fabric_nb.notebook.views.methods import method_forms, unknown_method_form
from fabric_nb.notebook.views.services import (
    EVERY_PRESENT,
    Filter,
    Methods,
    ServiceFacts,
    Services,
    listed,
    service_badge,
)
from fabric_nb.notebook.views.statistics import NO_STATISTICS, statistics_text

MAX_ROWS = 1000
ALL_DOMAINS = "all domains"
MAX_METHODS = 8
"""Maximum number of methods named in a row."""
MAX_SIGNATURES = 30
"""Maximum number of methods listed in the detail of a row."""
MAX_DRAINABLE = 5
"""Instances of a service that have a form to drain them."""
PRESENT = frozenset({ServiceState.UP, ServiceState.BUSY, ServiceState.LATE})
MAX_OPENED = 50
"""Maximum number of cached descriptions; the least recently requested is dropped first."""
CLOCK_TOLERANCE = 1.0
"""Seconds by which the two clocks may diverge; they do when the machine was suspended."""
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
STATISTICS_COLUMNS = (
    Column("service"),
    Column("state", "badge"),
    Column("instances", "number", line=0),
    Column("calls/s", "number", digits=2, line=2),
    Column("last 5 min", "spark", digits=2, line=0),
    Column("errors/s", "number", digits=2, line=2),
    Column("p95 ms", "number", digits=1, line=2),
    Column("running", "number", line=2),
    Column("calls", "number", line=0),
    Column("errors", "number", line=0),
    Column("waiting", "number", line=0),
)

Description = Mapping[str, Mapping[str, str]]
"""``signature`` and ``doc`` by method name."""


@dataclass(frozen=True, slots=True)
class _RenderedMethods:
    """Rendered methods of a service, cached together with their inputs.

    Attributes:
        methods: input, the service's methods.
        description: input, the service's description, or the error in its place.
        drainable: input, instances that callers may drain.
        names: names of the first methods.
        detail: detail of the row.
    """

    methods: Methods
    description: Description | str | None
    drainable: Sequence[str]
    names: str
    detail: Detail


@dataclass(eq=False)
class RegistryView(TableView):
    """A row for each service; its detail has forms to call the methods.

    Attributes:
        filter: criteria for the services to show.
        statistics: True to show the statistics of calls, in place of methods and times.
        show_connection: True to show the connection too, where there is no card.
    """

    fabric: FabricMember
    filter: Filter = EVERY_PRESENT
    statistics: bool = False
    show_connection: bool = False
    _services: Services = field(init=False)
    _descriptions: OrderedDict[ServiceName, Description | str] = field(default_factory=OrderedDict)
    _requests: dict[ServiceName, asyncio.Task[None]] = field(default_factory=dict)
    _received: int = 0
    _rendered: dict[ServiceName, _RenderedMethods] = field(default_factory=dict)
    _sparks: dict[ServiceName, Spark] = field(default_factory=dict)
    _sparks_at: int = -1
    _epoch: float = 0.0

    def __post_init__(self) -> None:
        self._services = Services(self.fabric, self.filter, limit=MAX_ROWS)

    def version(self) -> Hashable:
        """Return the version of the connection, of the services and of their descriptions."""
        return self.fabric.state, self.fabric.uri, self._services.version(), self._received

    def model(self) -> TableModel:
        """Return an empty table of services."""
        columns = STATISTICS_COLUMNS if self.statistics else COLUMNS
        return TableModel("Services", columns, max_rows=MAX_ROWS)

    def fill(self, model: TableModel) -> None:
        """Show the services that match the filter, those of the notebook's domain first."""
        selection = self._services.select()
        model.replace(self._rows(selection.services), more=selection.more)
        counts = selection.counts
        narrow = ["Narrow it with --type or --id to see others."] if selection.more else []
        scope = self._connection() if self.show_connection else [self.filter.domain or ALL_DOMAINS]
        model.head = Head(
            "Services",
            state_badge(self.fabric),
            [*scope, *(f"{counts[state]:,} {state}" for state in ServiceState if counts[state])],
            [*narrow, *self._services.notes()],
            empty="No service has announced itself yet. Services do so every few seconds.",
        )

    def _connection(self) -> list[str]:
        fabric = self.fabric
        return [fabric.uri, f"domain {fabric.domain}", f"this notebook: {fabric.name.local}"]

    def _clock_offset(self) -> float:
        """Return the Unix time of the registry clock's zero; constant, as the sum is shown."""
        epoch = time.time() - self.fabric.registry.now
        if abs(epoch - self._epoch) > CLOCK_TOLERANCE:
            self._epoch = epoch
        return self._epoch

    def _rows(
        self, services: Sequence[ServiceFacts]
    ) -> Iterator[tuple[ServiceName, list[Value], Detail]]:
        # Cached, because methods rarely change and rendering them takes most of the time.
        before, self._rendered = self._rendered, {}
        epoch, now = self._clock_offset(), self.fabric.registry.now
        if self._sparks_at != (step := int(now // STEP)):
            self._sparks_at = step
            self._sparks.clear()
        for facts in services:
            name, methods = facts.name, facts.methods
            description = self._descriptions.get(name)
            rendered = before.get(name)
            drainable = [one.id for one in facts.instances if one.drains and one.state in PRESENT]
            if (
                rendered is None
                or rendered.methods is not methods
                or rendered.description is not description
                or rendered.drainable != drainable
            ):
                detail = self._detail(name, methods, description, drainable)
                names = method_names(methods)
                rendered = _RenderedMethods(methods, description, drainable, names, detail)
            self._rendered[name] = rendered
            if not self.statistics:
                yield name, _row(facts, epoch, rendered.names), rendered.detail
                continue
            detail = rendered.detail
            if description is not None:  # it was opened
                statistics = statistics_text(facts.service, now)
                detail = replace(detail, text="\n\n".join(filter(None, (statistics, detail.text))))
            yield name, self._statistics_row(facts, now), detail

    def _statistics_row(self, facts: ServiceFacts, now: float) -> list[Value]:
        name = facts.name
        if (spark := self._sparks.get(name)) is None:
            spark = self._sparks[name] = Spark(facts.service.call_rates(now))
        queues = facts.service.queues(now)
        calls, errors, running, calls_s, errors_s, p95_ms = facts.statistics(now) or NO_STATISTICS
        return [
            name.seen_from(self.fabric.domain),
            service_badge(facts.state),
            facts.count,
            calls_s,
            spark,
            errors_s,
            p95_ms,
            running,
            calls,
            errors,
            None if queues is None else queues.waiting,
        ]

    # -- detail of a row

    def _detail(
        self,
        name: ServiceName,
        methods: Methods,
        description: Description | str | None,
        drainable: Sequence[str],
    ) -> Detail:
        if description is None:
            lines = [
                f"{method}{text}"
                for method, text in islice(methods.signatures.items(), MAX_SIGNATURES)
            ]
            if more := methods.more(MAX_SIGNATURES):
                lines.append(f"… and {counted(more, 'more method')}.")
            return Detail("\n".join(lines))
        error, docs = (description, {}) if isinstance(description, str) else ("", description)
        described = listed({method: doc.get("signature", "") for method, doc in docs.items()})
        signatures = {**methods.signatures, **described}
        address = name.seen_from(self.fabric.domain)
        drains = [_drain_form(address, instance) for instance in drainable[:MAX_DRAINABLE]]
        unknown = [] if any(signatures.values()) else [unknown_method_form(address)]
        return Detail(
            error,
            [*drains, *method_forms(address, signatures, docs), *unknown],
            more=max(0, len(signatures) - MAX_SIGNATURES),
        )

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

    def act(self, name: str, value: Any) -> FormCall:
        """Call the method of a form, whose answer is its result and duration."""
        return call_from_form(self.fabric, name, value if isinstance(value, dict) else {})


def _drain_form(address: str, instance: str) -> Form:
    return Form(
        f"{address}@{instance}.{DRAIN}",
        f"instance {instance}",
        "Drain it: it answers the calls that it has, takes no more, and leaves. True is the answer"
        " if it begins to.",
        submit="Drain",
    )


def _row(facts: ServiceFacts, epoch: float, methods: str) -> list[Value]:
    return [
        facts.name.domain,
        facts.name.type,
        facts.name.id,
        service_badge(facts.state),
        facts.version,
        facts.count,
        facts.last_seen + epoch,
        methods,
    ]


def method_names(methods: Methods) -> str:
    """Return the names of the first methods, and the number of others."""
    shown, more = ", ".join(islice(methods.signatures, MAX_METHODS)), methods.more(MAX_METHODS)
    return f"{shown}, … {more} more" if more else shown
